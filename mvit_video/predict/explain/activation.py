"""Class activation maps: which places of the feature pyramid speak for a class.

Grad-CAM (Selvaraju et al., arXiv 1610.02391): the gradient of the class's logit, averaged over a level's grid, weighs
its channels; where their weighted sum is above zero, a place speaks for the class. It works for every family.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mvit_video.errors import InputError
from mvit_video.models.cloformer import CloFormer
from mvit_video.models.dual_vit import DualViT
from mvit_video.models.mvit import MViT

Grid = tuple[int, int, int]

_SIDE = 7  # tokens a side that a level must have for its map to show where


@dataclass(frozen=True)
class Level:
    """A level of the pyramid as it went by: tokens (1, extra + T * H * W, C), or a cube (1, T, H, W, C)."""

    tensor: Tensor
    thw: Grid
    extra: int = 0

    def cube(self, like: Tensor | None = None) -> Tensor:
        """(T, H, W, C) of the level, or of a tensor of the same form (its gradient)."""
        tensor = self.tensor if like is None else like
        return tensor[0].flatten(0, -2)[self.extra :].unflatten(0, self.thw)


def activation_map(
    model: nn.Module, clip: Tensor, label: int, level: int | None = None
) -> tuple[Tensor, int]:
    """The class activation map of one level, (T', H', W'), and which level that is.

    Args:
        model: any model of ours.
        clip: (1, 3, T, H, W), normalised.
        label: the class.
        level: of the pyramid, 0 the finest; by default the coarsest that has 7 tokens a side, else the finest.

    Raises:
        InputError: there is no such level.
    """
    with torch.enable_grad():
        levels, logits = watch_levels(model, clip)
        level = default_level(levels) if level is None else level
        if not 0 <= level < len(levels):
            raise InputError(f"level {level}: the model has levels 0 ... {len(levels) - 1}")
        chosen = levels[level]
        (gradient,) = torch.autograd.grad(logits[0, label], chosen.tensor)
    features = chosen.cube().detach()
    channels = chosen.cube(gradient).mean(dim=(0, 1, 2))
    return (features @ channels).clamp(min=0), level


def default_level(levels: list[Level]) -> int:
    """The coarsest level that still shows where, else the finest."""
    return max((i for i, level in enumerate(levels) if min(level.thw[1:]) >= _SIDE), default=0)


def watch_levels(model: nn.Module, clip: Tensor) -> tuple[list[Level], Tensor]:
    """The levels of the pyramid on the way to the logits (1, num_classes), and these."""
    taps, seen = _taps(model), {}
    hooks = [
        module.register_forward_hook(
            lambda module, inputs, output, pick=pick: seen.update({module: pick(inputs, output)})
        )
        for module, pick in taps
    ]
    try:
        logits = model(clip)
    finally:
        for hook in hooks:
            hook.remove()
    return [seen[module] for module, _ in taps], logits


Pick = Callable[[tuple[Any, ...], Any], Level]


def _taps(model: nn.Module) -> list[tuple[nn.Module, Pick]]:
    """The modules that a level comes out of, finest first, and how it is found there."""
    if isinstance(model, MViT):
        return _mvit_taps(model)
    if isinstance(model, DualViT):
        return [(stage, lambda _, output: _cube(output[0])) for stage in model.stages]
    if isinstance(model, CloFormer):
        fine = [(stage[-1], lambda _, output: _cube(output[1])) for stage in model.stages[:-1]]
        return [*fine, (model.norm, lambda _, output: _cube(output))]
    return [(stage, lambda _, output: _cube(output)) for stage in model.stages]


def _mvit_taps(model: MViT) -> list[tuple[nn.Module, Pick]]:
    spec = model.spec
    last = {block.stage: module for block, module in zip(spec.blocks, model.blocks, strict=True)}

    def out_of(_: tuple[Any, ...], output: Any) -> Level:
        return Level(output[0], tuple(output[1]), int(spec.class_token))

    def into(inputs: tuple[Any, ...], _: Any) -> Level:
        return Level(inputs[0], tuple(inputs[1]), int(spec.class_token))

    *fine, coarsest = last.values()
    # A head that reads the class token knows the other tokens from the last block's attention alone.
    reads_token = spec.class_token and not spec.mean_pooling
    return [*((block, out_of) for block in fine), (coarsest, into if reads_token else out_of)]


def _cube(tensor: Tensor) -> Level:
    return Level(tensor, tuple(tensor.shape[1:4]))
