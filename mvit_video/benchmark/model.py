"""A model's forward pass, or training step, against what one would use instead."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import torch
from fvcore.common.config import CfgNode

from mvit_video.benchmark.candidates import AGAINST, OURS
from mvit_video.benchmark.contestant import Contestant
from mvit_video.benchmark.measure import alternate, begin, median_and_spread, ratio, speed
from mvit_video.models.cost import TRAINING_STEP, matmul_job

__all__ = ["AGAINST", "benchmark_model"]


def benchmark_model(
    cfg: CfgNode,
    against: Sequence[str] = (),
    batch: int = 1,
    rounds: int = 7,
    training: bool = False,
) -> dict[str, Any]:
    """Times passes of the config's model, in alternation with those of other candidates.

    Each candidate does them in a process of its own (`contestant`), one at a time.

    Args:
        cfg: TEST.PRECISION (TRAIN.PRECISION when training) and NUM_THREADS hold for all candidates.
        against: names of AGAINST.
        batch: clips per pass.
        rounds: timed passes of each candidate.
        training: forward and backward in training mode, instead of forward in inference mode.

    Returns:
        Plain values: the setting, one entry of `candidates` for each, and one of `ratios` for each of `against`: its
        time and memory over ours, and our multiply-adds per second over its.

    Raises:
        InputError: a candidate that does not have this model.
    """
    device, described = begin(cfg, training)
    names = (OURS, *against)
    with ExitStack() as stack:
        contestants: dict[str, Contestant] = {}
        for name in names:
            contestants[name] = Contestant(cfg, name, batch, training)
            stack.callback(contestants[name].close)
        passes = {name: contestants[name].run_pass for name in names}
        seconds = alternate(passes, rounds, device)
        memory = {name: contestants[name].memory() for name in names}
    # On its own: between the others' passes it would find cold threads and caches, and be no peak.
    matmul, matmul_multiply_adds = matmul_job(device, getattr(torch, described["precision"]))
    matmul_seconds, _ = median_and_spread(alternate({"": matmul}, rounds, device)[""])
    peak = matmul_multiply_adds / matmul_seconds
    candidates = {}
    for name in names:
        work = contestants[name].multiply_adds * (TRAINING_STEP if training else 1)
        candidates[name] = {
            **speed(seconds[name], batch),
            "multiply_adds_per_clip": contestants[name].multiply_adds // batch,
            "share_of_matmul_peak": median_and_spread(
                [work / taken / peak for taken in seconds[name]]
            )[0],
            **memory[name],
        }
    return {
        **described,
        "clip": contestants[OURS].inputs[0],
        "rounds": rounds,
        "matmul_multiply_adds_per_second": peak,
        "candidates": candidates,
        "ratios": {name: _ratios(seconds, candidates, name) for name in against},
    }


def _ratios(
    seconds: dict[str, list[float]], candidates: dict[str, dict[str, float]], name: str
) -> dict[str, float]:
    """How many times our time and memory the other takes, and our multiply-adds per second over its."""
    memory = {
        kind: candidates[name][f"{kind}_mib"] / candidates[OURS][f"{kind}_mib"]
        for kind in ("peak_memory", "pass_memory")
    }
    times = ratio(seconds[name], seconds[OURS])
    ours, theirs = (candidates[which]["multiply_adds_per_clip"] for which in (OURS, name))
    return {**times, "rate": times["time"] * ours / theirs, **memory}
