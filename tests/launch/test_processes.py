"""Runs over several processes: the same bits however they start, one message when they fail, nobody left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from mvit_video.config import load_config
from mvit_video.errors import InputError
from mvit_video.launch import run
from mvit_video.train.checkpoint import (
    checkpoint_files,
    checkpoints_folder,
    read_training_checkpoint,
)
from tests.conftest import REPOSITORY
from tests.run_processes import Run, last_step, log_lines
from tests.tiny_run import TINY_RUN, overrides, write_dataset

RUN_NET = str(REPOSITORY / "tools" / "run_net.py")


@pytest.fixture(scope="session")
def dataset(tmp_path_factory) -> dict[str, str]:
    """Keys that name 12 training videos, 4 for validation and 4 for the test."""
    return write_dataset(tmp_path_factory.mktemp("videos"), num_train=12, num_test=4)


@pytest.fixture
def words(dataset, tmp_path):
    """From changed keys to the command line of a run of 2 epochs of 3 updates."""

    def make(output: str, **changes: object) -> list[str]:
        keys = {
            **TINY_RUN,
            **dataset,
            "DATA.READER": "pyav",
            "MODEL.DROPOUT_RATE": 0.3,
            "TRAIN.BATCH_SIZE": 4,
            "LOG_PERIOD": 1,
            "OUTPUT_DIR": str(tmp_path / output),
            **{name.replace("__", "."): value for name, value in changes.items()},
        }
        return overrides(keys)

    return make


@pytest.fixture
def config(tmp_path) -> str:
    path = tmp_path / "empty.yaml"
    path.write_text("")
    return str(path)


def weights(output: Path) -> dict[str, torch.Tensor]:
    return read_training_checkpoint(checkpoint_files(checkpoints_folder(output))[-1])["model"]


def test_spawned_and_torchrun_give_the_same_bits(words, config, tmp_path):
    assert run(load_config(None, words("spawned", NUM_GPUS=2))) == 0
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*torchrun, RUN_NET, "--cfg", config, *words("torchrun")],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    a, b = weights(tmp_path / "spawned"), weights(tmp_path / "torchrun")
    assert all(torch.equal(a[name], b[name]) for name in a)
    predictions = [
        (tmp_path / name / "test" / "predictions.npz").read_bytes()
        for name in ("spawned", "torchrun")
    ]
    assert predictions[0] == predictions[1]


def test_wrong_input_in_the_ranks_is_one_message(words):
    # A batch that does not divide is found by every rank, and only there.
    with pytest.raises(InputError, match="does not divide evenly among 2 ranks"):
        run(load_config(None, words("run", NUM_GPUS=2, TRAIN__BATCH_SIZE=3)))


def children(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        found += [int(child) for child in task.read_text().split()]
    return [child for child in found if is_rank(child)]


def is_rank(pid: int) -> bool:
    """Or a loader worker, which has the command line of its rank; not one of multiprocessing's own helpers."""
    return "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text()


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until(condition, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def start(words, tmp_path):
    """start() begins or goes on with a long run of two spawned ranks; gives it, and its ranks, once they train."""
    changes = {"DATA_LOADER__NUM_WORKERS": 1, "SOLVER__MAX_EPOCH": 1000, "TRAIN__EVAL_PERIOD": 0}
    keys = words("run", NUM_GPUS=2, **changes)

    def make() -> tuple[Run, list[int]]:
        before = len(log_lines(tmp_path / "run", "start", "resume"))
        run = Run(keys)
        wait_until(lambda: len(log_lines(run.output, "start", "resume")) > before)
        run.wait_for_step(last_step(run.output) + 1)
        return run, children(run.processes[0].pid)

    return make


looks_into_proc = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@looks_into_proc
def test_nobody_is_left_of_a_killed_run(start):
    run, ranks = start()
    workers = [worker for rank in ranks for worker in children(rank)]
    assert (len(ranks), len(workers)) == (2, 2)
    run.send(signal.SIGKILL)
    wait_until(lambda: not any(is_running(pid) for pid in (*ranks, *workers)), 3.0)


@looks_into_proc
@pytest.mark.slow
def test_a_rank_that_is_killed_is_named_and_ends_the_others(start):
    run, ranks = start()
    os.kill(ranks[1], signal.SIGKILL)
    assert run.wait()[0] not in (0, 2, 75)
    assert "rank 1 was killed by SIGKILL" in run.told()
    assert not any(is_running(pid) for pid in ranks)


@looks_into_proc
@pytest.mark.slow
def test_sigterm_is_passed_on_to_the_ranks(start):
    run, _ = start()
    run.send(signal.SIGTERM)
    assert run.wait() == [75], run.told()
    newest = checkpoint_files(checkpoints_folder(run.output))[-1]
    assert read_training_checkpoint(newest)["progress"]["step"] == last_step(run.output)


def test_torchrun_ranks_that_find_wrong_input_exit_with_2(words):
    run = Run(
        words("run", SOLVER__WARMUP_EPOCHS=0, TRAIN__CHECKPOINT_FILE_PATH="nowhere.pt"), ranks=2
    )
    assert run.wait() == [2, 2], run.told()
    assert "Traceback" not in run.told()
    assert "nowhere.pt" in run.told()
