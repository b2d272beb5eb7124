"""The attention of a model as it runs: its own queries and keys, noted where they meet.

The models never hold their attention weights; fused kernels do without them. Here the one function that every attention
of every family goes through is watched, so what is recorded is what was computed: pooled, biased and padded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_CHUNK = 2**24  # attention weights in memory at a time


@dataclass(frozen=True)
class AttentionCall:
    """One attention of one clip: query (n, N, d) and key (n, M, d), whose scaled product is the logits."""

    query: Tensor
    key: Tensor
    scale: float

    def weights(self) -> Iterator[tuple[slice, Tensor]]:
        """Some rows of the weights at a time: which queries, and (n, rows, M)."""
        heads, num_keys, _ = self.key.shape
        step = max(_CHUNK // (heads * num_keys), 1)
        for first in range(0, self.query.shape[1], step):
            rows = slice(first, first + step)
            yield rows, (self.query[:, rows] * self.scale @ self.key.mT).softmax(dim=-1)

    def mean_weights(self) -> Tensor:
        """(N, M), the mean over heads."""
        return torch.cat([weights.mean(dim=0) for _, weights in self.weights()])

    def share_of_keys(self, share: Tensor) -> Tensor:
        """(M,): what `share` (N,) of the queries becomes where each reads the keys; the mean over heads."""
        parts = (share[rows] @ weights.mean(dim=0) for rows, weights in self.weights())
        return torch.stack(list(parts)).sum(dim=0)


@contextmanager
def recorded(modules: Iterable[nn.Module]) -> Iterator[dict[nn.Module, list[AttentionCall]]]:
    """Fills, by module, the attentions that run inside each of `modules` within the block, in their order.

    For one clip at a time: the first of a batch is recorded.
    """
    calls: dict[nn.Module, list[AttentionCall]] = {module: [] for module in modules}
    running: list[nn.Module] = []

    def begin(module: nn.Module, _: Any) -> None:
        running.append(module)

    def end(*_: Any) -> None:
        running.pop()

    hooks = [module.register_forward_pre_hook(begin) for module in calls]
    hooks += [module.register_forward_hook(end) for module in calls]
    try:
        with _Watch(calls, running):
            yield calls
    finally:
        for hook in hooks:
            hook.remove()


class _Watch(TorchFunctionMode):
    def __init__(
        self, calls: dict[nn.Module, list[AttentionCall]], running: list[nn.Module]
    ) -> None:
        super().__init__()
        self.calls, self.running = calls, running

    def __torch_function__(
        self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if function is F.scaled_dot_product_attention and self.running:
            query, key = (tensor[0].detach() for tensor in args[:2])
            self.calls[self.running[-1]].append(AttentionCall(query, key, kwargs["scale"]))
        return function(*args, **kwargs)
