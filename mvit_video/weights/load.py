"""Weights into a model: every tensor accounted for, or nothing is loaded."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from mvit_video.errors import InputError
from mvit_video.weights.architecture import checkpoint_spec, refuse_contradicting_tables
from mvit_video.weights.checkpoint import Checkpoint, Source, read_checkpoint
from mvit_video.weights.dialect import State
from mvit_video.weights.inflate import CENTRE, Inflation, change_time

_log = logging.getLogger(__name__)
_NAMED = 5  # keys named in a message before it says how many more there are
_COUNTED = ("matched", "renamed", "reshaped", "interpolated", "inflated", "missing", "unexpected")
Found = TypeVar("Found")


@dataclass(frozen=True)
class LoadReport:
    """What became of every tensor of a checkpoint and of the model. All keys are ours.

    Attributes:
        source: path or URL.
        dialect: whose names the file used.
        matched: keys that now hold the checkpoint's numbers as they were, bit for bit.
        renamed: (their key, our key) where the two differ.
        reshaped: keys among `matched` whose numbers stand in another shape.
        interpolated: position tables brought to another size.
        inflated: keys that were made or changed on the way between images and video.
        missing: keys of the model that the checkpoint does not fill; they keep their initial values.
        unexpected: keys of the checkpoint that the model has no place for.
        dropped: their keys that were checked to repeat another, or that carry nothing.
        new_head: True if the classes differ, so that the head is among `missing` and `unexpected`.
    """

    source: str
    dialect: str
    matched: tuple[str, ...] = ()
    renamed: tuple[tuple[str, str], ...] = ()
    reshaped: tuple[str, ...] = ()
    interpolated: tuple[str, ...] = ()
    inflated: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    new_head: bool = False

    def __str__(self) -> str:
        counts = ", ".join(
            f"{len(keys)} {name}" for name in _COUNTED if (keys := getattr(self, name))
        )
        head = "; the head is new, the checkpoint's has other classes" if self.new_head else ""
        return f"{self.source} (names of {self.dialect}): {counts}{head}"


def load_weights(
    model: nn.Module,
    source: Source | Checkpoint,
    *,
    inflation: Inflation = CENTRE,
    allow_missing: Sequence[str] = (),
    allow_unexpected: Sequence[str] = (),
) -> LoadReport:
    """Loads `source` into `model`, whichever dialect it speaks.

    Position tables of another size are interpolated, convolutions of image models inflated. A head for
    another number of classes is left as it is and reported (`new_head`).

    Args:
        model: a model of ours; it keeps its own values if anything is refused.
        source: as `read_checkpoint` takes it, or what that gave.
        inflation: how image weights become video weights.
        allow_missing: regular expressions of our keys that the checkpoint need not have.
        allow_unexpected: likewise of keys that the checkpoint may have beyond the model's.

    Raises:
        InputError: the checkpoint cannot be read, is of another family, or does not fit.
    """
    checkpoint = source if isinstance(source, Checkpoint) else read_checkpoint(source)
    fit = _Fit(checkpoint, inflation, model)
    fit.place_all()
    fit.refuse_misfits(allow_missing, allow_unexpected)
    fit.refuse_contradicting_tables()
    model.load_state_dict(fit.fitted, strict=False)
    report = fit.report()
    _log.log(logging.WARNING if report.new_head else logging.INFO, "%s", report)
    return report


class _Fit:
    """Goes through the model's tensors and finds each its numbers."""

    def __init__(self, checkpoint: Checkpoint, inflation: Inflation, model: nn.Module) -> None:
        self.checkpoint, self.inflation = checkpoint, inflation
        self.reader = checkpoint.reader
        self.spec, self.wanted = model.spec, model.state_dict()
        stem = self.wanted.get(self.reader.stem)
        if stem is None:
            raise InputError(
                f"{checkpoint.source} holds a {self.reader.name}; the model is a {type(model).__name__}"
            )
        self.to_images = stem.ndim == 4 or stem.shape[2] == 1
        self.between = self.to_images != checkpoint.is_image_model
        self.state, self.computed = self.reader.reconcile(dict(checkpoint.state), self.spec)
        self.fitted: State = {}
        self.keys: dict[str, list[str]] = {name: [] for name in _COUNTED}
        self.misshapen: list[str] = []
        self.new_head = False
        heads = {len(t) for key, t in self.state.items() if self._is_head(key) and t.ndim}
        self.head_is_whole = len(heads) == 1

    def place_all(self) -> None:
        for key, target in self.wanted.items():
            self._place(key, target)
        for key in self.state.keys() - self.wanted.keys():
            leaves_with_time = self.to_images and _first_match(self.reader.begins, key)
            self.keys["inflated" if leaves_with_time else "unexpected"].append(key)
        self.keys["unexpected"] += self.checkpoint.translation.unknown

    def _place(self, key: str, target: Tensor) -> None:
        """Finds the numbers for the model's tensor `target`, or notes that there are none."""
        tensor = self.state.get(key)
        if tensor is None:
            return self._begin(key, target)
        if tensor.shape == target.shape:
            return self._put("inflated" if key in self.computed else "matched", key, tensor)
        same_input = tensor.ndim and tensor.shape[1:] == target.shape[1:]
        if self._is_head(key) and self.head_is_whole and same_input:
            self.new_head = True
            self.keys["missing"].append(key)
            self.keys["unexpected"].append(key)
            return None
        resize = _first_match(self.reader.tables, key)
        if resize and _is_resizable(tensor, target):
            return self._put("interpolated", key, resize(tensor, target, self.spec))
        changed = change_time(tensor, target.shape, self.inflation)
        if changed is None or (changed.numel() != tensor.numel() and not self.between):
            self.misshapen.append(
                f"{key} is {tuple(tensor.shape)} in the checkpoint, {tuple(target.shape)} in the model"
            )
            return None
        if changed.numel() == tensor.numel():
            self.keys["reshaped"].append(key)
            return self._put("matched", key, changed)
        return self._put("inflated", key, changed)

    def _is_head(self, key: str) -> bool:
        return re.fullmatch(self.reader.head, key) is not None

    def _put(self, name: str, key: str, tensor: Tensor) -> None:
        self.fitted[key] = tensor
        self.keys[name].append(key)

    def _begin(self, key: str, target: Tensor) -> None:
        """What only video has begins at a value that leaves a clip that stands still alone."""
        if key.endswith("num_batches_tracked"):  # a counter of BatchNorm that nothing here reads
            self.fitted[key] = torch.zeros_like(target)
            return
        begin = _first_match(self.reader.begins, key)
        if begin and self.checkpoint.is_image_model:
            self._put("inflated", key, begin(target))
        else:
            self.keys["missing"].append(key)

    def refuse_misfits(self, allow_missing: Sequence[str], allow_unexpected: Sequence[str]) -> None:
        head = [self.reader.head] if self.new_head else []
        missing = _not_allowed(self.keys["missing"], [*allow_missing, *head])
        unexpected = _not_allowed(self.keys["unexpected"], [*allow_unexpected, *head])
        if not (missing or unexpected or self.misshapen):
            return
        problems = [
            *_list("missing from the checkpoint", missing),
            *_list("not in the model", unexpected),
            *_list("of another shape", self.misshapen),
            *self._architectures(),
        ]
        raise InputError(
            f"{self.checkpoint.source} ({self.checkpoint.dialect}) does not fit the model, nothing was loaded: "
            + "; ".join(problems)
            + ". Take the config these weights were trained with; or allow what may differ by name "
            "(TRAIN.CHECKPOINT_ALLOW)"
        )

    def _architectures(self) -> list[str]:
        """Where the checkpoint's architecture and the model's differ, if the tensors tell."""
        try:
            found = self.reader.infer(self.checkpoint.state, None)
        except InputError as error:
            return [str(error)]
        differ = self.reader.differences(found, self.spec)
        return [f"checkpoint against model, {line}" for line in differ[:_NAMED]]

    def refuse_contradicting_tables(self) -> None:
        """Tables are resized together, or one of them is damaged."""
        if not self.keys["interpolated"]:
            return
        try:
            spec = checkpoint_spec(self.checkpoint)
        except InputError:
            if self._is_published():
                raise
            return  # and there is no config: nothing says what the tables should be
        refuse_contradicting_tables(self.checkpoint, spec)

    def _is_published(self) -> bool:
        """True if the model's own tensors tell what it is."""
        try:
            self.reader.infer(self.wanted, None)
        except InputError:
            return False
        return True

    def report(self) -> LoadReport:
        translation = self.checkpoint.translation
        reshaped = {*translation.reshaped, *self.keys["reshaped"]} & self.fitted.keys()
        return LoadReport(
            source=self.checkpoint.source,
            dialect=self.checkpoint.dialect,
            renamed=translation.renamed,
            reshaped=tuple(sorted(reshaped)),
            dropped=translation.dropped,
            new_head=self.new_head,
            **{
                name: tuple(self.keys[name])
                for name in ("matched", "interpolated", "inflated", "missing", "unexpected")
            },
        )


def _is_resizable(table: Tensor, target: Tensor) -> bool:
    """True for tables (L, d) or (1, N, C) that differ in the number of positions alone."""
    others = (slice(0, -2), slice(-1, None))
    return table.ndim == target.ndim and all(table.shape[i] == target.shape[i] for i in others)


def _first_match(table: Iterable[tuple[str, Found]], key: str) -> Found | None:
    return next((value for pattern, value in table if re.fullmatch(pattern, key)), None)


def _not_allowed(keys: Iterable[str], allowed: Sequence[str]) -> list[str]:
    return [key for key in keys if not any(re.fullmatch(pattern, key) for pattern in allowed)]


def _list(what: str, keys: Sequence[str]) -> list[str]:
    """One line of a message: how many, and the first few by name."""
    if not keys:
        return []
    more = f" and {len(keys) - _NAMED} more" if len(keys) > _NAMED else ""
    return [f"{len(keys)} {what} ({', '.join(keys[:_NAMED])}{more})"]
