"""The memory that a training step takes, and the largest batch that fits a budget. Computed, on any machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from fvcore.common.config import CfgNode

from mvit_video.benchmark.candidates import BY_OTHER_HANDS, by_other_hands
from mvit_video.build import build_model
from mvit_video.models.blocks import blocks_of
from mvit_video.train.memory import GIB, activation_bytes, state_bytes

AGAINST = tuple(name for name in BY_OTHER_HANDS if "compiled" not in name)

_GPU = 72.0  # GiB: one of 80 GB, less a tenth for what is not counted


def benchmark_memory(cfg: CfgNode, against: Sequence[str] = (), batch: int = 1) -> dict[str, Any]:
    """The peak memory of a training step by how many blocks are recomputed, and the largest batch that fits.

    It is that of the tensors: what an allocator loses between them, and CUDA or Python take, comes on top.

    Args:
        cfg: TRAIN.PRECISION and SOLVER hold; TRAIN.MEMORY_BUDGET is the memory to fit into, where it is 0 that of an
            80 GB GPU.
        against: names of AGAINST.
        batch: clips of the step.

    Returns:
        Plain values: the setting; one entry of `candidates` for nothing, half, three quarters and all recomputed, and
        for each of `against`; and one of `ratios` for each of them, its memory over ours with nothing recomputed.

    Raises:
        InputError: another implementation does not have this model.
    """
    with torch.device("meta"):
        model = build_model(cfg)
    budget = cfg.TRAIN.MEMORY_BUDGET or _GPU
    state, blocks = state_bytes(model, cfg, 1), len(blocks_of(model))
    steps = {
        f"{number} of {blocks} blocks recomputed": (model, number)
        for number in sorted({0, blocks // 2, 3 * blocks // 4, blocks})
    }
    # Not on meta, as ours: pytorchvideo reads numbers while it is built.
    steps |= {name: (by_other_hands(model, name), 0) for name in against}
    candidates = {}
    for name, step in steps.items():
        pass_bytes = cache(lambda clips, s=step: activation_bytes(s[0], cfg, clips, s[1]))
        candidates[name] = {
            "peak_memory_mib": (state + pass_bytes(batch)) / 2**20,
            "pass_memory_mib": pass_bytes(batch) / 2**20,
            "largest_batch": _largest_batch(pass_bytes, budget * GIB - state, batch),
        }
    ours = candidates[next(iter(candidates))]
    return {
        "step": "training",
        "precision": cfg.TRAIN.PRECISION,
        "clip": (batch, 3, cfg.DATA.NUM_FRAMES, *(cfg.DATA.TRAIN_CROP_SIZE,) * 2),
        "budget_gib": budget,
        "candidates": candidates,
        "ratios": {
            name: {
                kind: candidates[name][f"{kind}_mib"] / ours[f"{kind}_mib"]
                for kind in ("peak_memory", "pass_memory")
            }
            for name in against
        },
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
