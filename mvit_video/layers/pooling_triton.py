"""Pool and normalise in one Triton kernel: depthwise convolution of every head's grid tokens, then
LayerNorm over the head.

Torch's form reads the fused projection through a copy, writes the convolution's output, and reads
it back to normalise it; in training it keeps all of them. Here a program holds a few rows (a row is
one head of one token: d numbers) in registers. It reads the neighbours of each row where the
projection left them, and writes the row once, normalised. The class token's rows skip the
convolution. Numbers of any dtype are added up in float32.

The backward pass keeps nothing but the inputs: it convolves again, which costs reads from cache
instead of writes to memory. It is two kernels. The first goes over the output's rows and gives the
gradient of the convolution's output; of the filters and the norm it adds up what its own rows
contribute. Torch sums these partial sums in a fixed order, without atomics, so that a resumed
training gives the same bits. The second goes over the input's rows and gathers.

The kernels are operators of torch's library, which `torch.compile` takes as they are: no graph
break. This file needs triton; CUDA builds of torch for Linux bring it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
import triton
import triton.language as tl
from torch import Tensor, nn

from mvit_video.layers import pooling
from mvit_video.layers.pooling import DepthwiseConv3d, Grid

# With TRITON_INTERPRET=1, which triton reads when it is imported, kernels run on the CPU, slowly.
DEVICE = "cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda"

_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
_WIDEST_HEAD = 256
_TILE = 2048  # numbers that a program holds of each tensor: 16 in each of its 128 threads
_MOST_PARTS = 1024  # partial sums of the weights' gradients; fixed, or bits would depend on the GPU


def pool_and_norm(
    tokens: Tensor, thw: Grid, pool: nn.Module, norm: nn.LayerNorm | None, num_extra: int = 0
) -> tuple[Tensor, Grid]:
    """`pooling.pool_and_norm`, in the kernel where there is one for these shapes."""
    if not _has_kernel(tokens, pool, norm):
        return pooling.pool_and_norm(tokens, thw, pool, norm, num_extra)
    pooled = _pool_and_norm(
        tokens, pool.weight, norm.weight, norm.bias, thw, pool.stride, num_extra, norm.eps
    )
    return pooled, _pooled_grid(thw, pool.stride)


def _has_kernel(tokens: Tensor, pool: nn.Module, norm: nn.LayerNorm | None) -> bool:
    return (
        norm is not None
        and isinstance(pool, DepthwiseConv3d)
        and pool.kernel in ((3, 3, 3), (1, 3, 3))
        and pool.temporal_padding == "zero"
        and norm.normalized_shape == (pool.weight.shape[0],)
        and pool.weight.shape[0] <= _WIDEST_HEAD
        and tokens.device.type == DEVICE
        and tokens.dtype in _DTYPES
    )


def _pooled_grid(thw: Sequence[int], stride: Sequence[int]) -> Grid:
    """Grid after a convolution with an odd kernel, padded by half of it."""
    t, h, w = ((extent - 1) // step + 1 for extent, step in zip(thw, stride, strict=True))
    return t, h, w


@torch.library.custom_op("mvit_video::pool_and_norm", mutates_args=())
def _pool_and_norm(
    x: Tensor,
    weight: Tensor,
    gamma: Tensor,
    beta: Tensor,
    thw: Sequence[int],
    stride: Sequence[int],
    num_extra: int,
    eps: float,
) -> Tensor:
    """x (B, N, C), weight (d, 1, 1 or 3, 3, 3), gamma and beta (d,) -> (B, N', C)."""
    x = _last_axis_dense(x)
    out = _empty_output(x, thw, stride, num_extra)
    launch = _Launch(x, weight, thw, stride, num_extra)
    with launch.device:
        _forward_kernel[(launch.blocks(out),)](
            x, launch.filters, gamma, beta, out, *launch.rows(out), *launch.geometry, eps,
            **launch.constants,
        )  # fmt: skip
    return out


@_pool_and_norm.register_fake
def _(x, weight, gamma, beta, thw, stride, num_extra, eps):
    return _empty_output(x, thw, stride, num_extra)


def _empty_output(x: Tensor, thw: Sequence[int], stride: Sequence[int], num_extra: int) -> Tensor:
    t, h, w = _pooled_grid(thw, stride)
    return x.new_empty(x.shape[0], num_extra + t * h * w, x.shape[2])


@torch.library.custom_op("mvit_video::pool_and_norm_backward", mutates_args=())
def _pool_and_norm_backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    gamma: Tensor,
    thw: Sequence[int],
    stride: Sequence[int],
    num_extra: int,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, of weight, and (2, d) of gamma and beta, from that of the output (B, N', C)."""
    grad, x = grad.contiguous(), _last_axis_dense(x)
    grad_conv, grad_x = torch.empty_like(grad), x.new_empty(x.shape)
    launch = _Launch(x, weight, thw, stride, num_extra)
    width, taps = launch.filters.shape[1], launch.filters.shape[0]
    blocks = launch.blocks(grad)
    parts = x.new_empty(min(blocks, _MOST_PARTS), taps + 2, width, dtype=torch.float32)
    with launch.device:
        _backward_kernel[(len(parts),)](
            grad, x, launch.filters, gamma, grad_conv, parts, blocks,
            *launch.rows(grad), *launch.geometry, eps,
            SUMS=triton.next_power_of_2(taps + 2), **launch.constants,
        )  # fmt: skip
        _gather_kernel[(launch.blocks(x),)](
            grad_conv, launch.filters, grad_x, *launch.rows(x), grad.shape[1], *thw,
            *_pooled_grid(thw, stride), **launch.constants,
        )  # fmt: skip
    grad_weight = parts[:, :taps].sum(dim=0).t().reshape(weight.shape)
    return grad_x, grad_weight.to(weight.dtype), parts[:, taps:].sum(dim=0).to(gamma.dtype)


@_pool_and_norm_backward.register_fake
def _(grad, x, weight, gamma, thw, stride, num_extra, eps):
    return x.new_empty(x.shape), weight.new_empty(weight.shape), gamma.new_empty(2, len(gamma))


def _keep_inputs(ctx, inputs, output) -> None:
    x, weight, gamma, _, *ctx.arguments = inputs
    ctx.save_for_backward(x, weight, gamma)


def _differentiate(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
    of_x, of_weight, of_norm = _pool_and_norm_backward(grad, *ctx.saved_tensors, *ctx.arguments)
    return of_x, of_weight, *of_norm.unbind(), None, None, None, None


_pool_and_norm.register_autograd(_differentiate, setup_context=_keep_inputs)


def _last_axis_dense(x: Tensor) -> Tensor:
    """As the kernels read it: a slice of the fused projection is, and is not copied."""
    return x if x.stride(-1) == 1 else x.contiguous()


class _Launch:
    """What all three kernels are given."""

    def __init__(
        self, x: Tensor, weight: Tensor, thw: Sequence[int], stride: Sequence[int], num_extra: int
    ) -> None:
        width, _, taps_t, _, _ = weight.shape
        # Neighbouring channels of a tap side by side; a few kilobytes.
        self.filters = weight.detach().flatten(1).t().contiguous()
        self.geometry = (*thw, *_pooled_grid(thw, stride)[1:], x.stride(0), x.stride(1))
        lanes = triton.next_power_of_2(width)
        self.constants = {
            "WIDTH": width,
            "LANES": lanes,
            "ROWS": max(1, _TILE // lanes),
            "EXTRA": num_extra,
            "TAPS_T": taps_t,
            "STEP_T": stride[0],
            "STEP_H": stride[1],
            "STEP_W": stride[2],
            "num_warps": 4,
        }
        self._num_heads = x.shape[2] // width
        # Triton launches on the current GPU, which need not be the tensor's.
        self.device: AbstractContextManager = (
            torch.cuda.device(x.device) if x.is_cuda else nullcontext()
        )

    def rows(self, tokens: Tensor) -> tuple[int, int, int]:
        """Rows of (B, N, C), heads, N."""
        batch, num_tokens, _ = tokens.shape
        return batch * num_tokens * self._num_heads, self._num_heads, num_tokens

    def blocks(self, tokens: Tensor) -> int:
        """Programs that hold all rows of (B, N, C)."""
        return triton.cdiv(self.rows(tokens)[0], self.constants["ROWS"])


@triton.jit
def _locate(row, num_heads, num_tokens, height, width, EXTRA: tl.constexpr):
    """Batch, head, token, and the token's place (t, h, w) on its grid; the place of an extra token
    means nothing."""
    head = row % num_heads
    token = row // num_heads % num_tokens
    batch = row // (num_heads * num_tokens)
    place = token - EXTRA
    return batch, head, token, place // (height * width), place // width % height, place % width


@triton.jit
def _read_tap(
    x_row, t, h, w, live, frames, height, width, token_stride, lane,
    EXTRA: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """The input's rows at the places (t, h, w), zeros outside of the grid; float32."""
    inside = (t >= 0) & (t < frames) & (h >= 0) & (h < height) & (w >= 0) & (w < width) & live
    token = EXTRA + (t * height + h) * width + w
    place = x_row + token.to(tl.int64) * token_stride
    mask = inside[:, None] & (lane < WIDTH)[None, :]
    return tl.load(place[:, None] + lane[None, :], mask=mask, other=0.0).to(tl.float32)


@triton.jit
def _convolve(
    x_row, filter_ptr, t, h, w, token, live, frames, height, width, token_stride, lane,
    WIDTH: tl.constexpr, LANES: tl.constexpr, ROWS: tl.constexpr, EXTRA: tl.constexpr,
    TAPS_T: tl.constexpr, STEP_T: tl.constexpr, STEP_H: tl.constexpr, STEP_W: tl.constexpr,
):  # fmt: skip
    """The convolution's output in the rows of a tile, (ROWS, LANES) float32; extra tokens as they
    are."""
    total = tl.zeros((ROWS, LANES), dtype=tl.float32)
    on_grid = live & (token >= EXTRA)
    for line in range(3 * TAPS_T):  # unrolled, all taps' reads would want registers at once
        for column in tl.static_range(3):
            x = _read_tap(
                x_row, t * STEP_T + (line // 3 - TAPS_T // 2), h * STEP_H + (line % 3 - 1),
                w * STEP_W + (column - 1), on_grid, frames, height, width, token_stride, lane,
                EXTRA, WIDTH,
            )  # fmt: skip
            place = filter_ptr + (line * 3 + column) * WIDTH + lane
            filters = tl.load(place, mask=lane < WIDTH, other=0.0)
            total += x * filters.to(tl.float32)[None, :]
    if EXTRA > 0:
        place = x_row + token.to(tl.int64) * token_stride
        mask = (live & (token < EXTRA))[:, None] & (lane < WIDTH)[None, :]
        total += tl.load(place[:, None] + lane[None, :], mask=mask, other=0.0).to(tl.float32)
    return total


@triton.jit
def _standardise(x, lane, eps, WIDTH: tl.constexpr):
    """Rows with mean 0 and variance 1, zeros in the lanes past WIDTH; and 1 / their deviation."""
    mean = tl.sum(x, axis=1) / WIDTH
    centred = tl.where((lane < WIDTH)[None, :], x - mean[:, None], 0.0)
    scale = 1.0 / tl.sqrt(tl.sum(centred * centred, axis=1) / WIDTH + eps)
    return centred * scale[:, None], scale


@triton.jit
def _forward_kernel(
    x_ptr, filter_ptr, gamma_ptr, beta_ptr, out_ptr,
    num_rows, num_heads, num_tokens, frames, height, width, out_height, out_width,
    batch_stride, token_stride, eps,
    WIDTH: tl.constexpr, LANES: tl.constexpr, ROWS: tl.constexpr, EXTRA: tl.constexpr,
    TAPS_T: tl.constexpr, STEP_T: tl.constexpr, STEP_H: tl.constexpr, STEP_W: tl.constexpr,
):  # fmt: skip
    """A program for every ROWS rows of the output."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    lane = tl.arange(0, LANES)
    live = row < num_rows
    batch, head, token, t, h, w = _locate(row, num_heads, num_tokens, out_height, out_width, EXTRA)
    x_row = x_ptr + batch.to(tl.int64) * batch_stride + head * WIDTH
    x = _convolve(
        x_row, filter_ptr, t, h, w, token, live, frames, height, width, token_stride, lane,
        WIDTH, LANES, ROWS, EXTRA, TAPS_T, STEP_T, STEP_H, STEP_W,
    )  # fmt: skip
    normed, _ = _standardise(x, lane, eps, WIDTH)
    gamma = tl.load(gamma_ptr + lane, mask=lane < WIDTH, other=0.0).to(tl.float32)
    beta = tl.load(beta_ptr + lane, mask=lane < WIDTH, other=0.0).to(tl.float32)
    out = normed * gamma[None, :] + beta[None, :]
    place = out_ptr + row.to(tl.int64)[:, None] * WIDTH + lane[None, :]
    tl.store(place, out.to(out_ptr.dtype.element_ty), mask=live[:, None] & (lane < WIDTH)[None, :])


@triton.jit
def _backward_kernel(
    grad_ptr, x_ptr, filter_ptr, gamma_ptr, grad_conv_ptr, part_ptr, num_blocks,
    num_rows, num_heads, num_tokens, frames, height, width, out_height, out_width,
    batch_stride, token_stride, eps, SUMS: tl.constexpr,
    WIDTH: tl.constexpr, LANES: tl.constexpr, ROWS: tl.constexpr, EXTRA: tl.constexpr,
    TAPS_T: tl.constexpr, STEP_T: tl.constexpr, STEP_H: tl.constexpr, STEP_W: tl.constexpr,
):  # fmt: skip
    """Through the norm, and the partial sums of the parameters: one line for each tap, then gamma's
    and beta's."""
    lane = tl.arange(0, LANES)
    line = tl.arange(0, SUMS)
    gamma = tl.load(gamma_ptr + lane, mask=lane < WIDTH, other=0.0).to(tl.float32)
    sums = tl.zeros((SUMS, LANES), dtype=tl.float32)
    for block in range(tl.program_id(0), num_blocks, tl.num_programs(0)):
        row = block * ROWS + tl.arange(0, ROWS)
        live = row < num_rows
        mask = live[:, None] & (lane < WIDTH)[None, :]
        batch, head, token, t, h, w = _locate(
            row, num_heads, num_tokens, out_height, out_width, EXTRA
        )
        x_row = x_ptr + batch.to(tl.int64) * batch_stride + head * WIDTH
        x = _convolve(
            x_row, filter_ptr, t, h, w, token, live, frames, height, width, token_stride, lane,
            WIDTH, LANES, ROWS, EXTRA, TAPS_T, STEP_T, STEP_H, STEP_W,
        )  # fmt: skip
        normed, scale = _standardise(x, lane, eps, WIDTH)
        place = row.to(tl.int64)[:, None] * WIDTH + lane[None, :]
        grad = tl.load(grad_ptr + place, mask=mask, other=0.0).to(tl.float32)
        of_gamma, of_beta = tl.sum(grad * normed, axis=0), tl.sum(grad, axis=0)
        sums += tl.where((line == 9 * TAPS_T)[:, None], of_gamma[None, :], 0.0)
        sums += tl.where((line == 9 * TAPS_T + 1)[:, None], of_beta[None, :], 0.0)
        grad = grad * gamma[None, :]
        along = tl.sum(grad * normed, axis=1) / WIDTH
        grad -= (tl.sum(grad, axis=1) / WIDTH)[:, None] + normed * along[:, None]
        grad = tl.where(mask, grad * scale[:, None], 0.0)
        tl.store(grad_conv_ptr + place, grad.to(grad_conv_ptr.dtype.element_ty), mask=mask)
        on_grid = live & (token >= EXTRA)
        for tap in range(9 * TAPS_T):
            x = _read_tap(
                x_row, t * STEP_T + (tap // 9 - TAPS_T // 2), h * STEP_H + (tap // 3 % 3 - 1),
                w * STEP_W + (tap % 3 - 1), on_grid, frames, height, width, token_stride, lane,
                EXTRA, WIDTH,
            )  # fmt: skip
            of_tap = tl.sum(grad * x, axis=0)
            sums += tl.where((line == tap)[:, None], of_tap[None, :], 0.0)
    part = part_ptr + (tl.program_id(0) * (9 * TAPS_T + 2) + line)[:, None] * WIDTH + lane[None, :]
    tl.store(part, sums, mask=(line < 9 * TAPS_T + 2)[:, None] & (lane < WIDTH)[None, :])


@triton.jit
def _gather_kernel(
    grad_conv_ptr, filter_ptr, grad_x_ptr,
    num_rows, num_heads, num_tokens, out_tokens, frames, height, width,
    out_frames, out_height, out_width,
    WIDTH: tl.constexpr, LANES: tl.constexpr, ROWS: tl.constexpr, EXTRA: tl.constexpr,
    TAPS_T: tl.constexpr, STEP_T: tl.constexpr, STEP_H: tl.constexpr, STEP_W: tl.constexpr,
):  # fmt: skip
    """A program for every ROWS rows of the input: each gathers from the outputs that read it."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    lane = tl.arange(0, LANES)
    in_lane = (lane < WIDTH)[None, :]
    live = row < num_rows
    batch, head, token, t, h, w = _locate(row, num_heads, num_tokens, height, width, EXTRA)
    first = batch.to(tl.int64) * out_tokens  # the clip's first token
    total = tl.zeros((ROWS, LANES), dtype=tl.float32)
    # Of an axis' taps every STEP-th one reaches a token, beginning with the remainder of its place.
    for i in range((TAPS_T + STEP_T - 1) // STEP_T):
        for j in range((3 + STEP_H - 1) // STEP_H):
            for k in tl.static_range((3 + STEP_W - 1) // STEP_W):
                tap_t = (t + TAPS_T // 2) % STEP_T + i * STEP_T
                tap_h = (h + 1) % STEP_H + j * STEP_H
                tap_w = (w + 1) % STEP_W + k * STEP_W
                out_t = (t + TAPS_T // 2 - tap_t) // STEP_T
                out_h = (h + 1 - tap_h) // STEP_H
                out_w = (w + 1 - tap_w) // STEP_W
                reads = live & (token >= EXTRA) & (tap_t < TAPS_T) & (tap_h < 3) & (tap_w < 3)
                reads &= (out_t >= 0) & (out_t < out_frames) & (out_h >= 0) & (out_h < out_height)
                reads &= (out_w >= 0) & (out_w < out_width)
                out_token = EXTRA + (out_t * out_height + out_h) * out_width + out_w
                place = ((first + out_token) * num_heads + head) * WIDTH
                mask = reads[:, None] & in_lane
                grad = tl.load(grad_conv_ptr + place[:, None] + lane[None, :], mask=mask, other=0.0)
                if STEP_T * STEP_H * STEP_W == 1:  # the same tap for all rows
                    tap = (i * 3 + j) * 3 + k
                    filters = tl.load(
                        filter_ptr + tap * WIDTH + lane[None, :], mask=in_lane, other=0.0
                    )
                else:
                    tap = (tap_t * 3 + tap_h) * 3 + tap_w
                    filters = tl.load(
                        filter_ptr + tap[:, None] * WIDTH + lane[None, :], mask=mask, other=0.0
                    )
                total += grad.to(tl.float32) * filters.to(tl.float32)
    if EXTRA > 0:
        place = ((first + token) * num_heads + head) * WIDTH
        mask = (live & (token < EXTRA))[:, None] & in_lane
        grad = tl.load(grad_conv_ptr + place[:, None] + lane[None, :], mask=mask, other=0.0)
        total += grad.to(tl.float32)
    place = grad_x_ptr + row.to(tl.int64)[:, None] * WIDTH + lane[None, :]
    tl.store(place, total.to(grad_x_ptr.dtype.element_ty), mask=live[:, None] & in_lane)
