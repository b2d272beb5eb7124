"""What somebody else calls a tensor, and what we call it.

A dialect is an explicit table, read top to bottom: a regular expression for their key, our name, and
what is done to the tensor on the way. Nothing is matched by shape. A key that no rule names is kept
aside and later refused as unexpected.

To add a family or a dialect, see `mvit_video/weights/dialects/__init__.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from mvit_video.errors import InputError

State = dict[str, Tensor]


@dataclass(frozen=True)
class Rule:
    """One line of a table; made by `copy`, `reshape`, `join`, `duplicate` or `drop`.

    Attributes:
        pattern: regular expression that matches the whole of their key.
        target: our name, as a template of the match (`\\1`, `\\g<name>`).
        operation: what `translate` does.
        change: for reshape, from their tensor to ours; it must only move or view numbers, never alter them.
        parts: for join, the values of the group `part` in the order in which they are stacked along the first axis.
    """

    pattern: str
    target: str
    operation: Literal["copy", "reshape", "join", "duplicate", "drop"]
    change: Callable[[Tensor], Tensor] | None = None
    parts: tuple[str, ...] = ()


def copy(pattern: str, target: str = r"\g<0>") -> Rule:
    """The tensor as it is, under our name (the same name if none is given)."""
    return Rule(pattern, target, "copy")


def reshape(pattern: str, target: str, change: Callable[[Tensor], Tensor]) -> Rule:
    """The same numbers in another shape."""
    return Rule(pattern, target, "reshape", change)


def join(pattern: str, target: str, parts: tuple[str, ...]) -> Rule:
    """Several tensors stacked into one; `(?P<part>...)` in the pattern says which part a key holds."""
    return Rule(pattern, target, "join", parts=parts)


def duplicate(pattern: str, target: str) -> Rule:
    """A second key for the tensor that also goes to `target`: dropped once it was seen to be the same."""
    return Rule(pattern, target, "duplicate")


def drop(pattern: str) -> Rule:
    """A tensor that takes no part in the model's output (a counter, a buffer that is computed)."""
    return Rule(pattern, "", "drop")


@dataclass(frozen=True)
class Dialect:
    """One project's naming of one family's tensors.

    Attributes:
        name: as reports call it.
        family: the family's name in `mvit_video.models`.
        markers: regular expressions; each must match some key, and together they match no other dialect's files.
        rules: the table; the first rule whose pattern matches a key decides.
    """

    name: str
    family: str
    markers: tuple[str, ...]
    rules: tuple[Rule, ...]

    def speaks(self, keys: Iterable[str]) -> bool:
        """True if `keys` look like this dialect's."""
        keys = list(keys)
        return all(any(re.fullmatch(marker, key) for key in keys) for marker in self.markers)


@dataclass(frozen=True)
class Translation:
    """A state dict in our names, and how it came to be.

    Attributes:
        state: our names and tensors.
        renamed: (their key, our key) wherever the two differ.
        reshaped: our keys whose tensors changed shape, joined ones included.
        dropped: their keys that were checked to be duplicates, or that carry nothing.
        unknown: their keys (with tensors) that the table does not know.
    """

    state: State
    renamed: tuple[tuple[str, str], ...] = ()
    reshaped: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    unknown: Mapping[str, Tensor] = field(default_factory=dict)


def translate(state: Mapping[str, Tensor], rules: tuple[Rule, ...], source: str) -> Translation:
    """`state` under our names.

    Args:
        state: their keys and tensors.
        rules: a dialect's table.
        source: names the checkpoint in errors.

    Raises:
        InputError: two keys give the same tensor of ours and differ, or a part of a joined tensor is missing.
    """
    translator = _Translator(rules, source)
    for key, tensor in state.items():
        translator.place(key, tensor)
    translator.join_parts()
    translator.compare_duplicates()
    return Translation(
        translator.ours,
        tuple(translator.renamed),
        tuple(translator.reshaped),
        tuple(translator.dropped),
        translator.unknown,
    )


class _Translator:
    """Goes through a state dict key by key; joins and comparisons wait until all keys are known."""

    def __init__(self, rules: tuple[Rule, ...], source: str) -> None:
        self.rules, self.source = rules, source
        self.ours: State = {}
        self.origin: dict[str, str] = {}
        self.parts: dict[str, tuple[Rule, dict[str, tuple[str, Tensor]]]] = {}
        self.duplicates: list[tuple[str, str, Tensor]] = []
        self.renamed: list[tuple[str, str]] = []
        self.reshaped: list[str] = []
        self.dropped: list[str] = []
        self.unknown: State = {}

    def place(self, key: str, tensor: Tensor) -> None:
        rule, match = _first_match(self.rules, key)
        if rule is None or match is None:
            self.unknown[key] = tensor
            return
        target = match.expand(rule.target)
        if rule.operation == "drop":
            self.dropped.append(key)
        elif rule.operation == "duplicate":
            self.duplicates.append((key, target, tensor))
        elif rule.operation == "join":
            _, parts = self.parts.setdefault(target, (rule, {}))
            parts[match["part"]] = (key, tensor)
        else:
            self.take(key, target, rule.change(tensor) if rule.change else tensor)
            if rule.change:
                self.reshaped.append(target)

    def take(self, key: str, target: str, tensor: Tensor) -> None:
        if target in self.ours:
            raise InputError(f"{self.source}: {self.origin[target]} and {key} both hold {target}")
        self.ours[target] = tensor
        self.origin[target] = key
        if key != target:
            self.renamed.append((key, target))

    def join_parts(self) -> None:
        for target, (rule, parts) in self.parts.items():
            absent = [part for part in rule.parts if part not in parts]
            present = ", ".join(key for key, _ in parts.values())
            if absent:
                raise InputError(
                    f"{self.source}: beside {present} the part {', '.join(absent)} of {target} is missing"
                )
            tensors = [parts[part][1] for part in rule.parts]
            if len({tensor.shape[1:] for tensor in tensors}) > 1 or not all(
                tensor.ndim for tensor in tensors
            ):
                shapes = ", ".join(str(tuple(tensor.shape)) for tensor in tensors)
                raise InputError(f"{self.source}: {present} do not join, they are {shapes}")
            self.take(parts[rule.parts[0]][0], target, torch.cat(tensors))
            self.renamed += [(parts[part][0], target) for part in rule.parts[1:]]
            self.reshaped.append(target)

    def compare_duplicates(self) -> None:
        for key, target, tensor in self.duplicates:
            if target not in self.ours:
                self.take(key, target, tensor)
            elif torch.equal(self.ours[target], tensor):
                self.dropped.append(key)
            else:
                raise InputError(
                    f"{self.source}: {key} should repeat {self.origin[target]} and differs from it; "
                    "the file was altered"
                )


def _first_match(rules: tuple[Rule, ...], key: str) -> tuple[Rule | None, re.Match[str] | None]:
    for rule in rules:
        if match := re.fullmatch(rule.pattern, key):
            return rule, match
    return None, None
