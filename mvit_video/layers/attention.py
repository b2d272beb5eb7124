"""One attention function for every model here: softmax(scale q kᵀ + a bᵀ) v, with nothing of size N
x M kept.

The idea: an additive bias that can be written as a product a bᵀ of narrow matrices needs no mask.
Append a to the query and b to the scaled key, and the plain dot product *is* the biased logit, so
that `scaled_dot_product_attention` runs its fused kernels. Two biases used here have that form:

* decomposed relative positions (MViTv2, section 3.1): q.Rt[t, t'] + q.Rh[h, h'] + q.Rw[w, w']. a
  holds the three short
  rows q.Rt, q.Rh, q.Rw of each query; b holds, for each key, one-hot rows that pick its own t', h'
  and w';
* one number per key (the log of how many tokens a key stands for): a is 1 and b is that number.

Letters in shapes: B batch, n heads, N queries, M keys, d head width, E bias width, thw = (T, H, W)
a token grid.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mvit_video.layers.recomputed import recomputed

Grid = tuple[int, int, int]
LowRankBias = tuple[Tensor, Tensor]

# Fused kernels on GPUs want head widths in multiples of 8; on CPU 118, 120 and 128 run within noise
# of each other.
_WIDTH_MULTIPLE = 8


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: LowRankBias | None = None,
    scale: float | None = None,
) -> Tensor:
    """Attention with an optional additive low-rank bias on the logits.

    Args:
        q: (B, n, N, d) queries.
        k: (B, n, M, d) keys.
        v: (B, n, M, dv) values.
        bias: (a, b) of (B, n, N, E) and (B, n, M, E), or shapes that broadcast to them; logits gain
        a bᵀ, unscaled.
        scale: factor on q kᵀ; d ** -0.5 when not given.

    Returns:
        (B, n, N, dv).
    """
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    if bias is None:
        return F.scaled_dot_product_attention(q, k, v, scale=scale)
    a, b = bias
    value_width = v.shape[-1]
    width = max(q.shape[-1] + a.shape[-1], value_width)
    width += -width % _WIDTH_MULTIPLE
    # The scale goes on the key, which pooling has made the shorter of the two.
    q, k = recomputed(_append, q, a, width), _append(k * scale, b, width)
    # Equal widths, or the fused kernels refuse and the N x M matrix is back (2.3x the time on CPU).
    v = F.pad(v, (0, width - value_width))
    return F.scaled_dot_product_attention(q, k, v, scale=1.0)[..., :value_width]


def _append(x: Tensor, columns: Tensor, width: int) -> Tensor:
    """x (B, n, N, d) with `columns` and then zeros appended up to `width`."""
    columns = F.pad(columns.to(x.dtype), (0, width - x.shape[-1] - columns.shape[-1]))
    return torch.cat((x, columns.expand(*x.shape[:-1], -1)), dim=-1)


def key_bias(bias: Tensor) -> LowRankBias:
    """One additive number per key, for every query: `bias` (..., M) -> (a, b) for `attention`."""
    b = bias[..., None]
    return torch.ones_like(b[..., :1, :]), b


def relative_position_bias(
    q: Tensor,
    q_thw: Grid,
    tables: tuple[Tensor | None, ...],
    key_rows: Tensor,
    num_extra: int = 0,
) -> LowRankBias:
    """Decomposed relative positions (MViTv2, eq. 4) as a low-rank bias for `attention`.

    Args:
        q: (B, N, n, d) *unscaled* queries, N = num_extra + T * H * W.
        q_thw: the queries' grid.
        tables: (Rt, Rh, Rw), one (queries, keys, d) vector per pair of indices along each axis
            (`position.relative_vectors`), None for an axis without relative positions.
        key_rows: (M, E), the `one_hot_grid` of the keys with the axes that have a table.
        num_extra: tokens before the grid (the class token); they neither give nor receive a bias.

    Returns:
        a (B, n, N, E) and b (1, 1, M, E), E the summed key extents of the axes with a table.
    """
    batch, _, heads, width = q.shape
    t, h, w = q_thw
    q = q[:, num_extra:]
    a = []
    # (…, rows, d) @ (axis, d, keys): for time and height a view suffices, for width the axes are
    # swapped by a copy.
    if tables[0] is not None:
        rows = q.reshape(batch, t, h * w * heads, width) @ tables[0].mT
        a.append(rows.view(batch, t * h * w, heads, -1))
    if tables[1] is not None:
        rows = q.reshape(batch, t, h, w * heads, width) @ tables[1].mT
        a.append(rows.view(batch, t * h * w, heads, -1))
    if tables[2] is not None:
        rows = recomputed(_by_column, q, w)
        rows = (rows @ tables[2].mT).view(batch, w, t * h, -1).transpose(1, 2)
        a.append(rows.reshape(batch, t * h * w, heads, -1))
    a = F.pad(torch.cat(a, dim=-1), (0, 0, 0, 0, num_extra, 0))
    return a.transpose(1, 2), key_rows[None, None]


def _by_column(q: Tensor, w: int) -> Tensor:
    """(B, T * H * W, n, d) -> (B, W, T * H * n, d)."""
    return q.unflatten(1, (-1, w)).transpose(1, 2).flatten(2, 3)


def one_hot_grid(
    thw: Grid,
    axes: tuple[bool, ...] = (True, True, True),
    num_extra: int = 0,
    dtype: torch.dtype | None = None,
    device: torch.device | None = None,
) -> Tensor:
    """One-hot coordinates of each token of a grid: (num_extra + T * H * W, E), the extra tokens'
    rows zero.

    Only the axes asked for get columns; E is the sum of their extents.
    """
    columns = []
    for axis, (extent, wanted) in enumerate(zip(thw, axes, strict=True)):
        if wanted:
            shape = [1, 1, 1, extent]
            shape[axis] = extent
            eye = torch.eye(extent, dtype=dtype, device=device).view(shape)
            columns.append(eye.expand(*thw, extent))
    rows = torch.cat(columns, dim=-1).flatten(0, 2)
    return F.pad(rows, (0, 0, num_extra, 0))
