"""Positions: learned absolute tables over a grid, relative tables per axis, both at any grid size.

A table is stored at the size its model was specified for. At that size it is used as it is, to the
bit; at another it is interpolated linearly. In eval what was computed is kept (`EvalCache`).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

import torch
import torch.nn.functional as F
from torch import Tensor

Grid = tuple[int, int, int]


def separable_positions(spatial: Tensor, temporal: Tensor, grid: Grid, thw: Grid) -> Tensor:
    """Sum of a spatial and a temporal table, spread over `thw`.

    Args:
        spatial: (1, H * W, C) table of the specified grid.
        temporal: (1, T, C) likewise.
        grid: (T, H, W) the tables were made for.
        thw: grid wanted.

    Returns:
        (1, T' * H' * W', C), time-major.
    """
    space = resize_grid(spatial, (1, *grid[1:]), (1, *thw[1:]))
    time = resize_grid(temporal, (grid[0], 1, 1), (thw[0], 1, 1))
    return (time[:, :, None] + space[:, None]).flatten(1, 2)


def resize_grid(table: Tensor, grid: Grid, thw: Grid) -> Tensor:
    """Trilinear interpolation of a (1, T * H * W, C) table from `grid` to `thw`.

    That is what SlowFast's `_get_pos_embed` holds, behind an assertion that keeps it from running.
    """
    if tuple(grid) == tuple(thw):
        return table
    cube = table.unflatten(1, grid).permute(0, 4, 1, 2, 3)
    cube = F.interpolate(_at_least_float32(cube), size=tuple(thw), mode="trilinear")
    return cube.permute(0, 2, 3, 4, 1).flatten(1, 3).to(table.dtype)


def relative_vectors(table: Tensor, num_queries: int, num_keys: int) -> Tensor:
    """Relative position vectors of every pair of a query's and a key's index along one axis.

    Distances are counted on the finer of the two axes and truncated, and a table of another length
    than 2 * max(num_queries, num_keys) - 1 is interpolated, both as SlowFast's attention does (so
    does the published MViTv2-L at 312 pixels, whose convolutions round up where its table sizes
    rounded down).

    Args:
        table: (L, d), learned.

    Returns:
        (num_queries, num_keys, d).
    """
    length = 2 * max(num_queries, num_keys) - 1
    if table.shape[0] != length:
        resized = F.interpolate(_at_least_float32(table).T[None], size=length, mode="linear")
        table = resized[0].T.to(table.dtype)
    return table[relative_index(num_queries, num_keys, table.device)]


def relative_index(num_queries: int, num_keys: int, device: torch.device | None = None) -> Tensor:
    """Row of the relative table for each pair of indices along one axis: (num_queries, num_keys),
    int64.

    Computed in float32 and in SlowFast's order of operations: where one size does not divide the
    other, rounding decides.
    """
    q_step = max(num_keys / num_queries, 1.0)
    k_step = max(num_queries / num_keys, 1.0)
    q = torch.arange(num_queries, dtype=torch.float32, device=device)[:, None] * q_step
    k = torch.arange(num_keys, dtype=torch.float32, device=device)[None, :] * k_step
    return (q - k + (num_keys - 1) * k_step).long()


def _at_least_float32(table: Tensor) -> Tensor:
    """Half-precision interpolation is missing on some devices, and loses digits on all."""
    return table.to(torch.promote_types(table.dtype, torch.float32))


class EvalCache:
    """Keeps what is computed from learned tables while they cannot change: grad off, tables
    unmodified.

    An entry is used only for the very tensors it was made from, in the same version, dtype and
    device, so an optimiser step, a loaded state dict or a move makes it stale by itself. A module
    that holds one clears it in `train()`. Nothing is kept under torch.compile (which would bake it
    in) or for inference tensors (which have no version).
    """

    def __init__(self) -> None:
        self._entries: dict[Hashable, tuple[Hashable, object]] = {}

    def get(
        self, key: Hashable, tables: tuple[Tensor | None, ...], compute: Callable[[], object]
    ) -> object:
        """`compute()`, or what it gave before for this key and these tables."""
        used = [table for table in tables if table is not None]
        if (
            torch.compiler.is_compiling()
            or torch.is_grad_enabled()
            or any(table.is_inference() for table in used)
        ):
            return compute()
        state = tuple((t.data_ptr(), t._version, t.dtype, t.device, tuple(t.shape)) for t in used)
        entry = self._entries.get(key)
        if entry is None or entry[0] != state:
            entry = self._entries[key] = (state, compute())
        return entry[1]

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()

    def __deepcopy__(self, memo: dict) -> EvalCache:
        return EvalCache()

    def __reduce__(self) -> tuple:
        return EvalCache, ()
