"""RandAugment as strings such as `rand-m7-n4-mstd0.5-inc1`, drawn once per clip.

The policy is Cubuk et al., arXiv 1909.13719, in the form that timm made common and MViT was trained with: each
of n operations is picked uniformly, takes place with probability 0.5, and gets its own magnitude from a normal
distribution around m. Drawing needs only numpy, so a loader worker does it; `operations` applies the result.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mvit_video.errors import InputError

LARGEST_MAGNITUDE = 10.0


class Operation(NamedTuple):
    """One operation on all frames of a clip, with its value in the operation's own unit (degrees, bits, factor ...)."""

    name: str
    value: float = 0.0


@dataclass(frozen=True)
class RandAugment:
    """A policy.

    Attributes:
        magnitude: strength m, 0 ... 10.
        number: operations drawn per clip, with replacement.
        probability: chance of each drawn operation to take place.
        magnitude_std: standard deviation of the strength; the result is held in 0 ... 10.
        increasing: take the operations whose effect grows with the strength. Without it, as first published,
            Posterize and Solarize grow weaker with it, and the enhancements run from 0.1 through neutral to 1.9.
    """

    magnitude: float = LARGEST_MAGNITUDE
    number: int = 2
    probability: float = 0.5
    magnitude_std: float = 0.0
    increasing: bool = False

    @classmethod
    def parse(cls, text: str) -> RandAugment:
        """The policy that `text` names: `rand` and then parts m, n, p, mstd, inc with a number, in any order.

        Raises:
            InputError: the part that is wrong, and what it may be.
        """
        head, *parts = text.split("-")
        if head != "rand":
            raise InputError(f"AUG.AA_TYPE is {text!r}; {_GRAMMAR}")
        found: dict[str, float] = {}
        for part in parts:
            match = re.fullmatch(r"([a-z]+)(\d+(?:\.\d+)?)", part)
            if match is None or match[1] not in _PARTS:
                raise InputError(f"AUG.AA_TYPE is {text!r}: {part!r} is no part of it; {_GRAMMAR}")
            name, value = match[1], float(match[2])
            field = _PARTS[name]
            if field.name in found:
                raise InputError(f"AUG.AA_TYPE is {text!r}: {name} comes twice")
            if not field.least <= value <= field.most or (field.whole and value != int(value)):
                kind = "a whole number" if field.whole else "a number"
                raise InputError(
                    f"AUG.AA_TYPE is {text!r}: {name} takes {kind} in {field.least:g} ... {field.most:g}"
                )
            found[field.name] = value
        return cls(
            magnitude=found.get("magnitude", cls.magnitude),
            number=int(found.get("number", cls.number)),
            probability=found.get("probability", cls.probability),
            magnitude_std=found.get("magnitude_std", cls.magnitude_std),
            increasing=bool(found.get("increasing", cls.increasing)),
        )

    def draw(self, rng: np.random.Generator) -> tuple[Operation, ...]:
        """The operations for one clip, in order; those that do not take place are left out."""
        levels = INCREASING if self.increasing else PLAIN
        names = tuple(levels)
        drawn = []
        for choice in rng.integers(len(names), size=self.number):
            # Every operation uses up the same random numbers whether it takes place or not, so that a change of
            # probability or deviation leaves the other choices as they were.
            takes_place = rng.random() < self.probability
            strength = self.magnitude + self.magnitude_std * rng.standard_normal()
            sign = 1.0 if rng.random() < 0.5 else -1.0
            if takes_place:
                strength = min(max(strength, 0.0), LARGEST_MAGNITUDE)
                drawn.append(levels[names[choice]](strength / LARGEST_MAGNITUDE, sign))
        return tuple(drawn)


class _Part(NamedTuple):
    name: str
    least: float
    most: float
    whole: bool = False


_PARTS = {
    "m": _Part("magnitude", 0, LARGEST_MAGNITUDE),
    "n": _Part("number", 1, 20, whole=True),
    "p": _Part("probability", 0, 1),
    "mstd": _Part("magnitude_std", 0, LARGEST_MAGNITUDE),
    "inc": _Part("increasing", 0, 1, whole=True),
}
_GRAMMAR = (
    "write rand, then any of m (magnitude 0 ... 10), n (operations), p (probability), mstd (standard deviation) "
    "and inc (1: the increasing set), such as rand-m7-n4-mstd0.5-inc1; empty for none"
)

# From a strength in 0 ... 1 and a random sign to the operation itself. Enhancement factors are 1 for no change.
_Level = Callable[[float, float], Operation]


def _fixed(name: str) -> _Level:
    return lambda strength, sign: Operation(name)


def _signed(name: str, most: float) -> _Level:
    return lambda strength, sign: Operation(name, sign * strength * most)


def _enhance(name: str) -> _Level:
    return lambda strength, sign: Operation(name, 0.1 + 1.8 * strength)


def _enhance_increasing(name: str) -> _Level:
    return lambda strength, sign: Operation(name, 1 + sign * 0.9 * strength)


_COMMON: dict[str, _Level] = {
    "AutoContrast": _fixed("AutoContrast"),
    "Equalize": _fixed("Equalize"),
    "Invert": _fixed("Invert"),
    "Rotate": _signed("Rotate", 30.0),
    "SolarizeAdd": lambda strength, sign: Operation("SolarizeAdd", int(110 * strength)),
    "ShearX": _signed("ShearX", 0.3),
    "ShearY": _signed("ShearY", 0.3),
    "TranslateX": _signed("TranslateX", 0.45),
    "TranslateY": _signed("TranslateY", 0.45),
}
_ENHANCEMENTS = ("Color", "Contrast", "Brightness", "Sharpness")

PLAIN: dict[str, _Level] = {
    **_COMMON,
    "Posterize": lambda strength, sign: Operation("Posterize", int(4 * strength)),
    "Solarize": lambda strength, sign: Operation("Solarize", int(256 * strength)),
    **{name: _enhance(name) for name in _ENHANCEMENTS},
}
INCREASING: dict[str, _Level] = {
    **_COMMON,
    "Posterize": lambda strength, sign: Operation("Posterize", 4 - int(4 * strength)),
    "Solarize": lambda strength, sign: Operation("Solarize", 256 - int(256 * strength)),
    **{name: _enhance_increasing(name) for name in _ENHANCEMENTS},
}
