"""Multi-head attention on plain tokens."""

from __future__ import annotations

from torch import Tensor

from mvit_video.layers.attention import LowRankBias, attention


def multi_head(
    q: Tensor, k: Tensor, v: Tensor, heads: int, bias: LowRankBias | None = None
) -> Tensor:
    """Attention between token sequences whose channels hold `heads` heads side by side.

    Args:
        q: (B, N, C) queries.
        k, v: (B, M, C) keys and values.
        bias: as `attention` takes it.

    Returns:
        (B, N, C).
    """
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    return attention(q, k, v, bias).transpose(1, 2).flatten(2)
