"""A video from its first frame to its last, each decoded once: for videos too long to be read at random, and live ones.

Nothing is known beforehand: neither how many frames there are nor when they are shown. Damage is passed over and
counted, for an hour of video is worth more than its worst second.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import NamedTuple

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from mvit_video.data.readers.base import Size, VideoInfo
from mvit_video.data.readers.container import (
    best_video_stream,
    open_file,
    open_tolerant,
    shown_at,
    told_as_video_error,
)
from mvit_video.data.readers.index import packets_of
from mvit_video.errors import VideoError

_MOST_THREADS = 4
_PATIENCE = 20.0  # seconds that a live source may say nothing
_PROTOCOLS = "file,pipe,rtp,rtsp,rtsps,rtmp,rtmps,srt,tcp,tls,udp"


@dataclass(frozen=True)
class LiveSource:
    """A camera or a network stream, by FFmpeg's names.

    Attributes:
        address: such as "/dev/video0", "rtsp://camera.local/stream".
        format: of the input, such as "v4l2"; "" where FFmpeg finds it out.
    """

    address: str
    format: str = ""


class TimedFrame(NamedTuple):
    """A frame as it was decoded, shown in `begin` ... `end` seconds from the first frame on."""

    begin: float
    end: float
    frame: VideoFrame


@contextmanager
def open_stream(source: str | os.PathLike[str] | LiveSource) -> Iterator[Stream]:
    """Opens a file or a live source for the length of a `with` block. Raises `VideoError`."""
    live = isinstance(source, LiveSource)
    name = source.address if live else os.fspath(source)
    with told_as_video_error(name):
        container = _open_live(source) if live else open_file(name)
    with container:
        yield Stream(container, name)


def _open_live(source: LiveSource) -> InputContainer:
    return open_tolerant(
        source.address,
        format=source.format or None,
        options={} if source.format else {"protocol_whitelist": _PROTOCOLS},
        timeout=_PATIENCE,
    )


class Stream:
    """An open video; `open_stream` makes one.

    Attributes:
        info: size and rate as the header states them, upright once the first frame has come; num_frames is what the
            header promises, 0 where it does not.
        duration: seconds, as the header states it; None where it does not.
        damaged: packets and pictures passed over so far.
    """

    def __init__(self, container: InputContainer, name: str) -> None:
        self.name = name
        self.damaged = 0
        self._container = container
        self._stream = best_video_stream(container, name)
        self._decoder = self._stream.codec_context
        self._decoder.thread_type = "AUTO"
        self._decoder.thread_count = min(os.cpu_count() or 1, _MOST_THREADS)
        self._reformatter = VideoReformatter()
        self._turns: int | None = None  # counter-clockwise quarters that make a picture upright
        # 25 is what FFmpeg itself assumes of streams that state no rate.
        fps = float(self._stream.average_rate or self._stream.guessed_rate or 25)
        size = (self._decoder.width, self._decoder.height)
        self.info = VideoInfo(self._stream.frames, fps, *size)
        self.duration = container.duration / av.time_base if container.duration else None

    def __iter__(self) -> Iterator[TimedFrame]:
        """All frames, in order of time. A frame is shown until the next one is; times that go back are passed over.

        Raises:
            VideoError: not one frame can be decoded, or a live source falls silent.
        """
        step, unit = 1 / self.info.fps, float(self._stream.time_base)
        first, waiting, begin = None, None, 0.0
        with told_as_video_error(self.name):
            for frame in self._decoded():
                if self._turns is None:
                    self._turn(round(frame.rotation / 90) % 4)
                units = shown_at(frame, self._container)
                time = None if units is None else units * unit
                if first is None:
                    first = time or 0.0
                if waiting is None:
                    waiting = frame
                    continue
                time = begin + step if time is None else time - first
                if time <= begin:
                    time = begin + step
                yield TimedFrame(begin, time, waiting)
                waiting, begin = frame, time
        if waiting is None:
            raise VideoError(self.name, "no frame can be decoded")
        yield TimedFrame(begin, begin + (waiting.duration * unit or step), waiting)

    def _decoded(self) -> Iterator[VideoFrame]:
        packets = packets_of(self._container, self._stream)
        while True:
            try:
                packet = next(packets, None)
            except av.error.InvalidDataError:  # the container cannot be read on from here
                self.damaged += 1
                packet = None
            try:
                frames = self._decoder.decode(packet)
            except av.error.InvalidDataError:
                frames = []
                self.damaged += 1
            for frame in frames:
                if frame.is_corrupt:
                    self.damaged += 1
                else:
                    yield frame
            if packet is None:
                return

    def _turn(self, turns: int) -> None:
        self._turns = turns
        if turns % 2:
            self.info = replace(self.info, width=self.info.height, height=self.info.width)

    def upright(self, frame: VideoFrame, size: Size | None = None) -> np.ndarray:
        """(height, width, 3) uint8 RGB, turned as the file asks, scaled to `size` or to the video's own."""
        turns = self._turns or 0
        height, width = size or (self.info.height, self.info.width)
        if turns % 2:
            height, width = width, height
        rgb = self._reformatter.reformat(
            frame, width, height, format="rgb24", interpolation="BILINEAR", threads=1
        )
        return np.rot90(rgb.to_ndarray(), turns)
