"""Colour jitter: brightness, contrast and saturation by random factors in random order, once per clip."""

from __future__ import annotations

import numpy as np

from mvit_video.data.augmentation.randaugment import Operation


def draw_color_jitter(strength: float, rng: np.random.Generator) -> tuple[Operation, ...]:
    """Brightness, Contrast and Color, each by a factor in 1 - strength ... 1 + strength (never below 0)."""
    factors = rng.uniform(max(0.0, 1 - strength), 1 + strength, size=3)
    names = rng.permutation(["Brightness", "Contrast", "Color"])
    return tuple(
        Operation(str(name), float(factor)) for name, factor in zip(names, factors, strict=True)
    )
