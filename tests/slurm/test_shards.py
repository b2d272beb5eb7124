"""A test as an array of parts, one of which is lost and run again alone; and sweeps."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.conftest import REPOSITORY
from tests.run_processes import held
from tests.slurm.cluster import call, environment, logs, task_of
from tests.slurm.training import STEPS

PREDICT = str(REPOSITORY / "tools" / "predict.py")
SOME_FAILED = 1

ONE = ("--cpus-per-task=1", "--timeout=5", "--signal-delay=60")


def test_a_lost_shard_is_named_and_run_again_alone(cluster, words, config, tmp_path):
    run = tmp_path / "run"
    keys = [*words("run", SOLVER__MAX_EPOCH=1)]
    whole = subprocess.run(
        [sys.executable, str(REPOSITORY / "tools" / "run_net.py"), "--cfg", config, *keys],
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert whole.returncode == 0, whole.stderr
    predictions, metrics = (run / "test" / name for name in ("predictions.npz", "metrics.json"))
    expected = predictions.read_bytes()
    predictions.unlink()
    metrics.unlink()
    # A folder where the part's temporary file would be: this shard cannot write.
    obstacle = run / "test" / ".predictions-00002-of-00003.npz.tmp"
    obstacle.mkdir()
    command = ("--cfg", config, *keys, "--test", "--shards=3", *ONE, "--max-failures=0")
    told = cluster.submit(*command)
    shards, merge = told.jobs
    assert cluster.wait(merge) == "FAILED"
    assert [cluster.state(f"{shards}_{i}") for i in range(3)] == [
        "COMPLETED",
        "FAILED",
        "COMPLETED",
    ]
    log = logs(run / "jobs", merge)
    assert "part 2 of 3 is not in" in log
    assert "--only-shards" in log
    assert not predictions.exists()
    obstacle.rmdir()
    told = cluster.submit(*command, "--only-shards=2")
    again, merge = told.jobs
    assert cluster.wait(merge) == "COMPLETED", logs(run / "jobs", merge)
    assert cluster.state(again) == "COMPLETED"
    assert predictions.read_bytes() == expected
    assert metrics.exists()
    assert sorted(path.name for path in (run / "test").iterdir()) == [
        "config.yaml",
        "environment.json",
        "metrics.json",
        "predictions.npz",
    ]


def num_lines(results: Path) -> int:
    return results.read_bytes().count(b"\n") if results.is_file() else 0


def test_predictions_in_shards_are_those_of_one_process_also_when_stopped(
    cluster, undisturbed, dataset, tmp_path
):
    weights = str(undisturbed / "checkpoints" / f"step_{STEPS:08d}.pt")
    videos = Path(dataset["DATA.PATH_TO_DATA_DIR"]) / "test.csv"
    more = videos.with_name("train.csv").read_text() + "nowhere.mp4 0\n"
    (tmp_path / "bad.csv").write_text(videos.read_text() + more)
    asked = (str(tmp_path / "bad.csv"), "--prefix", str(videos.parent), "--checkpoint", weights)
    asked = (*asked, "--views=20x3", "--workers=1")
    alone = subprocess.run(
        [sys.executable, PREDICT, *asked, "--json", str(tmp_path / "alone.jsonl")],
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert alone.returncode == SOME_FAILED, alone.stderr
    # A folder where the results of a shard would be.
    obstacle = tmp_path / "shards.2-of-3.jsonl"
    obstacle.mkdir()
    results = ("--predict", *asked, "--json", str(tmp_path / "shards.jsonl"))
    shards, merge = cluster.submit("--shards=3", *ONE, *results).jobs
    assert cluster.wait(merge) == "FAILED"
    assert [cluster.state(f"{shards}_{i}") for i in range(3)] == [
        "COMPLETED",
        "FAILED",
        "COMPLETED",
    ]
    log = logs(tmp_path / "jobs", merge)
    assert "Run shard 2 of 3 again" in log and "--only-shards" in log
    assert not (tmp_path / "shards.jsonl").exists()
    obstacle.rmdir()
    again, merge = cluster.submit("--shards=3", "--only-shards=2", *ONE, *results).jobs
    some_done = lambda: 0 < num_lines(obstacle) < 9  # noqa: E731
    cluster.wait_until(some_done, "some results of shard 2", poll=0.005)
    with held(task_of(again, 0), some_done):
        call("scancel", "--signal=USR2", again)
    assert cluster.wait(merge) == "COMPLETED", logs(tmp_path / "jobs", merge)
    assert cluster.restarts(again) == 1
    assert "requeued 1 times so far" in logs(tmp_path / "jobs", again)
    files = [tmp_path / name for name in ("alone.jsonl", "shards.jsonl")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_sweep_is_one_array_and_is_followed(cluster, words, config, tmp_path):
    keys = words("run", SOLVER__MAX_EPOCH=1)
    sweep = ("--sweep", "RNG_SEED=1,2", "--train", "--follow")
    told = cluster.submit("--cfg", config, *keys, *ONE, *sweep)
    (array,) = told.jobs
    assert "  1/1 |" in told.out  # the row of an epoch
    for number in (0, 1):
        assert cluster.wait(f"{array}_{number}") == "COMPLETED", told.out
    for seed in (1, 2):
        assert (tmp_path / "run" / f"RNG_SEED={seed}" / "checkpoints" / "step_00000003.pt").exists()
