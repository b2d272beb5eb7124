"""A model's forward pass, or training step, against what one would use instead."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from fvcore.common.config import CfgNode
from torch import Tensor, nn

from mvit_video.benchmark.candidates import AGAINST, OURS, Candidate, make_candidate
from mvit_video.benchmark.measure import (
    alternate,
    begin,
    in_fresh_process,
    median_and_spread,
    peak_resident_mib,
    ratio,
    set_up_process,
    speed,
)
from mvit_video.evaluate.scoring import autocast
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
    made = {name: make_candidate(cfg, name, batch) for name in names}
    passes = {name: _make_pass(made[name], cfg, training, device) for name in names}
    # First: this process keeps the memory of its passes, and with that of another there may not be enough.
    memory = {name: _memory(cfg, name, batch, training, passes[name], device) for name in names}
    matmul, matmul_multiply_adds = matmul_job(device, getattr(torch, described["precision"]))
    seconds = alternate({**passes, "matmul": matmul}, rounds, device)
    peak = [matmul_multiply_adds / taken for taken in seconds["matmul"]]
    candidates = {}
    for name in names:
        work = made[name].multiply_adds * (TRAINING_STEP if training else 1)
        candidates[name] = {
            **speed(seconds[name], batch),
            "multiply_adds_per_clip": made[name].multiply_adds // batch,
            "share_of_matmul_peak": median_and_spread(
                [work / taken / p for taken, p in zip(seconds[name], peak, strict=True)]
            )[0],
            **memory[name],
        }
    return {
        **described,
        "clip": made[OURS].inputs[0],
        "rounds": rounds,
        "matmul_multiply_adds_per_second": median_and_spread(peak)[0],
        "candidates": candidates,
        "ratios": {name: _ratios(seconds, candidates, name) for name in against},
    }


def _make_pass(
    candidate: Candidate, cfg: CfgNode, training: bool, device: torch.device
) -> Callable[[], Any]:
    """A function that runs one pass of a candidate."""
    model = candidate.model.to(device).train(training)
    inputs = [torch.randn(shape, device=device) for shape in candidate.inputs]
    if training:
        return lambda: _training_pass(model, inputs, cfg.TRAIN.PRECISION)
    return lambda: _forward_pass(model, inputs, cfg.TEST.PRECISION)


@torch.inference_mode()
def _forward_pass(model: nn.Module, inputs: list[Tensor], precision: str) -> None:
    for clip in inputs:
        with autocast(clip.device, precision):
            model(clip)


def _training_pass(model: nn.Module, inputs: list[Tensor], precision: str) -> None:
    model.zero_grad(set_to_none=True)
    for clip in inputs:
        with autocast(clip.device, precision):
            loss = model(clip).float().square().mean()
        loss.backward()


def _memory(
    cfg: CfgNode,
    name: str,
    batch: int,
    training: bool,
    run_pass: Callable[[], Any],
    device: torch.device,
) -> dict[str, float]:
    """Peak memory in MiB, of a process that does two passes and no more, or of the GPU; and what the passes added."""
    if device.type == "cuda":
        run_pass()  # leaves its gradients, and what libraries keep
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device) / 2**20
        run_pass()
        peak = torch.cuda.max_memory_allocated(device) / 2**20
    else:
        before, peak = in_fresh_process(_resident_before_and_peak, cfg, name, batch, training)
    return {"peak_memory_mib": peak, "pass_memory_mib": peak - before}


def _resident_before_and_peak(
    cfg: CfgNode, name: str, batch: int, training: bool
) -> tuple[float, float]:
    set_up_process(cfg)
    run_pass = _make_pass(make_candidate(cfg, name, batch), cfg, training, torch.device("cpu"))
    before = peak_resident_mib()
    for _ in range(2):  # in training, the second pass meets the first one's gradients
        run_pass()
    return before, peak_resident_mib()


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
