"""What there is to know about a video file before it is trained on."""

from __future__ import annotations

import os
from dataclasses import dataclass

from mvit_video.data.readers.decord_reader import why_not
from mvit_video.data.readers.pyav_reader import open_video
from mvit_video.errors import VideoError


@dataclass(frozen=True)
class Facts:
    """Facts of a video file, as lists carry them beside them.

    Attributes:
        frames: what a sequential decode delivers.
        fps: average frames per second.
        width, height: pixels, upright.
        duration: seconds, frames / fps.
        codec, container: FFmpeg's names.
        decord: "exact", or why decord is not to be trusted with the file.
        bytes: size of the file.
    """

    frames: int
    fps: float
    width: int
    height: int
    duration: float
    codec: str
    container: str
    decord: str
    bytes: int


def probe(path: str, quick: bool = False) -> Facts:
    """Facts of a video of which every frame can be decoded.

    Args:
        path: of the file.
        quick: decode the first and the last frame only. What is damaged in between is then found in training.

    Raises:
        VideoError: it cannot be decoded to its last frame, and why.
    """
    try:
        with open_video(path) as video:
            if quick:
                video.read([0, video.info.num_frames - 1], size=(16, 16))
            else:
                for _ in video.frames():
                    pass
            info, index = video.info, video.index
            return Facts(
                frames=info.num_frames,
                fps=round(info.fps, 6),
                width=info.width,
                height=info.height,
                duration=round(info.num_frames / info.fps, 3),
                codec=index.codec,
                container=index.container,
                decord=why_not(video) or "exact",
                bytes=os.path.getsize(path),
            )
    except VideoError:
        raise
    except Exception as error:  # one strange file must not end the preparation of a million others
        raise VideoError(path, f"{type(error).__name__}: {error}") from error
