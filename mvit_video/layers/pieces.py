"""Inference on a CPU a piece of the tokens at a time, so that what is wide stays in the processor's caches."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

# Of the widest tensor. With smaller pieces the matrix products become slower, at larger ones memory is gone through.
_BYTES_PER_THREAD = 4 * 2**20


def in_pieces(function: Callable[[Tensor], Tensor], x: Tensor, width: int) -> Tensor:
    """function(x) of a function that takes every token (..., C) by itself to (..., C').

    Args:
        width: channels of the widest tensor that the function makes.
    """
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or x.device.type != "cpu":
        return function(x)
    tokens = x.flatten(0, -2)
    widest = len(tokens) * width * x.element_size()
    number = widest // (_BYTES_PER_THREAD * torch.get_num_threads())
    if number < 2:
        return function(x)
    return torch.cat([function(piece) for piece in tokens.chunk(number)]).view(*x.shape[:-1], -1)
