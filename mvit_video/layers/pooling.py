"""Pooling of token cubes: depthwise convolution, max, average.

Cubes are channels-last here, (B, T, H, W, C): that is how tokens lie in memory, so a cube is a view
of its tokens, heads are neighbouring channels, and nothing is permuted before or after. On CPU this
alone makes the depthwise convolution 3 to 6 times and the max pool 15 times as fast as the
channels-first, heads-in-the-batch form of the public code.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mvit_video.layers.recomputed import normalise
from mvit_video.layers.temporal import TemporalPadding, pad_time

Grid = tuple[int, int, int]


def depthwise_conv3d(
    cube: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sequence[int] = (1, 1, 1),
    padding: Sequence[int] | None = None,
) -> Tensor:
    """Depthwise 3D convolution of a channels-last cube.

    Args:
        cube: (B, T, H, W, C).
        weight: (c, 1, kt, kh, kw) with c dividing C; fewer filters than channels are shared by
        groups of c neighbouring
            channels (the heads of an attention layer).
        bias: (c,) or None.
        stride: along T, H, W.
        padding: zeros along T, H, W; half the kernel when not given.

    Returns:
        (B, T', H', W', C).
    """
    kernel = weight.shape[2:]
    padding = tuple(k // 2 for k in kernel) if padding is None else tuple(padding)
    device = cube.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        cube, weight = cube.to(dtype), weight.to(dtype)
    shared_by = cube.shape[-1] // weight.shape[0]
    if shared_by > 1:
        weight = weight.repeat(shared_by, 1, 1, 1, 1)
        bias = bias.repeat(shared_by) if bias is not None else None
    out = _DepthwiseConv3d.apply(cube, weight, tuple(stride), padding)
    return out if bias is None else out + bias


class _DepthwiseConv3d(torch.autograd.Function):
    """Forward as one 3D convolution, backward as a sum of 2D ones.

    Measured on CPU, float32, two threads, at the shapes of MViT's pools: channels-last, the 3D
    forward is 1.5 to 8 times as fast as a sum of 2D convolutions over temporal taps, and far ahead
    of shifted products or unfold. Its backward is the slow part: the same gradients as 2D
    convolutions on frames, one per temporal tap, take a fifth to a tenth of the time.
    """

    @staticmethod
    def forward(ctx, cube: Tensor, weight: Tensor, stride: Grid, padding: Grid) -> Tensor:
        ctx.save_for_backward(cube, weight)
        ctx.stride, ctx.padding = stride, padding
        # A cube cut from a fused projection is strided: kept as it is, it is kept once.
        x = cube.contiguous().permute(0, 4, 1, 2, 3)
        return F.conv3d(x, weight, None, stride, padding, groups=len(weight)).permute(0, 2, 3, 4, 1)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        cube, weight = ctx.saved_tensors
        cube = cube.contiguous()  # once for all the convolutions
        stride, padding = ctx.stride, ctx.padding
        wants_cube, wants_weight = ctx.needs_input_grad[:2]
        grad_cube = torch.zeros_like(cube) if wants_cube else None
        grad_weight = torch.zeros_like(weight) if wants_weight else None
        for tap in range(weight.shape[2]):
            # Output frame t reads input frame t * stride + shift through this tap.
            shift = tap - padding[0]
            first = max(0, math.ceil(-shift / stride[0]))
            last = min(grad.shape[1] - 1, (cube.shape[1] - 1 - shift) // stride[0])
            if last < first:
                continue
            read = slice(first * stride[0] + shift, last * stride[0] + shift + 1, stride[0])
            frames = cube[:, read]
            into_cube, into_weight, _ = torch.ops.aten.convolution_backward(
                _frames(grad[:, first : last + 1]), _frames(frames), weight[:, :, tap], None,
                stride[1:], padding[1:], (1, 1), False, (0, 0), len(weight),
                (wants_cube, wants_weight, False),
            )  # fmt: skip
            if wants_cube:
                grad_cube[:, read] += into_cube.permute(0, 2, 3, 1).unflatten(0, frames.shape[:2])
            if wants_weight:
                grad_weight[:, :, tap] = into_weight
        return grad_cube, grad_weight, None, None


def _frames(cube: Tensor) -> Tensor:
    """(B, T, H, W, C) -> (B * T, C, H, W), channels-last in memory."""
    return cube.flatten(0, 1).permute(0, 3, 1, 2)


class DepthwiseConv3d(nn.Module):
    """`depthwise_conv3d` without bias; cubes may hold any multiple of `dim` channels.

    Padded by half the kernel: with zeros in space, along time as `temporal_padding` says.
    """

    def __init__(
        self, dim: int, kernel: Grid, stride: Grid, temporal_padding: TemporalPadding = "zero"
    ) -> None:
        super().__init__()
        self.kernel, self.stride = tuple(kernel), tuple(stride)
        self.temporal_padding = temporal_padding
        self.weight = nn.Parameter(torch.empty(dim, 1, *kernel))
        nn.init.trunc_normal_(self.weight, std=0.02)

    def forward(self, cube: Tensor) -> Tensor:
        padding = [extent // 2 for extent in self.kernel]
        if self.temporal_padding == "replicate":
            channels_first = cube.permute(0, 4, 1, 2, 3)
            padded = pad_time(channels_first, padding[0], padding[0], "replicate")
            cube, padding[0] = padded.permute(0, 2, 3, 4, 1), 0
        return depthwise_conv3d(cube, self.weight, stride=self.stride, padding=padding)

    def extra_repr(self) -> str:
        return f"{self.weight.shape[0]}, kernel={self.kernel}, stride={self.stride}"


class MaxPool3d(nn.Module):
    """Max pool of a channels-last cube (B, T, H, W, C), padded by half the kernel."""

    def __init__(self, kernel: Grid, stride: Grid) -> None:
        super().__init__()
        self.kernel, self.stride = tuple(kernel), tuple(stride)

    def forward(self, cube: Tensor) -> Tensor:
        x = cube.permute(0, 4, 1, 2, 3)
        padding = [k // 2 for k in self.kernel]
        return F.max_pool3d(x, self.kernel, self.stride, padding).permute(0, 2, 3, 4, 1)

    def extra_repr(self) -> str:
        return f"kernel={self.kernel}, stride={self.stride}"


class AvgPool3d(MaxPool3d):
    """Average pool of a channels-last cube, padding zeros counted: a depthwise convolution with
    equal weights.

    As such it also takes cubes smaller than its kernel, and runs in the faster kernel.
    """

    def forward(self, cube: Tensor) -> Tensor:
        weight = cube.new_full((cube.shape[-1], 1, *self.kernel), 1 / math.prod(self.kernel))
        return depthwise_conv3d(cube, weight, stride=self.stride)


def pool_tokens(
    tokens: Tensor, thw: Grid, pool: Callable[[Tensor], Tensor], num_extra: int = 0
) -> tuple[Tensor, Grid]:
    """Pool the grid part of a token sequence; the extra tokens before it (the class token) pass by.

    Args:
        tokens: (B, num_extra + T * H * W, C).
        thw: the tokens' grid (T, H, W).
        pool: from a channels-last cube (B, T, H, W, C) to (B, T', H', W', C).

    Returns:
        (B, num_extra + T' * H' * W', C), and (T', H', W').
    """
    # split, not slices: its backward is one concatenation, theirs a zero-filled tensor each.
    extra, grid = tokens.split((num_extra, tokens.shape[1] - num_extra), dim=1)
    cube = pool(grid.unflatten(1, thw))
    pooled = cube.flatten(1, 3)
    if num_extra:
        pooled = torch.cat((extra.to(pooled.dtype), pooled), dim=1)
    return pooled, tuple(cube.shape[1:4])


def pool_and_norm(
    tokens: Tensor,
    thw: Grid,
    pool: Callable[[Tensor], Tensor],
    norm: nn.LayerNorm | None,
    num_extra: int = 0,
) -> tuple[Tensor, Grid]:
    """`pool_tokens`, then the norm of all tokens, head by head (the extra ones too), where there is
    one.

    Args:
        norm: over the width of one head.

    Returns:
        (B, num_extra + T' * H' * W', C) in the dtype that the pool gives, and (T', H', W').
    """
    tokens, thw = pool_tokens(tokens, thw, pool, num_extra)
    if norm is None:
        return tokens, thw
    # Autocast gives a norm's output in float32; the attention that follows wants the tokens' dtype.
    by_head = normalise(norm, tokens.unflatten(-1, (-1, *norm.normalized_shape)))
    return by_head.flatten(-2).to(tokens.dtype), thw
