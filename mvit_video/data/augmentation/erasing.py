"""Random erasing (Zhong et al., arXiv 1708.04896) of clips: one box for all frames, fresh noise in each.

The box is drawn per sample in the loader. The noise is computed where the clip is, by a counter-based generator in
integer arithmetic, so that it neither travels nor depends on the device.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

MODES = ("pixel", "rand", "const")
Box = tuple[int, int, int, int]  # top, left, height, width

_TRIES = 100


@dataclass(frozen=True)
class RandomErasing:
    """What is erased.

    Attributes:
        probability: share of the clips that something is erased from.
        mode: "pixel" fills with normal noise, "rand" with one normal colour per frame, "const" with the mean (0).
        count: most boxes of a clip; their number is drawn from 1 ... count.
        area: least and most share of the frame that all boxes together are aimed at.
        aspect: least and most height / width of a box, drawn log-uniformly.
    """

    probability: float = 0.25
    mode: str = "pixel"
    count: int = 1
    area: tuple[float, float] = (0.02, 1 / 3)
    aspect: tuple[float, float] = (0.3, 1 / 0.3)

    def draw(self, rng: np.random.Generator, height: int, width: int) -> tuple[Box, ...]:
        """Boxes inside a frame of height x width pixels; none where chance leaves the clip whole."""
        if rng.random() >= self.probability:
            return ()
        boxes = []
        count = int(rng.integers(1, self.count + 1))
        for _ in range(count):
            for _ in range(_TRIES):  # a long box drawn large may not fit: draw again
                area = rng.uniform(*self.area) * height * width / count
                aspect = math.exp(rng.uniform(*np.log(self.aspect)))
                h, w = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
                if 0 < h < height and 0 < w < width:
                    top = int(rng.integers(0, height - h + 1))
                    left = int(rng.integers(0, width - w + 1))
                    boxes.append((top, left, h, w))
                    break
        return tuple(boxes)


def erase(clip: Tensor, boxes: tuple[Box, ...], mode: str, key: int) -> None:
    """Fills `boxes` of a normalised clip (C, T, H, W) in place; `key` (0 ... 2**63 - 1) decides the noise."""
    for number, (top, left, height, width) in enumerate(boxes):
        region = clip[..., top : top + height, left : left + width]
        if mode == "const":
            region.zero_()
        else:
            shape = region.shape if mode == "pixel" else (*region.shape[:2], 1, 1)
            noise = normal_noise(key + number, math.prod(shape), clip.device)
            region.copy_(noise.view(shape))


def normal_noise(key: int, count: int, device: torch.device) -> Tensor:
    """`count` standard normal numbers (float32), the same bits on every device.

    SplitMix64 turns a counter into random bits; each 16 of them pick one of 4096 quantiles, 3.7 standard deviations
    at the ends.
    """
    z = torch.arange(1, (count + 3) // 4 + 1, device=device, dtype=torch.int64)
    z = z * _signed(0x9E3779B97F4A7C15) + _signed((key * 0xD1342543DE82EF95) % 2**64)
    z = (z ^ _shift(z, 30)) * _signed(0xBF58476D1CE4E5B9)
    z = (z ^ _shift(z, 27)) * _signed(0x94D049BB133111EB)
    z = z ^ _shift(z, 31)
    bits = z.view(torch.int16)[:count].int() & 4095
    middles = (torch.arange(4096, dtype=torch.float64) + 0.5) / 4096
    quantiles = torch.special.ndtri(middles).float()
    return quantiles.to(device)[bits]


def _shift(z: Tensor, by: int) -> Tensor:
    """Logical shift to the right; torch's own keeps the sign."""
    return (z >> by) & ((1 << (64 - by)) - 1)


def _signed(value: int) -> int:
    """A 64-bit pattern as the int64 of the same bits."""
    return value - 2**64 if value >= 2**63 else value
