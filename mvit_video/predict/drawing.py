"""Labels and score bars as a panel in the corner of a picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mvit_video.predict.results import ClassScore
from mvit_video.predict.text import plain

_GROUND, _BAR, _TEXT = (0, 0, 0, 150), (40, 120, 220, 200), (255, 255, 255, 255)
_SMALLEST, _LARGEST = 9, 48  # height of letters in pixels


class Panel:
    """Draws what is on into pictures of one size; the panel itself is made anew only when that changes."""

    def __init__(self, height: int, width: int) -> None:
        self._size = min(max(height // 24, _SMALLEST), _LARGEST)
        self._font = ImageFont.load_default(self._size)
        self._row = round(1.5 * self._size)
        self._width = min(width, max(18 * self._size, width // 3))
        self._most = max(height // self._row, 1)
        self._shown: Sequence[ClassScore] = ()
        self._colour, self._cover = np.zeros((0, 0, 3)), np.zeros((0, 0, 1))

    def draw(self, picture: np.ndarray, top: Sequence[ClassScore]) -> None:
        """Blends the panel for `top` into the upper left corner of (H, W, 3) uint8 RGB, in place."""
        if top != self._shown:
            self._make(top)
        height, width = self._cover.shape[:2]
        corner = picture[:height, :width]
        corner[:] = np.rint(
            self._colour[: corner.shape[0]] + corner * (1 - self._cover[: corner.shape[0]])
        )

    def _make(self, top: Sequence[ClassScore]) -> None:
        self._shown = top
        rows = top[: self._most]
        image = Image.new("RGBA", (self._width, self._row * len(rows)), _GROUND)
        pen = ImageDraw.Draw(image)
        for i, best in enumerate(rows):
            self._draw_row(pen, i * self._row, best)
        pixels = np.asarray(image, dtype=np.float32)
        self._cover = pixels[..., 3:] / 255
        self._colour = pixels[..., :3] * self._cover

    def _draw_row(self, pen: ImageDraw.ImageDraw, y: int, best: ClassScore) -> None:
        margin = self._size // 3
        pen.rectangle((0, y + 1, best.score * self._width, y + self._row - 2), fill=_BAR)
        percent = f"{best.score:.0%}"
        room = self._width - 3 * margin - pen.textlength("100%", self._font)
        name = fitted(best.name, room, pen, self._font)
        middle = y + self._row // 2
        pen.text((margin, middle), name, _TEXT, self._font, anchor="lm")
        pen.text((self._width - margin, middle), percent, _TEXT, self._font, anchor="rm")


def fitted(text: str, room: float, pen: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont) -> str:
    """`text` in one line of visible characters, cut where it would be wider than `room` pixels."""
    text = plain(text)[:200]
    if pen.textlength(text, font) <= room:
        return text
    while text and pen.textlength(f"{text}...", font) > room:
        text = text[:-1]
    return f"{text}..."
