"""Layer scale (CaiT, arXiv 2103.17239, section 2.1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LayerScale(nn.Module):
    """A learned factor per channel on a residual branch, small at first."""

    def __init__(self, width: int, start: float) -> None:
        super().__init__()
        self.start = start
        self.weight = nn.Parameter(torch.empty(width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Every channel's factor as it starts."""
        nn.init.constant_(self.weight, self.start)

    def forward(self, branch: Tensor) -> Tensor:
        return self.weight * branch
