"""Film strips: a few frames of a video side by side, small enough to lie inside a page."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from mvit_video.data.readers import Reader, VideoInfo

FRAMES = 4
_WIDTH, _HEIGHT = 160, 120  # the most a frame takes
_GAP = 3
_QUALITY = 72


def film_strip(reader: Reader, path: str) -> str:
    """FRAMES frames from all over a video (one of an image) as a JPEG data URI of at most some 30 kB.

    Raises:
        VideoError: they cannot be decoded.
    """
    frames, _ = reader.read(path, _spread, _fitted)
    gap = np.zeros_like(frames[0][:, :_GAP])
    parts = [part for frame in frames for part in (gap, frame)][1:]
    strip = Image.fromarray(np.concatenate(parts, axis=1))
    file = io.BytesIO()
    strip.save(file, "JPEG", quality=_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def _spread(info: VideoInfo) -> list[int]:
    """The middles of FRAMES equal parts; each frame once where there are fewer."""
    return sorted({(2 * i + 1) * info.num_frames // (2 * FRAMES) for i in range(FRAMES)})


def _fitted(info: VideoInfo) -> tuple[int, int]:
    """(height, width) within the largest size, with the video's own proportions."""
    scale = min(_WIDTH / info.width, _HEIGHT / info.height)
    return max(round(info.height * scale), 1), max(round(info.width * scale), 1)
