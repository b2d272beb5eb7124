"""Convolutions on a cube of tokens.

A cube is (B, T, H, W, C), channels last in memory. The same memory read as frames (B*T, C, H, W) is
a channels-last batch of images, and read as tokens (B, T*H*W, C) it is what linear layers and
attention want: nothing is copied between the three.

Depthwise 3D convolutions are slow to train everywhere (pytorch#37406, #34089), so time is folded
into the batch for the spatial part and a second depthwise convolution with 3 taps runs along time.
The taps start as the identity: a 2D kernel keeps its meaning, and a clip that stands still gives
what its frame gives.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mvit_video.layers.pooling import depthwise_conv3d
from mvit_video.layers.recomputed import recomputed
from mvit_video.layers.temporal import TemporalPadding, pad_time, temporal_padding, temporal_taps

DepthwiseTime = Literal["taps", "full", "none"]


def to_frames(cube: Tensor) -> Tensor:
    """(B, T, H, W, C) -> (B*T, C, H, W), a view where the cube is contiguous."""
    return cube.flatten(0, 1).permute(0, 3, 1, 2)


def to_cube(frames: Tensor, num_frames: int) -> Tensor:
    """(B*T, C, H, W) -> (B, T, H, W, C), a view."""
    return frames.permute(0, 2, 3, 1).unflatten(0, (-1, num_frames))


class CubeConv(nn.Conv3d):
    """Dense convolution of a clip (B, C, T, H, W) into a cube (B, ceil(T/stride_t), H', W', C'): a
    cube embedding.

    Space is zero-padded by half a kernel, time by `temporal_padding`. With kernel 1 in time it is
    the 2D convolution of every frame.
    """

    def __init__(
        self,
        in_width: int,
        width: int,
        kernel: tuple[int, int],
        stride: tuple[int, int],
        padding: TemporalPadding = "zero",
        bias: bool = True,
    ) -> None:
        """`kernel` and `stride` are (time, space)."""
        super().__init__(
            in_width,
            width,
            (kernel[0], kernel[1], kernel[1]),
            (stride[0], stride[1], stride[1]),
            padding=(0, kernel[1] // 2, kernel[1] // 2),
            bias=bias,
        )
        self.time_padding = padding

    def forward(self, clip: Tensor) -> Tensor:
        before, after = temporal_padding(clip.shape[2], self.kernel_size[0], self.stride[0])
        clip = pad_time(clip, before, after, self.time_padding)
        # A channels-last weight makes the output channels-last: no transposing copy.
        weight = self.weight.contiguous(memory_format=torch.channels_last_3d)
        cube = F.conv3d(clip, weight, self.bias, self.stride, self.padding)
        return cube.permute(0, 2, 3, 4, 1)


class FrameConv(nn.Conv2d):
    """Dense k x k convolution of every frame of a cube, zero-padded by half a kernel."""

    def __init__(
        self, in_width: int, width: int, kernel: int, stride: int = 1, bias: bool = True
    ) -> None:
        super().__init__(in_width, width, kernel, stride, padding=kernel // 2, bias=bias)

    def forward(self, cube: Tensor) -> Tensor:
        return to_cube(super().forward(to_frames(cube)), cube.shape[1])


class DepthwiseConv(nn.Module):
    """Depthwise k x k convolution of every frame of a cube, then (`time="taps"`) 3 taps along time
    that start as the identity.

    `time="full"` is one (3, k, k) kernel whose outer taps start at zero, `time="none"` leaves time
    alone. Parameters: `weight` (C, 1, k, k), or (C, 1, 3, k, k) if full; `bias` (C,); `taps` (C, 1,
    3, 1), without bias.
    """

    def __init__(
        self,
        width: int,
        kernel: int,
        stride: int = 1,
        bias: bool = True,
        time: DepthwiseTime = "taps",
        padding: TemporalPadding = "zero",
    ) -> None:
        super().__init__()
        self.width, self.kernel, self.stride = width, kernel, stride
        self.time, self.padding = time, padding
        kernel_shape = (3, kernel, kernel) if time == "full" else (kernel, kernel)
        self.weight = nn.Parameter(torch.zeros(width, 1, *kernel_shape))
        self.bias = nn.Parameter(torch.zeros(width)) if bias else None
        self.taps = nn.Parameter(torch.zeros(width, 1, 3, 1)) if time == "taps" else None
        self.reset_parameters()

    @property
    def spatial(self) -> Tensor:
        """The (C, 1, k, k) part of the weight that reads the frame itself."""
        return self.weight[:, :, 1] if self.time == "full" else self.weight

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """PyTorch's default for a 2D convolution in space, the identity in time."""
        bound = 1 / self.kernel
        nn.init.zeros_(self.weight)
        nn.init.uniform_(self.spatial, -bound, bound)
        if self.bias is not None:
            nn.init.uniform_(self.bias, -bound, bound)
        if self.taps is not None:
            nn.init.zeros_(self.taps)
            self.taps[:, :, 1] = 1

    def forward(self, cube: Tensor) -> Tensor:
        if self.time == "full":
            return self._convolve_cube(cube)
        frames = F.conv2d(
            to_frames(cube),
            self.weight,
            self.bias,
            self.stride,
            self.kernel // 2,
            groups=self.width,
        )
        cube = to_cube(frames, cube.shape[1])
        return cube if self.taps is None else temporal_taps(cube, self.taps, self.padding)

    def _convolve_cube(self, cube: Tensor) -> Tensor:
        steps, side = 1, self.kernel // 2
        if self.padding == "replicate":
            cube, steps = torch.cat((cube[:, :1], cube, cube[:, -1:]), dim=1), 0
        stride, padding = (1, self.stride, self.stride), (steps, side, side)
        return depthwise_conv3d(cube, self.weight, self.bias, stride, padding)

    def extra_repr(self) -> str:
        return f"{self.width}, kernel={self.kernel}, stride={self.stride}, time={self.time}"


class ConvNorm(nn.Module):
    """Convolution into a cube, BatchNorm, activation."""

    def __init__(self, conv: nn.Module, width: int, activation: nn.Module | None = None) -> None:
        super().__init__()
        self.conv = conv
        self.norm = nn.BatchNorm2d(width)
        self.activation = activation or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        cube = self.conv(x)
        return self.activation(to_cube(self.norm(to_frames(cube)), cube.shape[1]))


class FrameNorm(nn.Module):
    """GroupNorm with one group on a cube: statistics over space and channels, then a scale and a
    shift per channel.

    Args:
        scope: "frame" takes the statistics of every frame for itself, as the image model does;
            "clip" over all frames together.
    """

    def __init__(self, width: int, scope: Literal["frame", "clip"] = "frame") -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.scope = scope

    def reset_parameters(self) -> None:
        """Scale 1, shift 0."""
        nn.init.ones_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, cube: Tensor) -> Tensor:
        shape = cube.shape[2:] if self.scope == "frame" else cube.shape[1:]
        normed = recomputed(F.layer_norm, cube, shape)
        return torch.addcmul(self.bias, normed, self.weight)


def average_pool(cube: Tensor, steps: int, side: int, ceil_mode: bool = False) -> Tensor:
    """Average of a cube (B, T, H, W, C) over windows of `steps` x `side` x `side` that do not
    overlap, at most T steps.

    What is left over at the far ends is dropped, or with `ceil_mode` averaged over the tokens there
    are.
    """
    num_frames, steps = cube.shape[1], min(steps, cube.shape[1])
    if side > 1:
        frames = F.avg_pool2d(to_frames(cube), side, ceil_mode=ceil_mode, count_include_pad=False)
        cube = to_cube(frames, num_frames)
    if steps > 1:
        plane = cube.flatten(2, 3).permute(0, 3, 1, 2)
        plane = F.avg_pool2d(plane, (steps, 1), ceil_mode=ceil_mode, count_include_pad=False)
        cube = plane.permute(0, 2, 3, 1).unflatten(2, cube.shape[2:4])
    return cube


def init_convolution_(conv: nn.Module, groups: int | None = None) -> None:
    """Normal weights of variance 2 / (outputs per input), He et al. 2015 by fan-out; zero bias.

    Args:
        conv: a convolution of this file, or a linear layer standing for a 1 x 1 convolution.
        groups: divides the fan-out; the convolution's own number when not given.
    """
    weight = conv.spatial if isinstance(conv, DepthwiseConv) else conv.weight
    own_groups = conv.width if isinstance(conv, DepthwiseConv) else 1
    fan_out = len(weight) * math.prod(weight.shape[2:]) // (groups or own_groups)
    with torch.no_grad():
        nn.init.normal_(weight, std=math.sqrt(2 / fan_out))
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
