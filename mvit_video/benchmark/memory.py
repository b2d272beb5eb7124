"""The memory that a training step takes, and the largest batch that fits a budget. Computed, on any machine."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from fvcore.common.config import CfgNode

from mvit_video.build import build_model
from mvit_video.models.blocks import blocks_of
from mvit_video.train.memory import GIB, activation_bytes, state_bytes

_GPU = 72.0  # GiB: one of 80 GB, less a tenth for what is not counted


def benchmark_memory(cfg: CfgNode, batch: int = 1) -> dict[str, Any]:
    """The peak memory of a training step by how many blocks are recomputed, and the largest batch that fits.

    Args:
        cfg: TRAIN.PRECISION and SOLVER hold; TRAIN.MEMORY_BUDGET is the memory to fit into, where it is 0 that of an
            80 GB GPU.
        batch: clips of the step.

    Returns:
        Plain values: the setting, and one entry of `candidates` for nothing, half, three quarters and all recomputed.
    """
    with torch.device("meta"):
        model = build_model(cfg)
    budget = cfg.TRAIN.MEMORY_BUDGET or _GPU
    state, blocks = state_bytes(model, cfg, 1), len(blocks_of(model))
    candidates = {}
    for number in sorted({0, blocks // 2, 3 * blocks // 4, blocks}):
        pass_bytes = cache(lambda clips, n=number: activation_bytes(model, cfg, clips, n))
        candidates[f"{number} of {blocks} blocks recomputed"] = {
            "peak_memory_mib": (state + pass_bytes(batch)) / 2**20,
            "pass_memory_mib": pass_bytes(batch) / 2**20,
            "largest_batch": _largest_batch(pass_bytes, budget * GIB - state, batch),
        }
    return {
        "step": "training",
        "precision": cfg.TRAIN.PRECISION,
        "clip": (batch, 3, cfg.DATA.NUM_FRAMES, *(cfg.DATA.TRAIN_CROP_SIZE,) * 2),
        "budget_gib": budget,
        "candidates": candidates,
        "ratios": {},
    }


def _largest_batch(pass_bytes: Callable[[int], int], room: float, batch: int) -> int:
    """The most clips whose pass fits into `room` bytes.

    At each moment of a pass every further clip adds the same, but which moment is the worst depends on their number.
    So beyond two sizes it takes at least what the line through them says: a guess from the line is tried out.
    """
    few, many = batch, 2 * batch
    while True:
        per_clip = (pass_bytes(many) - pass_bytes(few)) / (many - few)
        fits = int(few + (room - pass_bytes(few)) // per_clip)
        if fits < 1 or pass_bytes(fits) <= room:
            return max(fits, 0)
        if fits == 1:
            return 0
        few, many = fits // 2, fits
