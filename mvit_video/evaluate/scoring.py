"""From the views of a video to its scores: one function for the multi-view test and the Recognizer, so they agree."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from mvit_video.data.preprocessing import Preprocessing
from mvit_video.errors import InputError
from mvit_video.world import World


def autocast(device: torch.device, precision: str) -> AbstractContextManager[None]:
    """The context of a forward pass in "float32", "bfloat16" or "float16"."""
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, getattr(torch, precision))


def common_steps(num_items: int, per_step: int, world: World) -> int:
    """Steps of `per_step` items until the rank with the most is through: every rank takes as many, and so votes as
    often."""
    steps = world.gather_objects(math.ceil(num_items / per_step))
    return world.broadcast_object(max(steps) if world.is_main else None)


def score_views(
    model: Callable[[Tensor], Tensor],
    views: Tensor,
    preprocessing: Preprocessing,
    precision: str = "float32",
) -> Tensor:
    """Scores of all views of one video, in one forward pass.

    The pass has the size of one video, whatever batch it came in: so the bits of a score depend neither on the batch
    nor on the number of ranks.

    Args:
        model: in eval mode, on the device of `views`; or its `CudaGraphs`.
        views: (V, 3, T, H, W) uint8.
        precision: number format of the forward pass.

    Returns:
        (V, C) float32 on the CPU, the softmax of each view.

    Raises:
        InputError: the model's output is not finite.
    """
    with torch.inference_mode():
        with autocast(views.device, precision):
            logits = model(preprocessing.normalise(views))
        scores = logits.float().softmax(dim=-1).cpu()
    if not scores.isfinite().all():
        raise InputError(
            "the model's output is not finite: its weights are damaged, or too large for "
            f"{precision} (TEST.PRECISION; float32 holds the largest range)"
        )
    return scores
