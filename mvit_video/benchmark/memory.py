"""The memory that a training step takes, and the largest batch that fits a budget. Computed, on any machine."""

from __future__ import annotations

from typing import Any

import torch
from fvcore.common.config import CfgNode

from mvit_video.build import build_model
from mvit_video.models.blocks import blocks_of
from mvit_video.train.memory import GIB, activation_bytes, state_bytes

_GPU = 80.0  # GiB


def benchmark_memory(cfg: CfgNode, batch: int = 1) -> dict[str, Any]:
    """The peak memory of a training step by how many blocks are recomputed, and the largest batch that fits.

    Args:
        cfg: TRAIN.PRECISION and SOLVER hold; TRAIN.MEMORY_BUDGET is the memory to fit into, 80 GiB where it is 0.
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
        # Every clip takes as much as the others; what remains is the weights in another number format.
        one, two = (activation_bytes(model, cfg, clips, number) for clips in (batch, 2 * batch))
        per_clip = (two - one) / batch
        fits = (budget * GIB - state - (one - per_clip * batch)) // per_clip
        candidates[f"{number} of {blocks} blocks recomputed"] = {
            "peak_memory_mib": (state + one) / 2**20,
            "pass_memory_mib": one / 2**20,
            "largest_batch": max(int(fits), 0),
        }
    return {
        "step": "training",
        "precision": cfg.TRAIN.PRECISION,
        "clip": (batch, 3, cfg.DATA.NUM_FRAMES, *(cfg.DATA.TRAIN_CROP_SIZE,) * 2),
        "budget_gib": budget,
        "candidates": candidates,
        "ratios": {},
    }
