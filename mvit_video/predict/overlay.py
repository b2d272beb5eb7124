"""The video itself with labels and score bars drawn in: the same frames at the same times, the same sound."""

from __future__ import annotations

import math
import os
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer, OutputContainer
from av.stream import Stream
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from mvit_video.data.preparation.reencode import copy_color
from mvit_video.data.readers.container import (
    best_video_stream,
    open_file,
    shown_at,
    told_as_video_error,
)
from mvit_video.data.readers.index import packets_of
from mvit_video.errors import InputError, VideoError
from mvit_video.files import atomic_file
from mvit_video.predict.drawing import Panel
from mvit_video.predict.reading import local_path
from mvit_video.predict.results import ClassScore, Prediction, best_classes
from mvit_video.predict.timeline import Timeline

FORMATS = {".mp4": "mp4", ".mkv": "matroska", ".mov": "mov"}
"""FFmpeg's names of the containers that an overlay is written to."""

# No B pictures: pictures are then stored in the order and at the times they are shown, whatever these are.
_X264 = {"preset": "veryfast", "crf": "18", "bf": "0"}

Labels = Callable[[float], Sequence[ClassScore]]
"""From seconds to the classes that are on, best first."""


def write_overlay(source: str | os.PathLike[str], target: Path, labels: Labels) -> None:
    """Writes the video `source` with `labels` drawn in to `target`, which appears when it is whole.

    Frame for frame at the same times, upright, in H.264; sides that are odd grow by a pixel. Sound is copied.

    Raises:
        VideoError: nothing of the source can be decoded, or its sound has no place in the target's format.
        InputError: the target's suffix is none of FORMATS.
        OSError: the target cannot be written.
    """
    if target.suffix.lower() not in FORMATS:
        raise InputError(f"overlay {target}: its suffix must be one of {', '.join(FORMATS)}")
    name = os.fspath(source)
    with (
        atomic_file(target) as file,
        told_as_video_error(name),
        open_file(local_path(source)) as container,
        av.open(file, "w", format=FORMATS[target.suffix.lower()]) as out,
    ):
        _Overlay(name, container, out, labels).write()


def labels_of(result: Prediction | Timeline, class_names: Sequence[str], topk: int) -> Labels:
    """What is on at a time: the prediction all along, or the best classes of the window whose centre is nearest."""
    if isinstance(result, Prediction):
        return lambda _: result.top
    centres = result.windows.mean(axis=1)
    changes = [(a + b) / 2 for a, b in pairwise(centres)]
    best = [best_classes(scores, class_names, topk) for scores in result.scores]
    return lambda seconds: best[bisect_right(changes, seconds)]


