"""Timing on machines that are never quiet.

Candidates are timed in turn, round by round, so whatever else the machine does hits all of them alike; what is
reported are medians, their spread, and ratios formed round by round. The same rounds time a large matrix product: the
machine's own peak, which a model's speed is stated as a share of.
"""

from __future__ import annotations

import multiprocessing
import re
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import torch
from fvcore.common.config import CfgNode

from mvit_video.processes import keep_freed_memory

Result = TypeVar("Result")


def begin(cfg: CfgNode, training: bool) -> tuple[torch.device, dict[str, Any]]:
    """Sets up the process as a run does; returns the device to measure on, and the setting in plain values."""
    keep_freed_memory()
    if cfg.NUM_THREADS:
        torch.set_num_threads(cfg.NUM_THREADS)
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return device, {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "pass": "training step" if training else "forward",
        "precision": cfg.TRAIN.PRECISION if training else cfg.TEST.PRECISION,
    }


def alternate(
    jobs: Mapping[str, Callable[[], Any]], rounds: int, device: torch.device
) -> dict[str, list[float]]:
    """Seconds of every job in every round, after one round to warm up.

    Every other round goes through the jobs backwards, so that none of them always follows the same one.
    """
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    order = list(jobs)
    for number in range(rounds + 1):
        for name in order if number % 2 else reversed(order):
            taken = _time(jobs[name], device)
            if number:
                seconds[name].append(taken)
    return seconds


def _time(job: Callable[[], Any], device: torch.device) -> float:
    wait_for(device)
    begin = time.perf_counter()
    job()
    wait_for(device)
    return time.perf_counter() - begin


def wait_for(device: torch.device) -> None:
    """Until what the device was given to do is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def median_and_spread(values: list[float]) -> tuple[float, float]:
    """Median, and half the distance between the quartiles as a share of it."""
    median = statistics.median(values)
    if len(values) < 2:
        return median, 0.0
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return median, (high - low) / 2 / abs(median)


def speed(seconds: list[float], batch: int) -> dict[str, float]:
    """Clips per second and what belongs to it, of passes of `batch` clips."""
    median, spread = median_and_spread(seconds)
    return {
        "clips_per_second": batch / median,
        "ms_per_clip": 1000 * median / batch,
        "spread": spread,
        "best_ms_per_clip": 1000 * min(seconds) / batch,
    }


def in_fresh_process(function: Callable[..., Result], *arguments: Any) -> Result:
    """The function's result, computed in a new process that shares no memory with this one. It must be importable."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def ratio(theirs: list[float], ours: list[float]) -> dict[str, float]:
    """How many times our time the others take, round by round: "time", its median, and "time_spread"."""
    time, spread = median_and_spread([a / b for a, b in zip(theirs, ours, strict=True)])
    return {"time": time, "time_spread": spread}


def peak_resident_mib(pid: int | None = None) -> float:
    """Most memory that a process, this one by default, has held so far, in MiB."""
    status = Path(f"/proc/{pid or 'self'}/status")
    if status.exists():  # getrusage would count what the parent held when it forked
        return int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1]) / 2**10
    scale = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale
