"""Steps: jobs that are submitted together, one step after the other; told, and followed."""

from __future__ import annotations

import argparse
import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import submitit

from mvit_video.errors import InputError
from mvit_video.launch import batch, submission
from mvit_video.launch.batch import Request
from mvit_video.launch.job import Job

_NO_LIMIT = 60 * 24 * 365  # minutes; one's own machine has no time limit, a job of submitit's has
_POLL_SECONDS = 2.0
_STATE_SECONDS = 10.0  # between questions to the accounting database


class Step(NamedTuple):
    """Jobs that are submitted together, and what they wait for.

    Attributes:
        after: how they depend on the step before: "afterok", "afterany" or "".
    """

    request: Request
    jobs: list[Job]
    after: str = ""


def submit_steps(
    options: argparse.Namespace,
    steps: Sequence[Step],
    job_dir: str,
    configs: Sequence[str],
    command: Sequence[str],
) -> int:
    """Submits the steps, or prints them (--dry-run); returns the exit code.

    Args:
        job_dir: folder of each job, with %j for its id.
        configs: YAML, to be kept with the jobs.
        command: as it was typed.

    Raises:
        InputError: Slurm's reason for refusing a step; those before it are cancelled.
    """
    jobs_folder = submission.jobs_folder(job_dir)
    folder = str(Path(job_dir).absolute())
    if options.dry_run:
        for step in steps:
            after = step.after and f"{step.after}:ID_OF_THE_JOB_ABOVE"
            staged = jobs_folder / "submitted-DATE-TIME"
            text = batch.sbatch_text(
                step.request, folder, staged, sys.executable, after, len(step.jobs)
            )
            print(text)
        return 0
    staged = submission.stage(jobs_folder, configs, command)
    submitted = _submit_all(options, steps, folder, staged)
    if options.cluster == "debug":
        return max(job.result() for job in submitted)
    return _follow_all(submitted) if options.follow else 0


def request_of(options: argparse.Namespace) -> Request:
    """What the options ask of the cluster. Raises InputError for what cannot be asked together."""
    timeout = options.timeout or (60 if options.cluster == "slurm" else _NO_LIMIT)
    if 60 * timeout <= options.signal_delay:
        raise InputError(
            f"--signal-delay {options.signal_delay} s is no shorter than --timeout {timeout} minutes: the job "
            "would be told to stop as it starts"
        )
    if options.cluster != "slurm" and options.nodes > 1:
        raise InputError(f"--cluster {options.cluster} is this machine alone; give --nodes 1")
    if options.cluster != "slurm" and options.dry_run:
        raise InputError("--dry-run prints sbatch files; without --cluster slurm there are none")
    if options.cluster != "slurm" and options.shards:
        raise InputError("--shards needs --cluster slurm; on one machine use --gpus-per-node")
    if options.shards and options.sweep:
        raise InputError("--shards and --sweep are both arrays; submit one test per run")
    names = ("partition", "account", "qos", "constraint", "exclude", "comment")
    return Request(
        name=options.name,
        nodes=options.nodes,
        gpus_per_node=options.gpus_per_node,
        tasks_per_node=options.tasks_per_node,
        cpus_per_task=options.cpus_per_task,
        mem_gb=options.mem_gb,
        timeout=timeout,
        signal_delay=options.signal_delay,
        max_timeouts=options.max_timeouts,
        max_failures=options.max_failures,
        array_parallelism=options.array_parallelism,
        extra=tuple((name, value) for name in names if (value := getattr(options, name))),
    )


def _submit_all(
    options: argparse.Namespace, steps: Sequence[Step], folder: str, staged: Path
) -> list[submitit.Job]:
    """Submits and tells; returns all jobs, in order."""
    submitted: list[list[submitit.Job]] = []
    before = submission.unclaimed(staged.parent)
    for number, step in enumerate(steps):
        dependency = f"{step.after}:{_base_id(submitted[-1])}" if step.after else ""
        try:
            if options.cluster == "slurm":
                jobs = batch.submit_slurm(step.request, folder, staged, dependency, step.jobs)
            elif options.cluster == "local":
                jobs = batch.submit_local(step.request, folder, staged, step.jobs)
            else:
                jobs = batch.submit_debug(folder, step.jobs)
        except InputError:
            for job in chain(*submitted):
                job.cancel()
            submission.remove_unclaimed(staged.parent, before)
            if not number:
                shutil.rmtree(staged)
            raise
        for job in jobs:
            submission.link(staged, job.paths.folder)
        _tell(options.cluster, step, jobs)
        submitted.append(jobs)
    return list(chain(*submitted))


def _base_id(jobs: Sequence[submitit.Job]) -> str:
    """The id that names all of them."""
    return jobs[0].job_id.split("_")[0]


def _tell(cluster: str, step: Step, jobs: Sequence[submitit.Job]) -> None:
    log = shlex.quote(str(jobs[0].paths.stdout))
    count = f", array of {len(jobs)}" if len(jobs) > 1 else ""
    request = step.request
    print(
        f"job {_base_id(jobs)} ({request.name}{count}): {request.nodes} x {request.tasks_per_node} processes"
    )
    if cluster == "debug":
        return
    print(f"  log     {log}\n  follow  tail -F {log}")
    # A local job is a shell, whose only child passes SIGTERM on.
    cancel = "scancel" if cluster == "slurm" else "pkill -P"
    print(f"  cancel  {cancel} {_base_id(jobs)}", flush=True)


def _follow_all(jobs: Sequence[submitit.Job]) -> int:
    """Prints the logs of the jobs, one after the other; returns their worst exit code."""
    try:
        return max(_follow(job) for job in jobs)
    except KeyboardInterrupt:
        print("\nno longer following; what was submitted goes on", file=sys.stderr)
        raise


def _follow(job: submitit.Job) -> int:
    """Prints the log until the job has ended; returns its exit code."""
    shown, asked = 0, time.monotonic()
    while True:
        over = job.paths.result_pickle.exists()
        if not over and time.monotonic() - asked > _STATE_SECONDS:
            asked, over = time.monotonic(), job.done(force_check=True)
        if job.paths.stdout.exists():
            with job.paths.stdout.open(errors="replace") as file:
                file.seek(shown)
                print(file.read(), end="", flush=True)
                shown = file.tell()
        if over:
            break
        time.sleep(_POLL_SECONDS)
    error = job.task(0).exception() if job.num_tasks > 1 else job.exception()
    if error is None:
        return job.task(0).result()
    print(f"job {job.job_id} has not finished ({job.state}): its log says why", file=sys.stderr)
    return 1