class _Overlay:
    """One video on its way from an open container to another."""

    def __init__(
        self, name: str, container: InputContainer, out: OutputContainer, labels: Labels
    ) -> None:
        self._name, self._container, self._out, self._labels = name, container, out, labels
        self._video = best_video_stream(container, name)
        self._video.codec_context.thread_count = 1
        self._unit: Fraction = self._video.time_base
        # A container may begin at any time; the copy begins at 0.
        self._begin = max(Fraction(container.start_time or 0, av.time_base), Fraction(0))
        self._sounds: dict[int, Stream] = {}
        self._reformatter = VideoReformatter()
        self._target: VideoStream | None = None
        self._durations: dict[int, int] = {}
        self._first = self._latest = None
        self._held: VideoFrame | None = None

    def write(self) -> None:
        """All of it. What is damaged is left out."""
        waiting = []  # sound from before the first picture, which decides how the video is written
        for packet in packets_of(self._container, [self._video, *self._container.streams.audio]):
            if packet.stream.index != self._video.index:
                waiting.append(packet)
            else:
                self._write_frames(packet)
            if self._target is not None:
                for sound in waiting:
                    self._copy(sound)
                waiting = []
        self._write_frames(None)
        if self._target is None:
            raise VideoError(self._name, "no frame can be decoded")
        for sound in waiting:
            self._copy(sound)
        self._encode(None)
        self._mux(self._target.encode(None))

    def _copy(self, packet: av.Packet) -> None:
        packet.pts, packet.dts = (
            None if time is None else time - round(self._begin / packet.time_base)
            for time in (packet.pts, packet.dts)
        )
        packet.stream = self._sounds[packet.stream.index]
        self._out.mux(packet)

    def _write_frames(self, packet: av.Packet | None) -> None:
        try:
            frames = self._video.codec_context.decode(packet)
        except av.error.InvalidDataError:
            return
        for frame in frames:
            if self._target is None:
                self._start(frame)
            time = self._time(frame)
            drawn = self._drawn(frame, float((time - self._first) * self._unit))
            drawn.pts, drawn.time_base, drawn.pict_type = time, self._unit, 0
            self._encode(drawn)

    def _encode(self, drawn: VideoFrame | None) -> None:
        """Encodes the frame before this one, whose length is now known; None stands for the end of the video."""
        if self._held is not None:
            end = drawn.pts if drawn is not None else self._end()
            # At least a millisecond: a muxer that counts in those takes 0 for unknown.
            shortest = math.ceil(Fraction(1, 1000) / self._unit)
            self._durations[self._held.pts] = max(end - self._held.pts, shortest)
            self._mux(self._target.encode(self._held))
        self._held = drawn

    def _end(self) -> int:
        """Where the video ends, as its header states it, else a frame behind the last one."""
        if self._video.duration:
            return self._first + self._video.duration
        return self._latest + round(1 / (self._video.average_rate or 25) / self._unit)

    def _time(self, frame: VideoFrame) -> int:
        """When the frame is shown, in the video's unit; times that are missing or go back are put behind the last."""
        time = shown_at(frame, self._container)
        if time is not None:
            time -= round(self._begin / self._unit)
        if self._latest is None:
            self._first = time = time or 0
        elif time is None or time <= self._latest:
            time = self._latest + max(frame.duration, 1)
        self._latest = time
        return time

    def _start(self, frame: VideoFrame) -> None:
        """Lays out the target, as its first picture wants it."""
        self._turns = round(frame.rotation / 90) % 4
        size, shape = (frame.height, frame.width), self._video.sample_aspect_ratio
        if self._turns % 2:
            size, shape = size[::-1], 1 / shape if shape else shape
        self._size = size
        self._panel = Panel(*size)
        stream = self._out.add_stream("libx264", rate=self._video.average_rate or 25, options=_X264)
        stream.height, stream.width = (side + side % 2 for side in size)
        full = frame.format.name.startswith("yuvj")
        stream.pix_fmt = self._format = "yuvj420p" if full else "yuv420p"
        stream.time_base = stream.codec_context.time_base = self._unit
        if shape:
            stream.codec_context.sample_aspect_ratio = shape
        copy_color(frame, stream.codec_context)
        for sound in self._container.streams.audio:
            self._sounds[sound.index] = self._same_sound(sound)
        self._target = stream

    def _same_sound(self, sound: Stream) -> Stream:
        try:
            return self._out.add_stream_from_template(sound)
        except ValueError:
            codec = sound.codec_context.name
            raise VideoError(
                self._name,
                f"its {codec} sound has no place in this kind of file; name an .mkv or .mov",
            ) from None

    def _drawn(self, frame: VideoFrame, seconds: float) -> VideoFrame:
        height, width = self._size[::-1] if self._turns % 2 else self._size
        rgb = self._reformatter.reformat(frame, width, height, format="rgb24", threads=1)
        picture = np.rot90(rgb.to_ndarray(), self._turns)
        odd = [(0, side % 2) for side in self._size]
        picture = np.pad(picture, [*odd, (0, 0)], mode="edge")
        self._panel.draw(picture, self._labels(seconds))
        drawn = VideoFrame.from_ndarray(picture, format="rgb24")
        return self._reformatter.reformat(drawn, format=self._format, threads=1)

    def _mux(self, packets: Iterator[av.Packet]) -> None:
        for packet in packets:
            packet.duration = self._durations.pop(packet.pts)
            self._out.mux(packet)
