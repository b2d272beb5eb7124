"""Tensors that a training step does not keep: what is cheap to compute is computed again in the backward pass.

A norm's output is kept because the linear layer after it wants it for its weights' gradient, an activation's because
the next one does; both are a pass over what is kept anyway. A model names such steps by calling them through
`recomputed`, and inside `forgetting` autograd keeps, in place of each one's output, how to compute it. Recomputing
whole blocks (`models.blocks.recompute`) saves more, for a third of the time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

_here = threading.local()


def recomputed(function: Callable[..., Tensor], *inputs: Any) -> Tensor:
    """function(*inputs), which autograd does not keep inside `forgetting`.

    An operation whose own derivative is written in its output, like tanh, keeps it all the same.

    Args:
        function: gives the same numbers each time: nothing random, no statistics counted, nothing changed in place.
            Its output must not be changed in place either.
        inputs: tensors, which are kept or themselves `recomputed`, and other arguments.
    """
    output = function(*inputs)
    if not torch.compiler.is_compiling() and (steps := getattr(_here, "steps", None)):
        steps.add(output, function, inputs)
    return output


def normalise(norm: nn.Module, x: Tensor) -> Tensor:
    """norm(x), `recomputed`, in the dtype that autocast computes in.

    Autocast lets norms give float32, of which each layer after them would make, and keep, a copy in its own dtype.
    """
    return recomputed(_norm_for_layers, norm, x)


def _norm_for_layers(norm: nn.Module, x: Tensor) -> Tensor:
    out, device = norm(x), x.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        out = out.to(torch.get_autocast_dtype(device))
    return out


@contextmanager
def forgetting() -> Iterator[None]:
    """Inside, autograd keeps no output of `recomputed`. Other hooks on saved tensors see nothing of what is inside."""
    before, _here.steps = getattr(_here, "steps", None), (steps := _Steps())
    try:
        with torch.autograd.graph.saved_tensors_hooks(steps.pack, _unpack):
            yield
    finally:
        _here.steps = before
        steps.taken.clear()  # what is kept holds on to its hooks, and so to `steps`


class _Steps:
    """The steps taken inside one `forgetting`, by the memory their outputs lie in."""

    def __init__(self) -> None:
        # The outputs too, or their memory could be another tensor's before the scope ends.
        self.taken: dict[int, tuple[Tensor, _Step]] = {}

    def add(self, output: Tensor, function: Callable[..., Tensor], inputs: tuple[Any, ...]) -> None:
        step = _Step(function, [self.pack(x) for x in inputs], output)
        self.taken[_memory(output)] = output, step

    def pack(self, value: Any) -> Any:
        """What is kept in place of a tensor, or of another argument of a function."""
        if isinstance(value, Tensor) and (taken := self.taken.get(_memory(value))):
            return _View(taken[1], value)
        return value


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata  # data_ptr() is 0 for all tensors without numbers


def _unpack(kept: Any) -> Any:
    return kept.compute() if isinstance(kept, _View) else kept


class _Step:
    """How to compute a tensor. It is computed at its first use, and let go at its last."""

    def __init__(self, function: Callable[..., Tensor], inputs: list[Any], output: Tensor) -> None:
        self.function, self.inputs, self.uses = function, inputs, 0
        self.autocast = _autocast_of(output.device.type)
        self._value: Tensor | None = None

    def compute(self) -> Tensor:
        value = self._value
        if value is None:
            with torch.no_grad(), self.autocast():
                value = self.function(*map(_unpack, self.inputs))
        self.uses -= 1
        # Below zero a graph that was retained is gone through again.
        self._value = value if self.uses > 0 else None
        return value


class _View:
    """A use of a step's output, or of a part of it."""

    def __init__(self, step: _Step, tensor: Tensor) -> None:
        step.uses += 1
        self._step = step
        self._layout = tensor.size(), tensor.stride(), tensor.storage_offset()

    def compute(self) -> Tensor:
        return self._step.compute().as_strided(*self._layout)


def _autocast_of(device: str) -> Callable[[], AbstractContextManager[Any]]:
    """Contexts with the autocast that holds now: the backward pass runs outside of it."""
    if not torch.amp.is_autocast_available(device):
        return nullcontext
    enabled, dtype = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
    return lambda: torch.autocast(device, dtype, enabled, cache_enabled=False)
