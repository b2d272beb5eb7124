"""A real Slurm cluster, which `bash tests/slurm/start_slurm.sh` starts; without one these tests are skipped."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.slurm.cluster import Cluster, environment
from tests.slurm.training import TRAINING
from tests.tiny_run import TINY_RUN, overrides, write_dataset

RUN_NET = str(REPOSITORY / "tools" / "run_net.py")
_IDLE = {"idle", "mix", "alloc"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test here needs the cluster."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.slurm)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The cluster, with two nodes; everything the tests submit is cancelled at the end."""
    found = _nodes()
    if len(found) < 2:
        reason = "no Slurm cluster of two nodes here: bash tests/slurm/start_slurm.sh starts one"
        if os.environ.get("REQUIRE_SLURM"):
            pytest.fail(reason)
        pytest.skip(reason)
    running = Cluster()
    yield running
    running.cancel_all()


@pytest.fixture(scope="session")
def dataset(tmp_path_factory) -> dict[str, str]:
    """Keys that name 24 training videos, 7 for the test, and all but these for a validation that lasts a while."""
    folder = tmp_path_factory.mktemp("videos")
    keys = write_dataset(folder, num_train=24, num_test=7)
    with (folder / "val.csv").open("a") as file:
        file.write((folder / "train.csv").read_text())
    return keys


@pytest.fixture(scope="session")
def keys(dataset):
    """From an OUTPUT_DIR and changed keys to the keys and values of a run, with loader workers alive."""

    def make(output: str, **changes: object) -> list[str]:
        return overrides(
            {
                **TINY_RUN,
                **dataset,
                "DATA.READER": "pyav",
                "DATA_LOADER.NUM_WORKERS": 1,
                "MODEL.DROPOUT_RATE": 0.3,
                "TRAIN.BATCH_SIZE": 8,
                "TRAIN.CHECKPOINT_STEPS": 2,
                "TRAIN.EVAL_PERIOD": 0,
                "LOG_PERIOD": 1,
                "OUTPUT_DIR": output,
                **{name.replace("__", "."): value for name, value in changes.items()},
            }
        )

    return make


@pytest.fixture(scope="session")
def config(tmp_path_factory) -> str:
    """An empty config: all is on the command line."""
    path = tmp_path_factory.mktemp("config") / "empty.yaml"
    path.write_text("")
    return str(path)


@pytest.fixture
def words(keys, tmp_path):
    """The same, with an output folder of the test's own."""
    return lambda output="run", **changes: keys(str(tmp_path / output), **changes)


@pytest.fixture
def training(words, config) -> Callable[..., list[str]]:
    """The command line of the training that is disturbed."""
    return lambda output, **changes: ["--cfg", config, *words(output, **{**TRAINING, **changes})]


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory, keys, config) -> Path:
    """Its output on one machine: torchrun with 4 processes."""
    output = tmp_path_factory.mktemp("torchrun")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=4"]
    done = subprocess.run(
        [
            *torchrun,
            RUN_NET,
            "--cfg",
            config,
            *keys(str(output), **TRAINING),
            "TEST.ENABLE",
            "False",
        ],
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return output


def _nodes() -> set[str]:
    """Nodes that can take jobs."""
    if shutil.which("sinfo") is None:
        return set()
    shown = subprocess.run(
        ["sinfo", "-h", "-N", "-o", "%N %t"], capture_output=True, text=True, timeout=20
    )
    lines = [line.split() for line in shown.stdout.splitlines()]
    return {name for name, state in lines if state in _IDLE}


def pytest_report_header() -> str:
    return f"slurm: {sorted(_nodes()) or 'none'} for {sys.executable}"
