"""Position tables at another size, and convolutions between images and video.

Space is interpolated bicubically and relative and temporal tables linearly, as SlowFast does when it
loads a table of another length.
"""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

from mvit_video.errors import InputError


def resize_length(table: Tensor, length: int) -> Tensor:
    """A (L, d) table at another length, linearly."""
    columns = F.interpolate(table.float().T[None], size=length, mode="linear")
    return columns[0].T.contiguous().to(table.dtype)


def resize_plane(table: Tensor, size: tuple[int, int], wanted: tuple[int, int]) -> Tensor:
    """A (1, H * W, C) table of `size` (H, W) at `wanted` size, bicubically."""
    plane = table.float().unflatten(1, size).permute(0, 3, 1, 2)
    plane = F.interpolate(plane, size=wanted, mode="bicubic")
    return plane.permute(0, 2, 3, 1).flatten(1, 2).contiguous().to(table.dtype)


def square_side(num_tokens: int, what: str) -> int:
    """Side of a square grid of `num_tokens`.

    Raises:
        InputError: it is not square; `what` names the table.
    """
    side = math.isqrt(num_tokens)
    if side * side != num_tokens:
        raise InputError(
            f"{what} has {num_tokens} positions, which is no square; a table for a non-square frame cannot be resized "
            "without knowing its height and width"
        )
    return side
