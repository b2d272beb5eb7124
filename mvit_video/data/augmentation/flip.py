"""Which label a mirrored clip has."""

from __future__ import annotations

import re
from collections.abc import Sequence

_MIRROR = {"left": "right", "right": "left"}


def mirrored_labels(class_names: Sequence[str]) -> tuple[int, ...]:
    """For each class the label of its mirror image: the class whose name has left and right exchanged.

    Names without either word are their own mirror image (the words stand alone: not as in "bright"). A class whose
    mirrored name is missing gets -1: its clips must not be flipped.
    """
    index = {name.lower(): label for label, name in enumerate(class_names)}
    return tuple(index.get(_mirror(name.lower()), -1) for name in class_names)


def _mirror(name: str) -> str:
    return re.sub(r"(?<![a-z])(left|right)(?![a-z])", lambda match: _MIRROR[match[0]], name)
