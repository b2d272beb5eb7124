"""The feed-forward half of a block, and stochastic depth."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mvit_video.layers.pieces import in_pieces
from mvit_video.layers.recomputed import recomputed


class Mlp(nn.Module):
    """Linear, activation, linear, each followed by dropout: (..., dim) -> (..., dim_out)."""

    def __init__(
        self,
        dim: int,
        hidden: int,
        dim_out: int | None = None,
        dropout: float = 0.0,
        activation: Callable[[Tensor], Tensor] = F.gelu,
    ) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim_out or dim)
        self.activation = activation
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return in_pieces(self._forward, x, self.fc1.out_features)

    def _forward(self, x: Tensor) -> Tensor:
        x = recomputed(self.activation, self.fc1(x))
        return self.dropout(self.fc2(self.dropout(x)))


class DropPath(nn.Module):
    """Stochastic depth (Huang et al., 2016): in training a sample's branch is dropped with
    probability `rate`.

    What is kept is scaled by 1 / (1 - rate). The choice comes from torch's global generator and is
    drawn in float32 whatever the dtype of x: in half precision 1 - rate + uniform rounds up to 1
    too often.
    """

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0.0:  # in eval, compiled blocks of any rate are one
            return x
        keep = 1.0 - self.rate
        shape = (x.shape[0],) + (1,) * (x.ndim - 1)
        kept = torch.rand(shape, dtype=torch.float32, device=x.device) < keep
        return x * (kept / keep).to(x.dtype)

    def extra_repr(self) -> str:
        return f"rate={self.rate:.3g}"
