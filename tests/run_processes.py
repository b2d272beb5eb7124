"""Runs in processes of their own, which tests may kill.

They are forked from a server that has torch loaded, so that each starts in a fraction of a second.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch.distributed as dist

_CONTEXT = multiprocessing.get_context("forkserver")
# torch imports _dynamo for the first optimiser, the readers import av when they open a file.
_CONTEXT.set_forkserver_preload(["mvit_video.launch.phases", "torch._dynamo", "av"])
_TIMEOUT = 120.0


def _run(
    words: Sequence[str], environment: dict[str, str], stderr: str, before: Callable[[], None]
) -> None:
    from mvit_video.config import load_config
    from mvit_video.launch import run
    from mvit_video.launch.cli import run_tool

    log = os.open(stderr, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ.update(environment)
    before()
    multiprocessing.set_start_method(None, force=True)  # loader workers start as they do elsewhere
    sys.exit(run_tool(lambda: run(load_config(None, words))))


class Run:
    """A run of a config over 1 or more ranks, as torchrun would start them.

    Args:
        words: of the command line.
        before: called in each rank before all else; a function of a module.
    """

    def __init__(
        self, words: Sequence[str], ranks: int = 1, before: Callable[[], None] = bool
    ) -> None:
        self.output = Path(words[list(words).index("OUTPUT_DIR") + 1])
        self.output.mkdir(parents=True, exist_ok=True)
        self._store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        self.processes: list[BaseProcess] = []
        for rank in range(ranks):
            environment = self._environment(rank, ranks) if ranks > 1 else {}
            arguments = (list(words), environment, str(self.output / "stderr.txt"), before)
            self.processes.append(_CONTEXT.Process(target=_run, args=arguments, daemon=False))
            self.processes[-1].start()

    def _environment(self, rank: int, ranks: int) -> dict[str, str]:
        return {
            "RANK": str(rank),
            "WORLD_SIZE": str(ranks),
            "LOCAL_RANK": str(rank),
            "LOCAL_WORLD_SIZE": str(ranks),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(self._store.port),
            "TORCHELASTIC_USE_AGENT_STORE": "True",  # the store is ours, as it is torchrun's
        }

    def wait_for_step(self, step: int) -> None:
        """Until the log shows `step` updates."""
        deadline = time.monotonic() + _TIMEOUT
        while last_step(self.output) < step:
            assert any(process.is_alive() for process in self.processes), self.told()
            assert time.monotonic() < deadline, self.told()
            time.sleep(0.002)

    def send(self, number: signal.Signals, *ranks: int) -> None:
        """Sends a signal to some ranks, or to all."""
        for rank in ranks or range(len(self.processes)):
            os.kill(self.processes[rank].pid, number)

    def kill_at_step(self, step: int, delay: float = 0.0) -> None:
        """Kills every rank `delay` seconds after the log shows `step` updates. Loader workers may live on for some."""
        self.wait_for_step(step)
        time.sleep(delay)
        self.send(signal.SIGKILL)
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                while True:
                    os.kill(process.pid, 0)
                    time.sleep(0.002)

    def wait(self) -> list[int]:
        """The exit codes."""
        for process in self.processes:
            process.join(_TIMEOUT)
            if process.is_alive():
                process.kill()
                process.join()
        return [process.exitcode for process in self.processes]

    def told(self) -> str:
        """What all runs in this OUTPUT_DIR have printed."""
        return (self.output / "stderr.txt").read_text()


def log_lines(output: Path, *kinds: str) -> list[dict[str, Any]]:
    """The whole lines of a run's log, of some kinds or of all."""
    path = output / "log.jsonl"
    if not path.exists():
        return []
    lines = [json.loads(line) for line in path.read_text().splitlines(True) if line.endswith("\n")]
    return [line for line in lines if not kinds or line["kind"] in kinds]


def last_step(output: Path) -> int:
    """The newest step in a run's log."""
    return max((line["step"] for line in log_lines(output, "step")), default=0)


@contextlib.contextmanager
def held(pid: int, moment: Callable[[], bool]) -> Iterator[None]:
    """A process stands still (SIGSTOP) at a `moment` that it would pass quickly, for as long as the block lasts."""
    deadline = time.monotonic() + _TIMEOUT
    while True:
        assert time.monotonic() < deadline, "the moment has not come"
        if not moment():
            time.sleep(0.005)
            continue
        os.kill(pid, signal.SIGSTOP)
        while _status(pid, "State") not in "Tt":
            time.sleep(0.001)
        if moment():
            break
        os.kill(pid, signal.SIGCONT)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def has_been_sent(pid: int, number: signal.Signals) -> bool:
    """Whether a signal waits for a process that is held, or has had its way already."""
    try:
        held = _status(pid, "State") in "Tt"
        return not held or bool(int(_status(pid, "ShdPnd"), 16) >> (number - 1) & 1)
    except FileNotFoundError:
        return True


def _status(pid: int, name: str) -> str:
    text = Path(f"/proc/{pid}/status").read_text()
    return re.search(rf"^{name}:\s*(\S+)", text, re.MULTILINE)[1]
