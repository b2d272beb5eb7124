"""The ranks of a run on one machine, started and watched by this process.

They meet through a store that this process holds, on a port that the system gave it. Signals are passed on;
when one rank fails the others are ended, and what went wrong first is told once; when this process is killed,
they go with it.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import NamedTuple

import torch.distributed as dist
from fvcore.common.config import CfgNode

from mvit_video.errors import InputError
from mvit_video.launch.place import TIMEOUT, Place
from mvit_video.launch.rank import run_rank
from mvit_video.launch.stop import StopFlag, let_signals_in, signals_held_back
from mvit_video.processes import die_with_parent

_HOST = "127.0.0.1"
_POLL_SECONDS = 0.2
_LONGEST_TRACE = 20_000  # characters; a pipe that nobody reads yet holds 64 KiB
_FAREWELL_SECONDS = 5.0  # after one rank has failed, for the others to say what they saw


class RankFailed(RuntimeError):
    """A process of the run has failed, through no fault of the input."""


class Report(NamedTuple):
    """How a rank ended: with an exit code, or an error.

    Attributes:
        when: monotonic clock of the machine, to tell the first error from those that follow from it.
        exit_code: of the run, if it ended well.
        input_error: message of an InputError.
        trace: traceback of any other error.
    """

    when: float
    exit_code: int | None = None
    input_error: str = ""
    trace: str = ""


def spawn(cfg: CfgNode, size: int, stop: StopFlag) -> int:
    """Runs `cfg` in `size` processes; returns the run's exit code.

    Raises:
        InputError: one of them found wrong input.
        RankFailed: one of them failed otherwise; its traceback or the signal that killed it.
    """
    store = dist.TCPStore(_HOST, 0, is_master=True, wait_for_workers=False)
    context = multiprocessing.get_context("spawn")
    # torch's C++ parts tell their errors only: DDP would warn in every rank of a choice made on purpose.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    ranks: list[BaseProcess] = []
    pipes: list[Connection] = []
    try:
        with signals_held_back():  # until each rank has its own StopFlag
            for rank in range(size):
                place = Place(rank, size, rank, size)
                receiver, sender = context.Pipe(duplex=False)
                arguments = (cfg, place, store.port, os.getpid(), sender)
                process = context.Process(target=_rank_main, args=arguments, name=f"rank {rank}")
                process.start()
                sender.close()  # so that the pipe ends when the rank does
                ranks.append(process)
                pipes.append(receiver)
        _watch(ranks, stop)
    finally:
        ended = _end(ranks)
    return _outcome(ranks, ended, [_read_report(pipe) for pipe in pipes])


def _watch(ranks: Sequence[BaseProcess], stop: StopFlag) -> None:
    """Waits until all ranks have ended, or one has failed and the others had time to."""
    told, deadline = False, float("inf")
    while living := [process for process in ranks if process.is_alive()]:
        if stop.requested and not told:
            told = True
            for process in living:
                process.terminate()  # SIGTERM: it saves and ends
        if any(process.exitcode for process in ranks):
            deadline = min(deadline, time.monotonic() + _FAREWELL_SECONDS)
        if time.monotonic() > deadline:
            return
        wait([process.sentinel for process in living], timeout=_POLL_SECONDS)


def _end(ranks: Sequence[BaseProcess]) -> list[BaseProcess]:
    """Kills the ranks that have not ended by themselves; returns them."""
    living = [process for process in ranks if process.is_alive()]
    for process in living:
        process.kill()
    for process in ranks:
        process.join()
    return living


def _read_report(pipe: Connection) -> Report | None:
    """What a rank that has ended said last, None if it was killed."""
    try:
        return pipe.recv()
    except EOFError:
        return None


def _outcome(
    ranks: Sequence[BaseProcess], ended: Sequence[BaseProcess], reports: Sequence[Report | None]
) -> int:
    """The exit code of the run, or the error that came first; `ended` are the ranks that were ended from here."""
    errors = [report for report in reports if report is not None and report.exit_code is None]
    wrong_input = [report for report in errors if report.input_error]
    if wrong_input:
        raise InputError(min(wrong_input).input_error)
    # One that says nothing was killed from outside, and its peers' errors follow from that.
    for process, report in zip(ranks, reports, strict=True):
        if report is None and process not in ended:
            raise RankFailed(f"{process.name} {_death(process.exitcode)}")
    if errors:
        first = min(errors)
        raise RankFailed(f"{ranks[reports.index(first)].name} failed:\n{first.trace}")
    return reports[0].exit_code


def _death(code: int) -> str:
    if code == -signal.SIGKILL:
        return "was killed by SIGKILL; the system does that when memory runs out"
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"


def _rank_main(cfg: CfgNode, place: Place, port: int, parent: int, sender: Connection) -> None:
    """A rank's process: it reports how it ended, and ends with 0 if that was well."""
    die_with_parent(parent)
    # Else loader workers would be spawned too, each importing torch, only because this process was.
    multiprocessing.set_start_method(None, force=True)
    with StopFlag() as stop:
        # Ctrl-C reaches every process in front of the terminal; the parent passes it on as SIGTERM.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        let_signals_in()
        try:
            store = dist.TCPStore(_HOST, port, is_master=False, timeout=TIMEOUT)
            report = Report(time.monotonic(), run_rank(cfg, place, stop, store))
        except InputError as error:
            report = Report(time.monotonic(), input_error=str(error))
        except BaseException:
            report = Report(time.monotonic(), trace=traceback.format_exc()[-_LONGEST_TRACE:])
        sender.send(report)
    if report.exit_code is None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)  # without waiting for ranks that are gone
