"""Rotation, shear and translation of uint8 clips, equal to Pillow's.

All frames and channels of a clip move alike, so an affine map is one sparse matrix (H*W, H*W) that is applied to
3 * T columns: every output pixel is a weighted sum of 1, 4 or 16 input pixels. `embedding_bag` is just that, and
on CPU 15 times faster than `grid_sample`, whose bicubic kernel (a = -0.75) is another than Pillow's (a = -1)
besides.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

FILL = 128.0  # what comes in from outside the frame
INTERPOLATIONS = ("bicubic", "bilinear")

# Output (x, y) is taken from input (a x + b y + c, d x + e y + f), in pixels from the frame's corner.
_Matrix = tuple[float, float, float, float, float, float]


def rotate(clip: Tensor, degrees: float, interpolation: str) -> Tensor:
    """Counter-clockwise about the centre, same size; clip (3, T, H, W) uint8."""
    height, width = clip.shape[-2:]
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    x, y = width / 2, height / 2
    return _affine(
        clip, (cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y), interpolation
    )


def shear(clip: Tensor, x: float, y: float, interpolation: str) -> Tensor:
    """Row r is read r * x pixels further right, column c is read c * y pixels further down."""
    return _affine(clip, (1, x, 0, y, 1, 0), interpolation)


def translate(clip: Tensor, x: float, y: float, interpolation: str) -> Tensor:
    """Every pixel is read x frame widths further right and y frame heights further down."""
    height, width = clip.shape[-2:]
    return _affine(clip, (1, 0, x * width, 0, 1, y * height), interpolation)


def _affine(clip: Tensor, matrix: _Matrix, interpolation: str) -> Tensor:
    channels, frames, height, width = clip.shape
    a, b, c, d, e, f = matrix
    # float64 keeps the inside test and the weights the same on every device.
    x = torch.arange(width, device=clip.device, dtype=torch.float64) + 0.5
    y = torch.arange(height, device=clip.device, dtype=torch.float64)[:, None] + 0.5
    from_x, from_y = (a * x + b * y + c).flatten(), (d * x + e * y + f).flatten()
    inside = (from_x >= 0) & (from_x < width) & (from_y >= 0) & (from_y < height)
    # A coordinate that maps to itself needs one tap: shears and translations then sum 4 pixels instead of 16.
    column, column_weight = _taps(
        from_x, width, "none" if (a, b, c) == (1, 0, 0) else interpolation
    )
    row, row_weight = _taps(from_y, height, "none" if (d, e, f) == (0, 1, 0) else interpolation)
    pixel = (row[:, None] * width + column).flatten(0, 1)  # (taps, H*W)
    weight = (row_weight[:, None] * inside * column_weight).flatten(0, 1)

    pixels = clip.reshape(channels * frames, -1).t().contiguous().float()  # (H*W, 3*T)
    moved = F.embedding_bag(
        pixel.t().contiguous(), pixels, per_sample_weights=weight.t().contiguous(), mode="sum"
    )
    # Pillow cuts fractions off; the small addition keeps sums such as 127.99999 of an even area at 128.
    moved += torch.where(inside, 0.0, FILL).float()[:, None] + 1e-3
    moved = moved.clamp_(0, 255).to(torch.int16).to(torch.uint8)
    return moved.t().contiguous().view_as(clip)


def _taps(position: Tensor, size: int, interpolation: str) -> tuple[Tensor, Tensor]:
    """Input pixels that the positions (N,) lie among, clamped to the frame, and their weights: both (taps, N).

    int32 and float32, because with 16 taps a pixel it is their bytes that take the time.
    """
    if interpolation == "none":
        return position.int()[None], torch.ones_like(position, dtype=torch.float32)[None]
    first = torch.floor(position - 0.5)
    t = (position - 0.5 - first).float()  # 0 ... 1 between pixel `first` and the next
    if interpolation == "bilinear":
        offsets, weights = (0, 1), (1 - t, t)
    else:  # cubic convolution with a = -1
        offsets = (-1, 0, 1, 2)
        weights = (
            t * (-1 + t * (2 - t)),
            1 + t * t * (t - 2),
            t * (1 + t * (1 - t)),
            t * t * (t - 1),
        )
    pixel = first.int() + torch.tensor(offsets, dtype=torch.int32, device=position.device)[:, None]
    return pixel.clamp_(0, size - 1), torch.stack(weights)
