"""Heat drawn over frames: a strip of pictures, or a video that plays at the clip's own speed."""

from __future__ import annotations

import os
from fractions import Fraction

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from mvit_video.files import atomic_file
from mvit_video.predict.drawing import fitted
from mvit_video.predict.explain.clip import ShownClip, heat_on_frames
from mvit_video.predict.explain.explanation import Explanation

# From nothing to much: black, violet, red, orange, pale yellow.
_COLOURS = np.array(
    [(10, 5, 30), (95, 20, 125), (205, 50, 80), (250, 145, 40), (255, 245, 180)], dtype=np.float32
)
_GAP, _LINE = 6, 22  # pixels between pictures, and of a line of text
_SIDE = 160  # of a picture in a strip
_X264 = {"preset": "veryfast", "crf": "18"}
_PAPER, _INK, _PALE = (255, 255, 255), (25, 25, 30), (110, 110, 120)


def write_strip(
    path: str | os.PathLike[str], clip: ShownClip, told: Explanation, name: str
) -> None:
    """A PNG: the frames in a row with their times, and a row with the heat over them for every map."""
    width = _GAP + len(clip.frames) * (_SIDE + _GAP)
    rows = len(told.maps) + 1
    sheet = Image.new("RGB", (width, _GAP + _LINE + rows * (_LINE + _SIDE + _GAP)), _PAPER)
    draw = ImageDraw.Draw(sheet)
    top = _GAP
    for column, seconds in enumerate(clip.seconds):
        left = _GAP + column * (_SIDE + _GAP)
        _write(draw, (left, top + _LINE), f"{seconds:.2f} s", _SIDE, _PALE)
    _write(draw, (_GAP, top), f"{name}: {told.answer}", width - 2 * _GAP, _INK)
    top += 2 * _LINE
    _paste_row(sheet, top, clip.frames)
    for each in told.maps:
        top += _SIDE + _GAP + _LINE
        _write(draw, (_GAP, top - _LINE), each.title, width - 2 * _GAP, _INK)
        _paste_row(sheet, top, overlay(clip.frames, heat_on_frames(each.heat, clip)))
    with atomic_file(path) as file:
        sheet.save(file, "PNG")


def write_video(
    path: str | os.PathLike[str], clip: ShownClip, told: Explanation, name: str
) -> None:
    """An H.264 MP4: the frames, and beside them the same with the heat of every map."""
    panels = [clip.frames] + [overlay(clip.frames, heat_on_frames(m.heat, clip)) for m in told.maps]
    titles = [f"{name}: {told.answer}", *(each.title for each in told.maps)]
    side = clip.frames.shape[1]
    width = _GAP + len(panels) * (side + _GAP)
    height = _LINE + side + 2 * _GAP
    sheet = Image.new("RGB", (width + width % 2, height + height % 2), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for place, title in enumerate(titles):
        _write(draw, (_GAP + place * (side + _GAP), _GAP), title, side, _INK)
    rate = Fraction(clip.fps).limit_denominator(1001)
    with atomic_file(path) as file, av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=rate, options=_X264)
        stream.width, stream.height, stream.pix_fmt = *sheet.size, "yuv420p"
        for pictures in zip(*panels, strict=True):
            for place, picture in enumerate(pictures):
                corner = (_GAP + place * (side + _GAP), _LINE + _GAP)
                sheet.paste(Image.fromarray(picture), corner)
            container.mux(stream.encode(av.VideoFrame.from_image(sheet)))
        container.mux(stream.encode(None))


def overlay(frames: np.ndarray, heat: Tensor) -> np.ndarray:
    """Frames (F, S, S, 3) uint8 with heat (F, S, S) over them, on one scale; those without any are grey and dim."""
    strength = (heat / heat.max().clamp(min=1e-12)).sqrt().numpy()[..., None]
    return np.stack([_tinted(*pair) for pair in zip(frames, strength, strict=True)])


def _tinted(frame: np.ndarray, strength: np.ndarray) -> np.ndarray:
    """One frame (S, S, 3), and the strength of the heat (S, S, 1) in 0 ... 1."""
    grey = frame.astype(np.float32) @ np.array([[0.3], [0.59], [0.11]], dtype=np.float32)
    ground = frame * strength + 0.55 * grey * (1 - strength)
    cover = 0.55 * strength
    mixed = ground * (1 - cover) + cover * _colour(strength[..., 0])
    return np.clip(mixed.round(), 0, 255).astype(np.uint8)


def _colour(strength: np.ndarray) -> np.ndarray:
    """(...,) in 0 ... 1 to (..., 3)."""
    place = strength * (len(_COLOURS) - 1)
    below = np.minimum(place.astype(int), len(_COLOURS) - 2)
    part = (place - below)[..., None]
    return _COLOURS[below] * (1 - part) + _COLOURS[below + 1] * part


def _paste_row(sheet: Image.Image, top: int, frames: np.ndarray) -> None:
    for column, frame in enumerate(frames):
        picture = Image.fromarray(frame).resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
        sheet.paste(picture, (_GAP + column * (_SIDE + _GAP), top))


def _write(
    draw: ImageDraw.ImageDraw, place: tuple[int, int], text: str, width: int, ink: tuple[int, ...]
) -> None:
    """One line of text, cut where it does not fit."""
    font = ImageFont.load_default(14)
    draw.text(place, fitted(text, width, draw, font), ink, font)
