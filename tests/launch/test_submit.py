"""tools/submit.py without a cluster: the sbatch file, what is refused, and the executors of one machine."""

from __future__ import annotations

import os
import re
import runpy
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from mvit_video.build import build_model
from mvit_video.config import load_config
from mvit_video.data.preprocessing import Preprocessing
from tests.conftest import REPOSITORY
from tests.run_processes import log_lines
from tests.tiny_run import TINY_RUN, overrides, write_dataset

EXPECTED = Path(__file__).with_name("expected") / "k400_16_nodes.sbatch"
SUBMIT = REPOSITORY / "tools" / "submit.py"
WRONG_INPUT = 2


@pytest.fixture(scope="session")
def dataset(tmp_path_factory) -> dict[str, str]:
    """Keys that name 12 training videos, 4 for validation and 4 for the test."""
    return write_dataset(tmp_path_factory.mktemp("videos"), num_train=12, num_test=4)


def submit(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SUBMIT), *words],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )


@pytest.fixture
def tiny(dataset, tmp_path) -> list[str]:
    """A tiny run's --cfg, keys and values."""
    config = tmp_path / "empty.yaml"
    config.write_text("")
    keys = {**TINY_RUN, **dataset, "DATA.READER": "pyav", "OUTPUT_DIR": str(tmp_path / "run")}
    return ["--cfg", str(config), *overrides(keys)]


def test_the_sbatch_file_of_16_nodes_with_8_gpus(dataset):
    done = submit(
        *("--cfg", "configs/K400/MVIT_B_16x4.yaml", "--nodes", "16", "--gpus-per-node", "8"),
        *("--cpus-per-task", "10", "--mem-gb", "400", "--timeout", "2880", "--partition", "gpu"),
        *("--account", "video", "--constraint", "a100|h100", "--comment", "the published recipe"),
        *("--train", "--dry-run", *overrides(dataset)),
        *("MODEL.NUM_CLASSES", "3", "TRAIN.BATCH_SIZE", "512", "OUTPUT_DIR", "/runs/b16"),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.replace(sys.executable, "PYTHON") == EXPECTED.read_text()
    assert not Path("/runs").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--timeout", "1-00:00:00"], "'1-00:00:00' is no whole number"),
        (["--nodes", "0"], "'0' is no whole number above 0"),
        (["--timeout", "2", "--signal-delay", "120"], "no shorter than --timeout 2 minutes"),
        (["--cluster", "local", "--nodes", "2"], "this machine alone"),
        (["--cluster", "local", "--dry-run"], "without --cluster slurm there are none"),
        (["--nodes", "5"], "does not divide evenly among 5 processes"),
        (["--nodez", "5"], "unknown option --nodez"),
        (["--shards", "3", "--only-shards", "4"], "from 1 to --shards"),
        (["--shards", "3", "--only-shards", "0"], "'0' is no whole number above 0"),
        (["--only-shards", "1"], "from 1 to --shards"),
        (["--sweep", "RNG_SEED=1,1"], "twice"),
        (["--comment", "two\nlines"], "one line"),
        (["--partition", ""], "one line"),
        (["--shards", "2", "--test"], "no weights to test"),
        (["--shards", "2", "--train"], "leave out --train"),
        (["--sweep", "RNG_SEED"], "write KEY=VALUE,VALUE"),
        (["SOLVER.BASE_LRR", "1"], "did you mean SOLVER.BASE_LR"),
        (["--cfg", "nowhere.yaml"], "nowhere.yaml"),
        (["--cluster", "debug", "--job-dir", "/dev/null/%j"], "--job-dir say where they go"),
    ],
)
def test_mistakes_are_refused_before_anything_is_written(
    tiny, tmp_path, words, message, monkeypatch, capsys
):
    monkeypatch.setattr(sys, "argv", [str(SUBMIT), *tiny, *words])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(SUBMIT), run_name="__main__")
    told = capsys.readouterr().err
    assert ended.value.code == WRONG_INPUT, told
    assert told.startswith("error: ")
    assert message in told
    assert not (tmp_path / "run").exists()


def test_shards_are_an_array_after_the_training_and_take_a_share_of_a_node(tiny, tmp_path):
    asked = ("--gpus-per-node=2", "--mem-gb=64", "--shards=3", "--dry-run")
    done = submit(*tiny, *asked)
    assert done.returncode == 0, done.stderr
    train, shards, merge = done.stdout.split("#!/bin/bash")[1:]
    assert "--gpus-per-node=2" in train and "--mem=64GB" in train
    assert "--gpus-per-node=1" in shards and "--mem=32GB" in shards
    assert "--array=0-2%3" in shards and "--dependency=afterok" in shards
    assert "--gpus-per-node" not in merge and "--dependency=afterany" in merge
    assert not (tmp_path / "run").exists()


