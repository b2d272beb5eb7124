"""decord, where it is exact; PyAV everywhere else, whatever was asked for.

decord seeks to a key frame and then *counts* frames, so it gives a wrong frame, in silence, wherever a key frame's
place in decoding order is not its place in presentation order, or where a packet is not a frame: open groups of
pictures, B pictures in AVI, HEVC, MPEG streams, edit lists; from some of these it never returns. So the packets are
read first (milliseconds), and decord gets only the files whose packets prove that counting is right. Where it fails
all the same, PyAV has the last word: both readers give the same frames, or the same error.

Native frames are PyAV's bit for bit. Where a size is asked for, decord scales with swscale's bicubic filter, PyAV with
the bilinear one. What decord cannot tell is damage that its decoder conceals; it gives such frames as they are.
"""

from __future__ import annotations

import logging
import os
from itertools import pairwise

import numpy as np
import torch  # noqa: F401  decord loaded before torch has crashed where torch then meets CUDA

from mvit_video.data.readers.base import Frames, Size, SizeRequest, VideoInfo, settle
from mvit_video.data.readers.pyav_reader import Video, open_video

EXACT = {
    ("mp4", "h264"),
    ("matroska", "h264"),
    ("matroska", "vp8"),
    ("matroska", "vp9"),
}
"""Containers and codecs that decord reads exactly, if nothing in `why_not` speaks against a file.

MPEG-4 is not among them: decord's decoder rounds some blocks differently from today's (UCF101: 8 frames of 251).
"""

log = logging.getLogger(__name__)
_said: set[str] = set()


class DecordReader:
    """Reads with decord what decord reads exactly, and the rest with PyAV. See `base.Reader`."""

    name = "decord"

    def probe(self, path: str) -> VideoInfo:
        """See `base.Reader.probe`."""
        with open_video(path) as video:
            return video.info

    def read(
        self, path: str, frames: Frames, size: SizeRequest = None
    ) -> tuple[np.ndarray, VideoInfo]:
        """See `base.Reader.read`."""
        with open_video(path) as video:
            numbers, size = settle(video.info, frames, size)
            reason = why_not(video)
            out = _fetch(video, numbers, size) if reason is None else None
            if out is None:
                _say_once(reason or "decord itself fails", video.path)
                out = video.read(numbers, size)
            return out, video.info


def why_not(video: Video) -> str | None:
    """Why decord must not read this file; None where it may."""
    index = video.index
    objections = {
        f"{index.codec} in {index.container}": (index.container, index.codec) not in EXACT,
        f"{index.doubt}": index.doubt is not None,
        "an edit list": index.edited,
        "an open group of pictures, or a key frame that is none": not index.clean_keys,
        "a size that changes on the way": index.resized,
        "missing packets": index.cut,
        "more than one video stream": video.num_streams > 1,
        "a rotation": video.rotation != 0,
        f"{video.pixel_format} pictures": video.pixel_format not in ("yuv420p", "yuvj420p"),
        # On these two, decord's older swscale places chroma differently.
        "interlaced pictures": video.interlaced,
        "an odd height": video.info.height % 2 == 1,
    }
    return next((reason for reason, holds in objections.items() if holds), None)


def _fetch(video: Video, numbers: list[int], size: Size | None) -> np.ndarray | None:
    """Open, read and close with decord; None where it fails.

    The reader must not outlive this function: it decodes ahead for as long as it lives, without a bound on memory.
    """
    import decord

    decord.logging.set_level(decord.logging.QUIET)
    height, width = size or (-1, -1)
    try:
        reader = decord.VideoReader(
            os.path.abspath(video.path), num_threads=1, width=width, height=height, fault_tol=1
        )
        if len(reader) != video.info.num_frames:
            return None
        batch = reader.get_batch(numbers)
        del reader
    except (RuntimeError, decord.DECORDError, decord.DECORDLimitReachedError):
        return None
    # Other packages set decord's "bridge" for everybody, and then a batch is theirs, a torch tensor for example.
    out = batch.asnumpy() if hasattr(batch, "asnumpy") else np.asarray(batch)
    expected = (len(numbers), *(size or (video.info.height, video.info.width)), 3)
    return out if out.shape == expected and not _repeats(out, numbers) else None


def _repeats(out: np.ndarray, numbers: list[int]) -> bool:
    """Whether neighbours among the frames look the same: decord's way of saying nothing about a frame it has lost.

    A picture that stands still looks like that too; then PyAV decides.
    """
    order = sorted(range(len(numbers)), key=numbers.__getitem__)
    return any(
        numbers[a] != numbers[b] and np.array_equal(out[a, ::4, ::4], out[b, ::4, ::4])
        for a, b in pairwise(order)
    )


def _say_once(reason: str, path: str) -> None:
    if reason not in _said:
        _said.add(reason)
        log.warning("PyAV, not decord, reads files of this kind: %s (first met: %s)", reason, path)
