"""Inference on a CPU a piece at a time, so that what is wide is never there as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Of the widest tensor. With smaller pieces the matrix products become slower, at larger ones memory is gone through.
_BYTES_PER_THREAD = 4 * 2**20


def in_pieces(function: Callable[[Tensor], Tensor], x: Tensor, width: int) -> Tensor:
    """function(x) of a function that takes every token (..., C) by itself to (..., C'), some of the tokens at a time:
    what is wide stays in the processor's caches.

    Args:
        width: channels of the widest tensor that the function makes.
    """
    if not takes_pieces(x):
        return function(x)
    tokens = x.flatten(0, -2)
    widest = len(tokens) * width * x.element_size()
    number = widest // (_BYTES_PER_THREAD * torch.get_num_threads())
    if number < 2:
        return function(x)
    return torch.cat([function(piece) for piece in tokens.chunk(number)]).view(*x.shape[:-1], -1)


def in_parts(linear: nn.Linear, x: Tensor, number: int) -> Iterator[Tensor]:
    """linear(x).chunk(number, dim=-1), each part computed when it is asked for.

    A fused projection of queries, keys and values is the widest tensor of a pooling attention. Its parts by themselves
    are contiguous too, where a depthwise convolution would copy what is cut from the whole.
    """
    # What another module in its place computes, and what is hooked to this one, is its own.
    plain = type(linear) is nn.Linear and not (linear._forward_hooks or linear._forward_pre_hooks)
    if not plain or not takes_pieces(x):
        yield from linear(x).chunk(number, dim=-1)
        return
    biases = [None] * number if linear.bias is None else linear.bias.chunk(number)
    for weight, bias in zip(linear.weight.chunk(number), biases, strict=True):
        yield F.linear(x, weight, bias)


def takes_pieces(x: Tensor) -> bool:
    """Training keeps the whole anyway, a GPU has no use for small products, a compiler decides for itself."""
    return not (torch.is_grad_enabled() or torch.compiler.is_compiling()) and x.device.type == "cpu"
