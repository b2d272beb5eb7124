"""Worker processes for files that may hang or crash a decoder.

A decoder that spins cannot be interrupted from inside its process: neither by a signal handler nor by a thread. So
each worker has one file at a time, and the parent kills it, and names the file, when it takes too long or dies.
"""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

from mvit_video.errors import VideoError

Job = TypeVar("Job")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Abandoned:
    """Why there is no result: the worker hung or died. Another time it may go well."""

    reason: str


def run_jobs(
    work: Callable[[Job], Result], jobs: Iterable[Job], num_workers: int, timeout: float
) -> Iterator[tuple[Job, Result | VideoError | Abandoned]]:
    """Runs `work` on each job, in worker processes; yields (job, outcome) as they come, in any order.

    Args:
        work: picklable; may raise VideoError, which is then the outcome, and OSError, which ends it all.
        jobs: picklable; taken as workers become free.
        num_workers: processes.
        timeout: seconds that one job may take.
    """
    waiting = iter(jobs)
    # A fork server forks from a process that holds no locks and threads of ours; it imports the package once.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([getattr(work, "func", work).__module__])
    workers: list[_Worker[Job, Result]] = []
    try:
        for job in islice(waiting, num_workers):
            workers.append(_Worker(context, work, timeout))
            workers[-1].take(job)
        while workers:
            _wait_for_news(workers)
            for worker in list(workers):
                outcome = worker.outcome()
                if outcome is None:
                    continue
                if isinstance(outcome, OSError):
                    raise outcome
                yield worker.job, outcome
                if isinstance(outcome, Abandoned):
                    worker.restart()
                job = next(waiting, None)
                if job is None:
                    worker.close()
                    workers.remove(worker)
                else:
                    worker.take(job)
    finally:
        for worker in workers:
            worker.close()


class _Worker(Generic[Job, Result]):
    """A process, the job it has, and until when."""

    def __init__(self, context: Any, work: Callable[[Job], Result], timeout: float) -> None:
        self._context, self._work, self._timeout = context, work, timeout
        self._start()

    def _start(self) -> None:
        self.connection, theirs = self._context.Pipe()
        self._process = self._context.Process(target=_serve, args=(theirs, self._work), daemon=True)
        self._process.start()
        theirs.close()
        self.connection.recv()  # it has imported what it needs: that is not on the time of its first job

    def restart(self) -> None:
        """A new process in place of one that hangs or is dead."""
        self.close()
        self._start()

    def take(self, job: Job) -> None:
        """Begins a job."""
        self.job = job
        self.deadline = time.monotonic() + self._timeout
        self.connection.send(job)

    def outcome(self) -> Result | VideoError | OSError | Abandoned | None:
        """Of the job, if it is over."""
        if self.connection.poll():
            try:
                return self.connection.recv()
            except (EOFError, OSError):
                self._process.join(5.0)
                return Abandoned(f"the decoder crashed ({_death(self._process.exitcode)})")
        if time.monotonic() > self.deadline:
            return Abandoned(f"abandoned after {self._timeout:g} s without an end")
        return None

    def close(self) -> None:
        """Ends the process, whatever it is at."""
        self.connection.close()
        self._process.kill()
        self._process.join()


def _wait_for_news(workers: list[_Worker]) -> None:
    first = min(worker.deadline for worker in workers)
    wait([worker.connection for worker in workers], timeout=max(first - time.monotonic(), 0) + 0.01)


def _serve(connection: Connection, work: Callable[[Job], Result]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends its workers
    connection.send("ready")
    while True:
        try:
            job = connection.recv()
        except (EOFError, OSError):
            return  # the parent is done, or gone
        try:
            outcome = work(job)
        except (VideoError, OSError) as error:
            outcome = error
        try:
            connection.send(outcome)
        except OSError:
            return  # the parent is gone


def _death(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        return signal.Signals(-exit_code).name
    return f"exit code {exit_code}"
