"""Where to cut frames, and cutting them: boxes from a generator, crops and resizes of uint8 frames.

Frames are (F, H, W, 3) uint8, channels last in memory, as decoders give them. Resizing is bilinear without
antialiasing on uint8, within one level of SlowFast's float arithmetic and eight times as fast; a training crop is
cut before it is resized, so that only pixels that are kept are computed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels of a frame."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True)
class TrainCrop:
    """How training crops are drawn.

    Attributes:
        size: side of the crop in pixels after resizing.
        short_sides: least and most short side that a frame is scaled to before a crop of `size` is cut from it.
        area, aspect: least and most share of the frame's area, and width over height, of an Inception crop, which then
            takes the place of the short-side jitter; None for the jitter.
        flip: mirror half of the clips.
        inverse: draw the inverse of the short side evenly instead of the short side.
    """

    size: int
    short_sides: tuple[int, int]
    area: tuple[float, float] | None
    aspect: tuple[float, float]
    flip: bool
    inverse: bool = False

    def draw(self, height: int, width: int, rng: np.random.Generator) -> tuple[Box, bool]:
        """Box for frames of this size, and whether to mirror the clip."""
        if self.area is None:
            box = short_side_jitter_box(
                height, width, self.size, self.short_sides, rng, self.inverse
            )
        else:
            box = inception_box(height, width, self.area, self.aspect, rng)
        return box, self.flip and bool(rng.random() < 0.5)


def inception_box(
    height: int,
    width: int,
    area: tuple[float, float],
    aspect: tuple[float, float],
    rng: np.random.Generator,
) -> Box:
    """A box of random area and aspect (Szegedy et al. 2015), uniform in area and in the logarithm of the aspect.

    After ten boxes that do not fit it is the largest centred one of allowed aspect, as in torchvision and SlowFast.
    """
    for _ in range(10):
        target = height * width * rng.uniform(*area)
        ratio = math.exp(rng.uniform(math.log(aspect[0]), math.log(aspect[1])))
        box_width, box_height = round(math.sqrt(target * ratio)), round(math.sqrt(target / ratio))
        if 0 < box_width <= width and 0 < box_height <= height:
            return _place(height, width, box_height, box_width, rng)
    ratio = min(max(width / height, aspect[0]), aspect[1])
    box_width, box_height = min(width, round(height * ratio)), min(height, round(width / ratio))
    return Box((height - box_height) // 2, (width - box_width) // 2, box_height, box_width)


def short_side_jitter_box(
    height: int,
    width: int,
    size: int,
    short_sides: tuple[int, int],
    rng: np.random.Generator,
    inverse: bool = False,
) -> Box:
    """What a random crop of `size` shows of a frame whose short side was scaled to a length from `short_sides`.

    The length is even between the two, or (`inverse`, SlowFast's INV_UNIFORM_SAMPLE) its inverse is.
    """
    if inverse:
        short_side = round(1 / rng.uniform(1 / short_sides[1], 1 / short_sides[0]))
    else:
        short_side = round(rng.uniform(*short_sides))
    side = max(round(size * min(height, width) / short_side), 1)
    return _place(height, width, side, side, rng)


def _place(
    height: int, width: int, box_height: int, box_width: int, rng: np.random.Generator
) -> Box:
    top = int(rng.integers(0, height - box_height, endpoint=True))
    left = int(rng.integers(0, width - box_width, endpoint=True))
    return Box(top, left, box_height, box_width)


def crop_and_resize(frames: Tensor, box: Box, size: int) -> Tensor:
    """(F, H, W, 3) uint8 -> (F, size, size, 3): `box` cut out and scaled to a square."""
    cut = frames[:, box.top : box.top + box.height, box.left : box.left + box.width]
    return resize(cut, size, size)


def resize(frames: Tensor, height: int, width: int) -> Tensor:
    """(F, H, W, 3) uint8 -> (F, height, width, 3)."""
    if frames.shape[1:3] == (height, width):
        return frames
    channels_first = frames.permute(0, 3, 1, 2)  # a channels-last view: the fast uint8 path
    scaled = F.interpolate(
        channels_first, (height, width), mode="bilinear", align_corners=False, antialias=False
    )
    return scaled.permute(0, 2, 3, 1)


def scaled_size(height: int, width: int, short_side: int) -> tuple[int, int]:
    """Size with the short side at `short_side`, the long one rounded down (SlowFast)."""
    if height <= width:
        return short_side, width * short_side // height
    return height * short_side // width, short_side


def crop_corners(height: int, width: int, size: int, num_crops: int) -> Tensor:
    """(S, 2) top and left of test crops: the centre one, or three along the long side, first to last.

    The centre is rounded up, as in SlowFast's uniform_crop.
    """
    centre = (math.ceil((height - size) / 2), math.ceil((width - size) / 2))
    if num_crops == 1:
        return torch.tensor([centre])
    if height > width:
        return torch.tensor([(0, centre[1]), centre, (height - size, centre[1])])
    return torch.tensor([(centre[0], 0), centre, (centre[0], width - size)])
