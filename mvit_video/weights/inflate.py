"""Convolutions of image models in video models, and back.

Let x be an image and x, x, ... a clip that stands still. The promise of inflation is that the video
model gives for the clip what the image model gives for x. It is kept, to rounding, where every output
of every convolution sums its taps over real frames only:

* centre: the image kernel sits in the tap that reads the frame itself, the others are zero. Exact with
  any padding in time.
* mean: every tap is the kernel divided by their number. Exact only where time is padded by repeating
  the border frame; with zeros the borders lose a share.

Not exact with a class token: as a key it counts once, while each patch counts once per time step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class Inflation:
    """How image weights become video weights; recorded in what they are converted into.

    Attributes:
        init: where a kernel goes along time.
        time_padding: what the video model's convolutions read beyond the clip.
    """

    init: Literal["centre", "mean"] = "centre"
    time_padding: Literal["zero", "replicate"] = "zero"


CENTRE = Inflation()


def change_time(weight: Tensor, wanted: Sequence[int], inflation: Inflation) -> Tensor | None:
    """A convolution's weight with another kernel along time.

    Args:
        weight: (O, I, kh, kw) or (O, I, kt, kh, kw).
        wanted: shape to reach, of either form.
        inflation: used from one tap to several. From several to one the taps are summed, which is what
            a clip that stands still sees of them away from its borders.

    Returns:
        The weight in the wanted shape, None where more than the kernel along time differs.
    """
    if weight.ndim not in (4, 5) or len(wanted) not in (4, 5):
        return None
    cube = weight if weight.ndim == 5 else weight[:, :, None]
    outer, inner = tuple(wanted[:2]), tuple(wanted[-2:])
    if (tuple(cube.shape[:2]), tuple(cube.shape[-2:])) != (outer, inner):
        return None
    taps, wanted_taps = cube.shape[2], wanted[2] if len(wanted) == 5 else 1
    if taps != wanted_taps:
        if wanted_taps == 1:
            cube = cube.sum(dim=2, keepdim=True)
        elif taps == 1:
            cube = _spread(cube, wanted_taps, inflation.init)
        else:
            return None
    return cube.reshape(tuple(wanted))


def _spread(cube: Tensor, taps: int, init: str) -> Tensor:
    if init == "mean":
        return cube.repeat(1, 1, taps, 1, 1) / taps
    inflated = torch.zeros_like(cube).repeat(1, 1, taps, 1, 1)
    inflated[:, :, taps // 2] = cube[:, :, 0]
    return inflated
