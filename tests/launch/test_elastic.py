"""Elastic torchrun: a machine leaves, the others go on with the same global batch."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.run_processes import last_step, log_lines
from tests.tiny_run import TINY_RUN, overrides, write_dataset

RUN_NET = str(REPOSITORY / "tools" / "run_net.py")
EPOCHS, STEPS_PER_EPOCH = 20, 3


@pytest.fixture
def words(tmp_path) -> list[str]:
    """A run with checkpoints often enough to lose little."""
    keys = {**TINY_RUN, **write_dataset(tmp_path / "videos", num_test=4), "DATA.READER": "pyav"}
    keys |= {"TRAIN.BATCH_SIZE": 4, "TRAIN.EVAL_PERIOD": 0, "LOG_PERIOD": 1, "TEST.ENABLE": False}
    keys |= {"TRAIN.CHECKPOINT_STEPS": 2, "SOLVER.MAX_EPOCH": EPOCHS}
    return overrides({**keys, "OUTPUT_DIR": tmp_path / "run"})


def start_machine(words: list[str], port: int, log: Path) -> subprocess.Popen[bytes]:
    """torchrun's agent of one machine with one process, in a process group of its own."""
    config = log.with_name("empty.yaml")
    config.write_text("")
    patience = "last_call_timeout=2,keep_alive_interval=1,keep_alive_max_attempt=2"
    with log.open("wb") as file:
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "torch.distributed.run", "--nnodes=1:2"),
                *("--nproc-per-node=1", "--max-restarts=3", "--rdzv-backend=c10d"),
                *(f"--rdzv-endpoint=127.0.0.1:{port}", f"--rdzv-conf={patience}"),
                *(RUN_NET, "--cfg", str(config), *words),
            ],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.slow
def test_a_machine_leaves_and_the_global_batch_stays(words, tmp_path):
    port, output = free_port(), tmp_path / "run"
    machines = []
    try:
        for number in range(2):
            machines.append(start_machine(words, port, tmp_path / f"machine{number}.txt"))
            time.sleep(1)  # the first holds the store
        deadline = time.monotonic() + 120
        while not (log_lines(output, "start") and last_step(output) >= 4):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.killpg(machines[1].pid, signal.SIGKILL)
        told = tmp_path / "machine0.txt"
        assert machines[0].wait(120) == 0, told.read_text()
    finally:
        for machine in machines:
            if machine.poll() is None:
                os.killpg(machine.pid, signal.SIGKILL)
    begun = log_lines(output, "start", "resume")
    assert [line["world_size"] for line in begun] == [2, 1]
    assert "SOLVER.ACCUMULATE_STEPS is 2" in told.read_text()
    steps = [line["step"] for line in log_lines(output, "step")]
    assert steps == list(range(1, EPOCHS * STEPS_PER_EPOCH + 1))
