"""What a model costs: parameters, and multiply-adds in the form it is published in.

What this project adds to be fast (columns for biases, padding of the head width) is no work that the model asks for
and is not counted. Neither are the three products an element of taps along time, nor normalisation, activations and
softmax, as in the papers' tables.
"""

from __future__ import annotations

import copy
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mvit_video.layers.attention import attention
from mvit_video.layers.temporal import temporal_taps

# Forward passes that a training step is worth: itself, and a backward pass of twice as many products.
TRAINING_STEP = 3
_MATMUL_SIDE = {"cpu": 2048, "cuda": 8192}


def count_parameters(model: nn.Module) -> int:
    """Numbers to be learned, each once however many modules share it."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_multiply_adds(model: nn.Module, clip_shape: tuple[int, ...]) -> int:
    """Multiply-adds of a forward pass on clips of this shape (B, 3, T, H, W).

    Nothing is computed and no weight copied: a shadow of the model runs on the meta device.
    """
    counted = 0

    def count_attention(q: Tensor, k: Tensor, v: Tensor, *_: object, **__: object) -> Tensor:
        nonlocal counted
        counted += math.prod(q.shape[:-1]) * k.shape[-2] * (q.shape[-1] + v.shape[-1])
        return q.new_empty(*q.shape[:-1], v.shape[-1])

    meta = shadow(model, lambda tensor: tensor.to("meta")).eval()
    with (
        torch.no_grad(),
        FlopCounterMode(display=False) as counter,
        _replaced(attention, count_attention),
        _replaced(temporal_taps, lambda cube, *_: cube),
    ):
        meta(torch.empty(clip_shape, device="meta"))
    return counter.get_total_flops() // 2 + counted


def matmul_job(
    device: torch.device, dtype: torch.dtype, side: int | None = None
) -> tuple[Callable[[], Any], int]:
    """A product of two square matrices, by default large enough to reach the device's peak; its multiply-adds."""
    side = side or _MATMUL_SIDE[device.type]
    own = torch.Generator(device)  # random numbers, as a GPU is faster on others, but nobody else's
    a, b = (torch.randn(side, side, device=device, generator=own).to(dtype) for _ in range(2))
    out = torch.empty_like(a)
    return lambda: torch.mm(a, b, out=out), side**3


def shadow(model: nn.Module, substitute: Callable[[Tensor], Tensor]) -> nn.Module:
    """A copy of `model` with other tensors in the place of its own, such as some that have shapes but no memory."""
    tensors = {id(p): nn.Parameter(substitute(p), p.requires_grad) for p in model.parameters()}
    tensors |= {id(buffer): substitute(buffer) for buffer in model.buffers()}
    return copy.deepcopy(model, tensors)


@contextmanager
def _replaced(original: Callable[..., Any], function: Callable[..., Any]) -> Iterator[None]:
    """Lets every module of the package that imported `original` call `function` for a while."""
    name = original.__name__
    holders = [
        module
        for path, module in sys.modules.items()
        if path.startswith("mvit_video.") and getattr(module, name, None) is original
    ]
    for module in holders:
        setattr(module, name, function)
    try:
        yield
    finally:
        for module in holders:
            setattr(module, name, original)
