"""What every model says about its feature pyramid, and the model that returns it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class FeatureInfo:
    """One level of a model's feature pyramid.

    Attributes:
        channels: C of the level's (B, C, T, H, W).
        stride: input frames and pixels per step of the level, along T, H, W.
    """

    channels: int
    stride: tuple[int, int, int]


class FeaturePyramid(nn.Module):
    """A model that returns its pyramid, for those who build detectors or segmenters on top.

    Wraps any model with `forward_pyramid(clip) -> list[Tensor]` and `feature_info`.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    @property
    def feature_info(self) -> tuple[FeatureInfo, ...]:
        """Channels and stride of each level, finest first."""
        return self.model.feature_info

    def forward(self, clip: Tensor) -> list[Tensor]:
        """clip (B, 3, T, H, W), or (B, 3, H, W) for an image model -> one (B, C, T', H', W') per stage."""
        return self.model.forward_pyramid(clip)
