"""From the command line of tools/submit.py to the jobs of a run."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

from fvcore.common.config import CfgNode

from mvit_video.config import load_config
from mvit_video.errors import InputError
from mvit_video.launch.batch import Request
from mvit_video.launch.job import Job, LocalRunJob, MergeJob, RunJob, ShardJob
from mvit_video.launch.preflight import check_run
from mvit_video.launch.resize import check_ranks, steps_to_accumulate
from mvit_video.launch.running import refuse_second_training
from mvit_video.launch.steps import Step, request_of, submit_steps
from mvit_video.launch.submission import jobs_folder


def submit(options: argparse.Namespace, overrides: Sequence[str], command: Sequence[str]) -> int:
    """Checks, then submits (or prints) the jobs that the options describe; returns the exit code.

    Args:
        overrides: keys and values of the config.
        command: as it was typed.

    Raises:
        InputError: what is wrong, before anything is submitted; or Slurm's reason.
    """
    configs = _configs(options, overrides)
    steps = _steps(options, request_of(options), configs)
    first = Path(configs[0].OUTPUT_DIR)
    job_dir = options.job_dir or str((first.parent if options.sweep else first) / "jobs" / "%j")
    if options.cluster == "slurm" and not options.dry_run:
        refuse_second_training(jobs_folder(job_dir), configs)
    return submit_steps(options, steps, job_dir, [cfg.dump() for cfg in configs], command)


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
    swept = values.split(",")
    if len(set(swept)) < len(swept):
        raise InputError(f"--sweep {text} names a value twice: both runs would write to one folder")
    return key, swept


def _steps(options: argparse.Namespace, request: Request, configs: Sequence[CfgNode]) -> list[Step]:
    """What is submitted, in order."""
    first, here, gpus = configs[0], os.getcwd(), request.gpus_per_node
    run = RunJob if options.cluster == "slurm" else LocalRunJob
    phases = [first.TRAIN.ENABLE, first.TEST.ENABLE]
    if len(configs) > 1 or options.cluster != "slurm" or (sum(phases) < 2 and not options.shards):
        return [Step(request, [run(here, gpus, cfg.dump(), request.processes) for cfg in configs])]
    steps = []
    if first.TRAIN.ENABLE:
        config = _only(first, "TRAIN")
        steps.append(Step(request, [RunJob(here, gpus, config, request.processes)]))
    if not first.TEST.ENABLE:
        return steps
    after, config = "afterok" if steps else "", _only(first, "TEST")
    if not options.shards:
        test = replace(request, name=f"{request.name}-test")
        return [*steps, Step(test, [RunJob(here, gpus, config, request.processes)], after)]
    wanted = options.only_shards or range(1, options.shards + 1)
    shards: list[Job] = [
        ShardJob(here, min(gpus, 1), config, shard, options.shards) for shard in wanted
    ]
    merge: list[Job] = [MergeJob(here, 0, config, options.shards)]
    one = request.one_process(f"{request.name}-shards")
    last = request.one_process(f"{request.name}-merge", with_gpu=False)
    return [*steps, Step(one, shards, after), Step(last, merge, "afterany")]


def _only(cfg: CfgNode, phase: str) -> str:
    copy = cfg.clone()
    copy.defrost()
    for name in {"TRAIN", "TEST"} - {phase}:
        copy[name].ENABLE = False
    return copy.dump()
