"""What a key and a section are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Key:
    """One key of a run.

    Attributes:
        default: its default; the type of the default is the type of the key.
        meaning: one or two sentences for docs/configuration.md.
        choices: its allowed values, if they are few.
    """

    default: Any
    meaning: str
    choices: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Section:
    """A group of keys."""

    meaning: str
    keys: dict[str, Key]
