"""From the command line of tools/submit.py to jobs."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from itertools import chain, product
from pathlib import Path
from typing import NamedTuple

import submitit
from fvcore.common.config import CfgNode

from mvit_video.config import load_config
from mvit_video.errors import InputError
from mvit_video.launch import batch, submission
from mvit_video.launch.batch import Request
from mvit_video.launch.job import Job, LocalRunJob, MergeJob, RunJob, ShardJob
from mvit_video.launch.preflight import check_run
from mvit_video.launch.resize import check_ranks, steps_to_accumulate

_POLL_SECONDS = 2.0
_NO_LIMIT = (
    60 * 24 * 365
)  # minutes; a machine of one's own has no time limit, submitit's jobs have one
_STATE_SECONDS = 10.0  # between questions to the accounting database


class Step(NamedTuple):
    """Jobs that are submitted together, and what they wait for.

    Attributes:
        after: how they depend on the step before: "afterok", "afterany" or "".
    """

    request: Request
    jobs: list[Job]
    after: str = ""


def submit(options: argparse.Namespace, overrides: Sequence[str], command: Sequence[str]) -> int:
    """Checks, then submits (or prints) the jobs that the options describe; returns the exit code.

    Args:
        overrides: keys and values of the config.
        command: as it was typed.

    Raises:
        InputError: what is wrong, before anything is submitted; or Slurm's reason.
    """
    configs = _configs(options, overrides)
    request = _request(options)
    first = Path(configs[0].OUTPUT_DIR)
    job_dir = options.job_dir or str((first.parent if options.sweep else first) / "jobs" / "%j")
    jobs_folder = submission.jobs_folder(job_dir)
    folder = str(Path(job_dir).absolute())
    steps = _steps(options, request, configs)
    if options.dry_run:
        for step in steps:
            after = step.after and f"{step.after}:ID_OF_THE_JOB_ABOVE"
            staged = jobs_folder / "submitted-DATE-TIME"
            text = batch.sbatch_text(
                step.request, folder, staged, sys.executable, after, len(step.jobs)
            )
            print(text)
        return 0
    staged = submission.new_folder(jobs_folder, datetime.now())
    submission.record(staged, [cfg.dump() for cfg in configs], command)
    submitted = _submit_steps(options, steps, folder, staged)
    if options.cluster == "debug":
        return max(job.result() for job in submitted)
    return _follow_all(submitted) if options.follow else 0


def _configs(options: argparse.Namespace, overrides: Sequence[str]) -> list[CfgNode]:
    """The checked config of each run; several only for a sweep."""
    size = options.nodes * options.tasks_per_node
    sweeps = [_sweep(text) for text in options.sweep]
    configs = []
    for values in product(*(values for _, values in sweeps)):
        words = [*overrides, *options.opts]
        pairs = list(zip((key for key, _ in sweeps), values, strict=True))
        for key, value in pairs:
            words += [key, value]
        cfg = load_config(options.cfg, words).clone()
        cfg.defrost()
        if pairs:
            name = ",".join(f"{key}={value}" for key, value in pairs).replace("/", "_")
            cfg.OUTPUT_DIR = str(Path(cfg.OUTPUT_DIR) / name)
        if options.train or options.test:
            cfg.TRAIN.ENABLE, cfg.TEST.ENABLE = options.train, options.test
        # The job knows how many processes it has, and how many cores each of them.
        cfg.NUM_SHARDS, cfg.NUM_GPUS = options.nodes, options.tasks_per_node
        if cfg.DATA_LOADER.NUM_WORKERS < 0 and options.cluster == "slurm":
            cfg.DATA_LOADER.NUM_WORKERS = max(options.cpus_per_task - 1, 1)
        check_run(cfg)
        if cfg.TRAIN.ENABLE:
            cfg.SOLVER.ACCUMULATE_STEPS = steps_to_accumulate(cfg, size)
        check_ranks(cfg, size)
        cfg.freeze()
        configs.append(cfg)
    return configs


def _sweep(text: str) -> tuple[str, list[str]]:
    key, equals, values = text.partition("=")
    if not equals or not all(values.split(",")):
        raise InputError(f"--sweep {text}: write KEY=VALUE,VALUE,...")
    return key, values.split(",")


def _request(options: argparse.Namespace) -> Request:
    timeout = options.timeout or (60 if options.cluster == "slurm" else _NO_LIMIT)
    if 60 * timeout <= options.signal_delay:
        raise InputError(
            f"--signal-delay {options.signal_delay} s is no shorter than --timeout {timeout} minutes: the job "
            "would be told to stop as it starts"
        )
    if options.cluster != "slurm" and options.nodes > 1:
        raise InputError(f"--cluster {options.cluster} is this machine alone; give --nodes 1")
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


def _steps(options: argparse.Namespace, request: Request, configs: Sequence[CfgNode]) -> list[Step]:
    """What is submitted, in order."""
    first, here, gpus = configs[0], os.getcwd(), request.gpus_per_node
    run = RunJob if options.cluster == "slurm" else LocalRunJob
    phases = [first.TRAIN.ENABLE, first.TEST.ENABLE]
    if len(configs) > 1 or options.cluster != "slurm" or (sum(phases) < 2 and not options.shards):
        return [Step(request, [run(cfg.dump(), here, gpus, request.processes) for cfg in configs])]
    steps = []
    if first.TRAIN.ENABLE:
        config = _only(first, "TRAIN")
        steps.append(Step(request, [RunJob(config, here, gpus, request.processes)]))
    if not first.TEST.ENABLE:
        return steps
    after, config = "afterok" if steps else "", _only(first, "TEST")
    if not options.shards:
        test = replace(request, name=f"{request.name}-test")
        return [*steps, Step(test, [RunJob(config, here, gpus, request.processes)], after)]
    wanted = options.only_shards or range(options.shards)
    shards: list[Job] = [
        ShardJob(config, here, min(gpus, 1), shard, options.shards) for shard in wanted
    ]
    merge: list[Job] = [MergeJob(config, here, 0, options.shards)]
    one = request.one_process(f"{request.name}-shards")
    last = request.one_process(f"{request.name}-merge", with_gpu=False)
    return [*steps, Step(one, shards, after), Step(last, merge, "afterany")]


def _only(cfg: CfgNode, phase: str) -> str:
    copy = cfg.clone()
    copy.defrost()
    for name in {"TRAIN", "TEST"} - {phase}:
        copy[name].ENABLE = False
    return copy.dump()


def _submit_steps(
    options: argparse.Namespace, steps: Sequence[Step], folder: str, staged: Path
) -> list[submitit.Job]:
    """Submits and tells; returns all jobs, in order."""
    submitted: list[list[submitit.Job]] = []
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
