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
    ours: State = {}
    origin: dict[str, str] = {}
    parts: dict[str, dict[str, tuple[str, Tensor]]] = {}
    later: list[tuple[str, str, Tensor]] = []
    orders: dict[str, tuple[str, ...]] = {}
    reshaped, dropped = [], []
    unknown: State = {}
    for key, tensor in state.items():
        rule, match = _first_match(rules, key)
        if rule is None or match is None:
            unknown[key] = tensor
            continue
        target = match.expand(rule.target)
        if rule.operation == "drop":
            dropped.append(key)
        elif rule.operation == "duplicate":
            later.append((key, target, tensor))
        elif rule.operation == "join":
            parts.setdefault(target, {})[match["part"]] = (key, tensor)
            orders[target] = rule.parts
        elif target in ours:
            raise InputError(f"{source}: {origin[target]} and {key} both hold {target}")
        else:
            ours[target] = rule.change(tensor) if rule.change else tensor
            origin[target] = key
            if rule.change:
                reshaped.append(target)
    renamed = [(key, target) for target, key in origin.items() if key != target]
    for target, found in parts.items():
        ours[target] = _stack(found, orders[target], target, source)
        reshaped.append(target)
        renamed += [(key, target) for key, _ in found.values()]
    for key, target, tensor in later:
        if target not in ours:
            ours[target] = tensor
            renamed.append((key, target))
        elif torch.equal(ours[target], tensor):
            dropped.append(key)
        else:
            raise InputError(
                f"{source}: {key} should repeat {origin.get(target, target)} but differs from it; the file was altered"
            )
    return Translation(ours, tuple(renamed), tuple(reshaped), tuple(dropped), unknown)


def _first_match(rules: tuple[Rule, ...], key: str) -> tuple[Rule | None, re.Match[str] | None]:
    for rule in rules:
        if match := re.fullmatch(rule.pattern, key):
            return rule, match
    return None, None


def _stack(
    found: Mapping[str, tuple[str, Tensor]], order: tuple[str, ...], target: str, source: str
) -> Tensor:
    absent = [part for part in order if part not in found]
    if absent:
        present = ", ".join(key for key, _ in found.values())
        raise InputError(
            f"{source}: beside {present} the part {', '.join(absent)} of {target} is missing"
        )
    return torch.cat([found[part][1] for part in order])
