"""Jobs of --cluster local and debug that are stopped: by their time limit, from the terminal, or by a person."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mvit_video.config import load_config
from mvit_video.launch import run
from tests.conftest import REPOSITORY
from tests.run_processes import has_been_sent, held, last_step, log_lines
from tests.tiny_run import TINY_RUN, overrides, write_dataset
from tests.train.test_resume import differences, final_state

SUBMIT = str(REPOSITORY / "tools" / "submit.py")
STOPPED = 75
EPOCHS = 60
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc"),
]


@pytest.fixture
def words(tmp_path) -> Callable[..., list[str]]:
    """Keys and values of a run of 3 updates an epoch."""
    keys = {**TINY_RUN, **write_dataset(tmp_path / "videos", num_test=4), "DATA.READER": "pyav"}
    keys |= {"TRAIN.BATCH_SIZE": 4, "TRAIN.EVAL_PERIOD": 0, "LOG_PERIOD": 1, "TEST.ENABLE": False}
    keys |= {"DATA_LOADER.NUM_WORKERS": 1, "MODEL.DROPOUT_RATE": 0.3, "SOLVER.MAX_EPOCH": EPOCHS}
    return lambda output: overrides({**keys, "OUTPUT_DIR": tmp_path / output})


def start(words: list[str], *options: str) -> subprocess.Popen[str]:
    """tools/submit.py as from a terminal, in a process group of its own."""
    config = Path(words[words.index("OUTPUT_DIR") + 1]).parent / "empty.yaml"
    config.write_text("")
    return subprocess.Popen(
        [sys.executable, SUBMIT, "--cfg", str(config), *options, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )


def submitted(words: list[str], *options: str) -> str:
    """What the command has told."""
    process = start(words, "--cluster", "local", *options)
    told, _ = process.communicate()
    assert process.returncode == 0, told
    return told


def log_of(told: str) -> Path:
    return Path(re.search(r"^  log +(\S+)", told, re.MULTILINE)[1])


def task_of(told: str) -> int | None:
    """Process id of the job's task, None once the job is over: the job is a shell, below it submitit's controller."""
    above = int(re.search(r"^job (\d+) ", told, re.MULTILINE)[1])
    for _ in range(2):
        try:
            (above,) = map(int, Path(f"/proc/{above}/task/{above}/children").read_text().split())
        except (FileNotFoundError, ValueError):
            return None
    return above


def wait_until(condition: Callable[[], object], seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def wait_for_start(output: Path, number: int) -> None:
    wait_until(lambda: len(log_lines(output, "start", "resume")) >= number)
    wait_until(lambda: last_step(output) > log_lines(output, "start", "resume")[-1]["step"])


def test_the_time_limit_is_kept_and_counted_and_the_same_command_goes_on(words, tmp_path):
    assert run(load_config(None, words("undisturbed"))) == 0
    output = tmp_path / "run"
    told = submitted(words("run"), "--timeout=1", "--signal-delay=40", "--max-timeouts=1")
    for number in (1, 2):
        wait_for_start(output, number)
        task = task_of(told)
        with held(task, lambda: last_step(output) % 3 == 2):
            wait_until(lambda pid=task: has_been_sent(pid, signal.SIGUSR2), 60)
        wait_until(lambda n=number: len(log_lines(output, "stop")) == n)
    wait_until(lambda: task_of(told) is None)
    log = log_of(told).read_text()
    assert "(0 remaining timeouts)" in log
    assert "stopped after saving: Job not requeued because: timed-out too many times" in log
    assert "Traceback" not in log
    again = submitted(words("run"))
    wait_until(lambda: log_lines(output, "end"))
    wait_until(lambda: task_of(again) is None)
    assert not differences(final_state(tmp_path / "undisturbed"), final_state(output))
    assert [line["step"] for line in log_lines(output, "step")] == list(range(1, 3 * EPOCHS + 1))


def test_ctrl_c_ends_the_following_and_the_printed_command_the_job(words, tmp_path):
    long = [*words("run"), "SOLVER.MAX_EPOCH", "10000"]
    following = start(long, "--cluster", "local", "--follow")
    wait_for_start(tmp_path / "run", 1)
    os.killpg(following.pid, signal.SIGINT)
    told, _ = following.communicate(timeout=30)
    assert following.returncode == 130
    assert "no longer following" in told and "Traceback" not in told
    before = last_step(tmp_path / "run")
    wait_until(lambda: last_step(tmp_path / "run") > before + 3)
    subprocess.run(shlex.split(re.search(r"^  cancel +(.+)$", told, re.MULTILINE)[1]), check=True)
    wait_until(lambda: task_of(told) is None, 20)
    (stop,) = log_lines(tmp_path / "run", "stop")
    assert (tmp_path / "run" / "checkpoints" / f"step_{stop['step']:08d}.pt").exists()
    assert "stopped after saving: told to end" in log_of(told).read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2])
def test_a_debug_job_saves_and_is_over(words, tmp_path, number):
    process = start([*words("run"), "SOLVER.MAX_EPOCH", "10000"], "--cluster", "debug")
    wait_for_start(tmp_path / "run", 1)
    process.send_signal(number)
    told, _ = process.communicate(timeout=60)
    assert process.returncode == STOPPED, told
    assert "stopped after saving" in told and "Traceback" not in told
    assert last_step(tmp_path / "run") == log_lines(tmp_path / "run", "stop")[0]["step"]