def commands_of(page: Path) -> list[list[str]]:
    """The words of each tools/submit.py command that a page shows whole."""
    text = page.read_text().replace("\\\n", " ")
    lines = re.findall(r"^python tools/submit.py (.+)$", text, re.MULTILINE)
    return [shlex.split(line) for line in lines if not line.startswith("...")]


@pytest.mark.parametrize("words", commands_of(REPOSITORY / "docs" / "slurm.md"), ids=len)
def test_the_commands_of_the_documentation_are_right(predict, words, monkeypatch, capsys):
    videos, weights = predict[1], predict[5]
    here = {"videos.txt": videos, "best.pt": weights, "100": "4"}
    here["lists"] = f"{Path(videos).parent} MODEL.NUM_CLASSES 3"
    words = " ".join(here.get(word, word) for word in words).split()
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setattr(sys, "argv", [str(SUBMIT), "--dry-run", *words])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(SUBMIT), run_name="__main__")
    told = capsys.readouterr()
    assert ended.value.code == 0, told.err
    assert told.out.count("#!/bin/bash") == 2  # train and test, or shards and what merges them


@pytest.fixture
def predict(tiny, tmp_path) -> list[str]:
    """A prediction's words, for weights that were never trained."""
    weights, cfg = tmp_path / "weights.pt", load_config(None, tiny[2:])
    torch.save(native_checkpoint(cfg), weights)
    folder = tiny[tiny.index("DATA.PATH_TO_DATA_DIR") + 1]
    return [
        *("--predict", f"{folder}/test.csv", "--prefix", folder),
        *("--checkpoint", str(weights), "--json", str(tmp_path / "run" / "results.jsonl")),
    ]


def native_checkpoint(cfg) -> dict[str, object]:
    """What a training saves, as far as predicting needs it."""
    model, preprocessing = build_model(cfg), Preprocessing.from_config(cfg)
    state = {"format": 1, "model": model.state_dict(), "ema": None, "config": cfg.dump()}
    return {**state, "preprocessing": preprocessing.to_dict()}


def test_a_prediction_is_an_array_and_a_job_that_merges(predict, tmp_path):
    done = submit("--shards=4", "--gpus-per-node=1", "--dry-run", *predict)
    assert done.returncode == 0, done.stderr
    shards, merge = done.stdout.split("#!/bin/bash")[1:]
    assert "--array=0-3%4" in shards and "--gpus-per-node=1" in shards
    assert "--gpus-per-node" not in merge and "--dependency=afterany" in merge
    assert f"--output={tmp_path}/run/jobs/%A_%a/" in shards
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (["--shards", "5"], [], "--shards 5 of 4 inputs"),
        (["--shards", "2", "--only-shards", "3"], [], "from 1 to --shards"),
        (["--cluster", "local"], [], "use tools/predict.py"),
        (["--train"], [], "--train before --predict has no meaning"),
        (["RNG_SEED", "1"], [], "RNG_SEED, 1 before --predict has no meaning"),
        ([], ["--json", ""], "--predict takes --json FILE"),
        ([], ["--checkpoint", "nowhere.pt"], "nowhere.pt"),
        ([], ["--topkk", "3"], "--topkk"),
        ([], ["nowhere.mp4"], "nowhere.mp4"),
    ],
)
def test_mistakes_in_a_prediction_are_refused(
    predict, tmp_path, before, after, message, monkeypatch, capsys
):
    monkeypatch.setattr(sys, "argv", [str(SUBMIT), *before, *predict, *after])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(SUBMIT), run_name="__main__")
    told = capsys.readouterr().err
    assert ended.value.code == WRONG_INPUT, told
    assert told.startswith("error: ")
    assert message in told
    assert not (tmp_path / "run").exists()


def test_a_local_job_runs_the_code_as_it_was_and_leaves_a_record(tiny, tmp_path):
    done = submit(*tiny, "--cluster", "local", "--cpus-per-task", "1", "SOLVER.MAX_EPOCH", "1")
    assert done.returncode == 0, done.stderr
    run = tmp_path / "run"
    deadline = time.monotonic() + 90
    while not list(run.glob("jobs/*/*_0_result.pkl")):
        assert time.monotonic() < deadline, next(run.glob("jobs/*/*.out")).read_text()
        time.sleep(0.2)
    assert log_lines(run, "end")
    assert (run / "test" / "metrics.json").exists()
    (job,) = (path for path in run.glob("jobs/*") if path.name.isdecimal())
    assert f"job {job.name} " in done.stdout
    assert load_config(job / "config.yaml").SOLVER.MAX_EPOCH == 1
    assert "--cluster local" in (job / "command.txt").read_text()
    assert (job / "git.txt").read_text() and (job / "git.diff").exists()
    assert (job / "code" / "mvit_video" / "launch" / "job.py").exists()
    assert (job / "code" / "configs").is_dir()


def test_debug_runs_here_and_gives_the_exit_code(tiny, tmp_path):
    done = submit(*tiny, "--cluster", "debug", "SOLVER.MAX_EPOCH", "1")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "test" / "metrics.json").exists()
