"""What a job of a cluster is: small objects that submitit pickles here and calls there, once per task.

A signal before the time limit or a preemption (SIGUSR2) sets a flag; the ranks agree on it at the end of a step,
save, and leave together; then rank 0 has the job requeued by the handler that submitit had installed, which counts
time-outs and not preemptions. A run that starts again looks for the newest checkpoint by itself, so a job that was
killed without a word goes on as well. Exit codes of a task: 0 done, 2 wrong input, 75 stopped for good.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import submitit
from fvcore.common.config import CfgNode

from mvit_video.config.loading import parse_config
from mvit_video.errors import InputError
from mvit_video.evaluate.test import merge_parts, run_test_part
from mvit_video.launch.cli import WRONG_INPUT
from mvit_video.launch.phases import DONE, STOPPED, model_to_test
from mvit_video.launch.place import Place, joined, place_from_environment, require_gpus
from mvit_video.launch.rank import log_to_stderr
from mvit_video.launch.run import run
from mvit_video.launch.stop import StopFlag

# Names the file, in the environment of a job's tasks, where one of them says that the job must not start again.
VERDICT = "MVIT_VIDEO_VERDICT"


@dataclass(frozen=True)
class Job(ABC):
    """A run that a scheduler starts, perhaps more than once.

    Attributes:
        folder: working directory; relative paths start there.
        gpus: of its node, that the job was submitted for.
    """

    folder: str
    gpus: int

    @abstractmethod
    def work(self, stop: StopFlag) -> int:
        """What this task of the job does; returns the exit code of the run."""

    def __call__(self) -> int:
        """Runs this task of the job; the result is its exit code, 0 or 1 (some videos cannot be decoded)."""
        os.chdir(self.folder)
        requeue: Any = signal.getsignal(signal.SIGUSR2)  # submitit's handler
        with StopFlag() as stop:
            _tell_start()
            try:
                require_gpus(self.gpus)
                code = self.work(stop)
            except InputError as error:
                raise _end_for_good(WRONG_INPUT, f"error: {error}") from None
            if code != STOPPED:
                return code
            reason = "told to end"
            if stop.requeue and callable(requeue):
                reason = _requeue(requeue)
            raise _end_for_good(STOPPED, f"stopped after saving: {reason}")

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """What submitit starts the next time: the same. Everything else is in the run's own checkpoint."""
        return submitit.helpers.DelayedSubmission(self)

    __submitit_checkpoint__ = checkpoint  # its name in the next submitit


@dataclass(frozen=True)
class RunJob(Job):
    """Trains and tests, as `tools/run_net.py` does, in all tasks of the job together.

    Attributes:
        config: the resolved config as YAML.
        processes: tasks that the job was submitted with.
    """

    config: str
    processes: int

    def work(self, stop: StopFlag) -> int:
        place = place_from_environment(os.environ) or Place()
        if place.size != self.processes:
            raise InputError(
                f"this job was submitted with {self.processes} tasks and has {place.size} ranks: it must be started by "
                "srun, one process per task"
            )
        return run(_parsed(self.config), stop)


@dataclass(frozen=True)
class LocalRunJob(RunJob):
    """The same in processes that the job starts by itself, on one machine."""

    def work(self, stop: StopFlag) -> int:
        if submitit.JobEnvironment().cluster == "local":
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # as its shell does (batch.submit_local)
        return run(_parsed(self.config), stop)


@dataclass(frozen=True)
class ShardJob(Job):
    """Tests one part of the list, in one process.

    Attributes:
        shard: counted from 1, of num_shards.
    """

    config: str
    shard: int
    num_shards: int

    def work(self, stop: StopFlag) -> int:
        cfg = _parsed(self.config)
        log_to_stderr(0)
        with joined(cfg, Place()) as world:
            model, preprocessing = model_to_test(cfg, world, None)
            path = run_test_part(
                cfg, model, preprocessing, self.shard - 1, self.num_shards, world.device, stop
            )
        if path is None:
            return STOPPED
        print(f"shard {self.shard} of {self.num_shards}: {path}", flush=True)
        return DONE


@dataclass(frozen=True)
class MergeJob(Job):
    """Merges the parts of a test and computes its metrics."""

    config: str
    num_shards: int

    def work(self, stop: StopFlag) -> int:
        try:
            metrics = merge_parts(_parsed(self.config), self.num_shards)
        except InputError as error:
            raise InputError(
                f"{error}. Run what is missing again: the same command with --only-shards NUMBER ..."
            ) from error
        return 1 if metrics["undecodable"] else DONE


def _parsed(config: str) -> CfgNode:
    return parse_config(config, "the job's config")


def _tell_start() -> None:
    """One line of the log for each start of the job."""
    environment = submitit.JobEnvironment()
    if environment.global_rank == 0:
        restarts = int(os.environ.get("SLURM_RESTART_COUNT", 0))
        again = f", requeued {restarts} times so far" if restarts else ""
        hosts = ", ".join(environment.hostnames)
        print(
            f"job {environment.job_id} starts on {hosts} with {environment.num_tasks} tasks{again}",
            file=sys.stderr,
            flush=True,
        )


def _requeue(handler: Any) -> str:
    """Leaves this start of the job; rank 0 asks for the next. Returns only where there is none, with the reason."""
    sys.stdout.flush()
    sys.stderr.flush()
    if submitit.JobEnvironment().global_rank:
        os._exit(0)  # no result file: the job goes on
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
    try:
        handler(signal.SIGUSR2, None)
    except submitit.core.utils.UncompletedJobError as error:  # no time-outs are left
        return (
            f"{error} Submit it again to go on (--max-timeouts says how often it goes on by itself)"
        )
    return "the cluster does not requeue"


def _end_for_good(code: int, message: str) -> SystemExit:
    """Ends the job with `code`, whatever becomes of its other tasks."""
    print(message, file=sys.stderr, flush=True)
    rank = submitit.JobEnvironment().global_rank
    if verdict := os.environ.get(VERDICT):
        # The first word stands: the others are told to end because of it. And a full disk may be why it ends.
        with contextlib.suppress(OSError), open(verdict, "x") as file:
            file.write(f"{code}\nrank {rank}: {message}\n")
    return SystemExit(code)
