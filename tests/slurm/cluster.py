"""Submitting to the cluster as a person does, and looking at what became of the jobs."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tests.conftest import REPOSITORY

SUBMIT = REPOSITORY / "tools" / "submit.py"
_ENDED = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "DEADLINE"}
_TIMEOUT = 150.0


class Cluster:
    """Jobs of one test session."""

    def __init__(self) -> None:
        self.jobs: list[str] = []

    def submit(self, *words: str, expect: int = 0, **variables: str) -> Submitted:
        """Runs tools/submit.py, with more environment variables."""
        done = subprocess.run(
            [sys.executable, str(SUBMIT), *words],
            capture_output=True,
            text=True,
            env={**environment(), **variables},
        )
        assert done.returncode == expect, done.stdout + done.stderr
        submitted = Submitted(done.stdout, done.stderr)
        self.jobs += submitted.jobs
        return submitted

    def state(self, job: str) -> str:
        """Of a job or array element, as the controller tells it."""
        shown = call("scontrol", "-o", "show", "job", job)
        return re.search(r"JobState=(\w+)", shown)[1]

    def restarts(self, job: str) -> int:
        """How often it was requeued."""
        return int(re.search(r"Restarts=(\d+)", call("scontrol", "-o", "show", "job", job))[1])

    def exit_code(self, job: str) -> int:
        """Of a job that has ended."""
        return int(re.search(r" ExitCode=(\d+):", call("scontrol", "-o", "show", "job", job))[1])

    def wait(self, job: str, seconds: float = _TIMEOUT) -> str:
        """Until a job has ended; returns its state."""
        self.wait_until(lambda: self.state(job) in _ENDED, job, seconds)
        return self.state(job)

    def wait_until(
        self,
        condition: Callable[[], bool],
        what: str,
        seconds: float = _TIMEOUT,
        poll: float = 0.5,
    ) -> None:
        """Looks every `poll` seconds."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"{what}\n{call('squeue', '-a')}"
            time.sleep(poll)

    @contextlib.contextmanager
    def node_down(self, number: int) -> Iterator[None]:
        """The daemon of a node is killed, and started again at the end."""
        folder = Path(os.environ.get("SLURM_CI_DIR", "/var/tmp/slurm-ci"))
        pid = int((folder / "run" / f"slurmd-node{number}.pid").read_text())
        os.kill(pid, signal.SIGKILL)
        try:
            yield
        finally:
            call("bash", str(Path(__file__).with_name("start_slurm.sh")), "node", str(number))

    def cancel_all(self) -> None:
        if self.jobs:
            subprocess.run(["scancel", *self.jobs], capture_output=True)


def task_of(job: str, rank: int) -> int:
    """Process id of a task. All nodes are on this machine."""
    for environ in Path("/proc").glob("[0-9]*/environ"):
        try:
            variables = environ.read_bytes().split(b"\0")
            command = environ.with_name("cmdline").read_bytes()
            parent = environ.with_name("stat").read_text().rsplit(")", 1)[1].split()[1]
            above = Path(f"/proc/{parent}/comm").read_text()
        except OSError:
            continue
        wanted = {f"SLURM_JOB_ID={job}".encode(), f"SLURM_PROCID={rank}".encode()}
        if b"submitit" in command and wanted <= set(variables) and "slurmstepd" in above:
            return int(environ.parent.name)
    raise AssertionError(f"job {job} has no task {rank}")


class Submitted:
    """What tools/submit.py has told."""

    def __init__(self, out: str, err: str) -> None:
        self.out, self.err = out, err
        self.jobs: list[str] = re.findall(r"^job (\d+) \(", out, re.MULTILINE)

    @property
    def folder(self) -> Path:
        """Where the submission's files lie."""
        log = Path(re.search(r"^  log +(\S+)", self.out, re.MULTILINE)[1])
        return (log.parent / "code").resolve().parent


def environment() -> dict[str, str]:
    """Of the commands that the tests start."""
    return {
        **os.environ,
        "PYTHONPATH": str(REPOSITORY),
        "OMP_NUM_THREADS": "1",
        "TORCH_CPP_LOG_LEVEL": "ERROR",
    }


def call(*command: str) -> str:
    """Output of a command that must succeed."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def logs(folder: Path, job: str) -> str:
    """All that a job's tasks have written."""
    return "\n".join(path.read_text() for path in _sorted(folder.glob(f"{job}*/*.out")))


def _sorted(paths: Sequence[Path]) -> list[Path]:
    return sorted(paths, key=lambda path: path.name)
