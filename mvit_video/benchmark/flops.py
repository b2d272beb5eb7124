"""Multiply-adds of a model in the form it is published in.

What this project adds to be fast (columns for biases, padding of the head width) is no work that the model asks for
and is not counted; normalisation, activations and softmax are not either, as in the papers' tables.
"""

from __future__ import annotations

import copy
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mvit_video.layers import attention as attention_layer


def count_multiply_adds(model: nn.Module, clip_shape: tuple[int, ...]) -> int:
    """Multiply-adds of a forward pass on a clip of this shape; nothing is computed, a copy runs on the meta device."""
    model = copy.deepcopy(model).to("meta").eval()
    counted = 0

    def count_attention(q: Tensor, k: Tensor, v: Tensor, *_: object, **__: object) -> Tensor:
        nonlocal counted
        counted += math.prod(q.shape[:-1]) * k.shape[-2] * (q.shape[-1] + v.shape[-1])
        return q.new_empty(*q.shape[:-1], v.shape[-1])

    with (
        torch.no_grad(),
        FlopCounterMode(display=False) as counter,
        _attention_replaced_by(count_attention),
    ):
        model(torch.empty(clip_shape, device="meta"))
    return counter.get_total_flops() // 2 + counted


@contextmanager
def _attention_replaced_by(function: Callable[..., Tensor]) -> Iterator[None]:
    """Lets every module that imported `layers.attention.attention` call another function for a while."""
    original = attention_layer.attention
    holders = [
        module
        for name, module in sys.modules.items()
        if name.startswith("mvit_video.") and getattr(module, "attention", None) is original
    ]
    for module in holders:
        module.attention = function
    try:
        yield
    finally:
        for module in holders:
            module.attention = original
