"""Opening video files without trusting them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

import av
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from mvit_video.errors import VideoError

NOT_VIDEOS = ("tty", "concat", "hls", "dash")
"""FFmpeg's formats for text, and for play lists, which name other files."""

MAX_PIXELS = 2**26
"""Of a frame: twice as many as 8K has. A few bytes can ask a decoder for any number of them."""


@contextmanager
def told_as_video_error(path: str) -> Iterator[None]:
    """What FFmpeg and the system raise in here becomes a `VideoError`."""
    try:
        yield
    except (av.error.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise VideoError(path, reason.splitlines()[0]) from error


def open_file(path: str) -> InputContainer:
    """A regular file as FFmpeg's demuxer sees it.

    Raises:
        VideoError: it is no video. Other troubles come as they do from av.open.
    """
    status = os.stat(path)
    if stat.S_ISDIR(status.st_mode):
        raise VideoError(path, "is a directory")
    if not stat.S_ISREG(status.st_mode):  # to open a pipe or a device may take for ever
        raise VideoError(path, "is not a regular file")
    if status.st_size == 0:
        raise VideoError(path, "is empty")
    # An absolute path cannot be taken for a protocol ("a:b.mp4"), and a list in disguise reaches no network.
    container = open_tolerant(os.path.abspath(path), options={"protocol_whitelist": "file"})
    if container.format.name in NOT_VIDEOS:
        raise VideoError(path, "is text or a list of files, not a video")
    return container


def open_tolerant(source: str, **settings: object) -> InputContainer:
    """av.open, whatever the file's tags are."""
    try:
        return av.open(source, metadata_errors="ignore", **settings)
    except TypeError:  # PyAV 19 dropped the argument: tags that are not UTF-8 are fine there
        return av.open(source, **settings)


def best_video_stream(container: InputContainer, path: str) -> VideoStream:
    """The video stream that FFmpeg finds best, ready to be decoded. Raises VideoError where there is none."""
    stream = container.streams.best("video")
    if stream is None:
        raise VideoError(path, "has no video stream")
    if stream.disposition & av.stream.Disposition.attached_pic:
        raise VideoError(path, "has no video stream but a cover picture")
    decoder = stream.codec_context
    if decoder is None:
        raise VideoError(path, "is coded in a way that this FFmpeg cannot decode")
    if decoder.width * decoder.height > MAX_PIXELS:
        raise VideoError(
            path,
            f"its frames are {decoder.width} x {decoder.height} pixels; up to {MAX_PIXELS:,} in all are read",
        )
    decoder.options = {"max_pixels": str(MAX_PIXELS)}  # also where the size changes on the way
    return stream


def shown_at(frame: VideoFrame, container: InputContainer) -> int | None:
    """When a frame is shown, in its stream's unit; None where nothing says it.

    AVI has times in decoding order only, which is the order that frames come out of a decoder in.
    """
    return frame.dts if container.format.name == "avi" else frame.pts
