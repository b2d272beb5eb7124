"""What reading a family's checkpoints takes, beside its dialects' tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from mvit_video.weights.dialect import Dialect, State
from mvit_video.weights.inflate import Inflation

Resize = Callable[[Tensor, Tensor, Any], Tensor]


def _as_it_is(state: State, spec: Any) -> tuple[State, set[str]]:
    return state, set()


@dataclass(frozen=True)
class FamilyReader:
    """How checkpoints of one family are read. All keys are ours.

    Attributes:
        name: the family's name in `mvit_video.models.REGISTRY`.
        dialects: whose files are read. One of them must be our own names (`rules=(copy(".*"),)` will do):
            bare state dicts of our models are checkpoints too.
        infer: (tensors, frames asked for or None) -> the spec of the model that the tensors are, an image
            model's for an image checkpoint. Raises InputError where they contradict each other.
        with_frames: (spec, frames, inflation) -> the spec for clips of that many frames: inflated from an
            image model, an image model for 1 frame, else the same with other tables.
        describe: spec -> what of it the tensors tell, in words and values for messages. Two models whose
            descriptions are equal have the same tensors.
        stem: key of the first convolution, whose kernel in time tells an image model from a video one.
        head: regular expression of the tensors that depend on the number of classes.
        tables: (regular expression, resize) for position tables, which may have another size;
            resize(checkpoint's tensor, model's tensor, model's spec) -> the model's shape.
        begins: (regular expression, value) for what only a video model has: its value where images become
            video, from the shape and type of the model's own tensor.
        reconcile: (tensors, model's spec) -> tensors in the model's arrangement, where two arrangements
            mean the same (fused and separate projections), and the keys that were computed, not moved.
        exports: somebody else's format -> (model) -> what torch.save writes in that format.
    """

    name: str
    dialects: tuple[Dialect, ...]
    infer: Callable[[Mapping[str, Tensor], int | None], Any]
    with_frames: Callable[[Any, int, Inflation], Any]
    describe: Callable[[Any], dict[str, Any]]
    stem: str
    head: str
    tables: tuple[tuple[str, Resize], ...] = ()
    begins: tuple[tuple[str, Callable[[Tensor], Tensor]], ...] = ()
    reconcile: Callable[[State, Any], tuple[State, set[str]]] = _as_it_is
    exports: Mapping[str, Callable[[nn.Module], Any]] = field(default_factory=dict)

    def differences(self, first: Any, second: Any) -> list[str]:
        """Where two specs differ in what tensors tell: "depth: 16 against 24"."""
        one, other = self.describe(first), self.describe(second)
        return [
            f"{name}: {one.get(name)} against {other.get(name)}"
            for name in one | other
            if one.get(name) != other.get(name)
        ]
