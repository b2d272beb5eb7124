"""What a video reader is: a path, frame numbers and a size in; uint8 frames and the stream's facts out.

The law for every reader: *frame i is the i-th frame of a sequential decode*, bit for bit. Nothing is filled in,
repeated or guessed: a frame that cannot be decoded raises `VideoError`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class VideoInfo:
    """The facts of a video stream.

    Attributes:
        num_frames: how many frames a sequential decode delivers (frames that only the header promises do not count).
        fps: average frames per second.
        width, height: pixels, after the rotation that the file asks for.
    """

    num_frames: int
    fps: float
    width: int
    height: int


Size = tuple[int, int]
"""(height, width) in pixels, after rotation."""

Frames = Sequence[int] | Callable[[VideoInfo], Sequence[int]]
"""Frame numbers from 0, in any order, repeats allowed; or a function that chooses them once the video is known."""

SizeRequest = Size | None | Callable[[VideoInfo], Size | None]
"""The size to scale to; None for the video's own; or a function that chooses once the video is known."""


class Reader(Protocol):
    """Reads videos. A plain object without handles: it can be pickled, and shared by threads and processes.

    Errors of both methods: `VideoError` where the file is missing, is no video, or is damaged where it matters.
    """

    name: str

    def probe(self, path: str) -> VideoInfo:
        """Say what a video is, without reading its pictures where its packets already tell."""
        ...

    def read(
        self, path: str, frames: Frames, size: SizeRequest = None
    ) -> tuple[np.ndarray, VideoInfo]:
        """Open a video, read frames, close it.

        Args:
            path: a regular file on this machine.
            frames: which frames. `IndexError` is raised for a number outside of 0 ... num_frames - 1.
            size: scaled to this inside the decoder, frame by frame, so that memory stays small for large videos.

        Returns:
            RGB frames, uint8 (len(frames), height, width, 3), in the order asked, and the stream's facts.
        """
        ...


def settle(info: VideoInfo, frames: Frames, size: SizeRequest) -> tuple[list[int], Size | None]:
    """Ask `frames` and `size` where they are functions, once each, and check the answers."""
    numbers = [int(i) for i in (frames(info) if callable(frames) else frames)]
    for i in numbers:
        if not 0 <= i < info.num_frames:
            raise IndexError(f"frame {i} of a video with {info.num_frames} frames (0 is the first)")
    size = size(info) if callable(size) else size
    if size is not None:
        height, width = map(int, size)
        if height < 1 or width < 1:
            raise ValueError(f"size {size} is not (height, width) in pixels")
        size = (height, width)
    return numbers, size
