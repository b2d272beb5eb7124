"""From pixels to tokens."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mvit_video.layers.temporal import TemporalPadding, pad_time

Grid = tuple[int, int, int]


class CubeEmbedding(nn.Module):
    """A clip cut into overlapping cubes, each embedded as one token: a strided 3D convolution.

    An image is a clip of one frame: a temporal kernel and stride of 1 make this a patch embedding.
    """

    def __init__(
        self,
        in_channels: int,
        dim: int,
        kernel: Grid,
        stride: Grid,
        padding: Grid,
        temporal_padding: TemporalPadding = "zero",
    ) -> None:
        super().__init__()
        self.proj = nn.Conv3d(in_channels, dim, kernel, stride, padding)
        self.temporal_padding = temporal_padding

    def forward(self, clip: Tensor) -> tuple[Tensor, Grid]:
        """clip (B, 3, T, H, W) -> tokens (B, N, C) in the order of their grid, and the grid (T', H', W')."""
        conv = self.proj
        # A channels-last weight makes the output channels-last, which is how tokens lie: no
        # transposing copy.
        weight = conv.weight.contiguous(memory_format=torch.channels_last_3d)
        padding = conv.padding
        if self.temporal_padding == "replicate":
            clip = pad_time(clip, padding[0], padding[0], "replicate")
            padding = (0, *padding[1:])
        cube = F.conv3d(clip, weight, conv.bias, conv.stride, padding)
        # What blocks add up stays in the parameters' dtype under autocast, class token or not.
        return cube.flatten(2).transpose(1, 2).to(weight.dtype), tuple(cube.shape[2:])
