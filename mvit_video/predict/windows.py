"""Windows that slide over a video, cut from a stream of frames by the times at which those are shown.

A window holds the pictures that its clips need, chosen by time: the picture shown at each of the clip's instants. So
frame rates may vary, and memory holds a few clips of cropped pictures, whatever the length of the video or of a second.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from av.video.frame import VideoFrame
from torch import Tensor

from mvit_video.data.preprocessing import Preprocessing
from mvit_video.data.readers.stream import Stream
from mvit_video.data.sampling import clip_shape
from mvit_video.data.views import cut_views, refuse_strip
from mvit_video.errors import InputError

_ROUNDING = 1e-3  # seconds that a video may end before its last window does
_MOST_CLIPS = 4  # in a window that is longer than the model's clip


@dataclass(frozen=True)
class WindowPlan:
    """When a window looks.

    Attributes:
        length, stride: of the windows, in seconds.
        instants: (clips, T) seconds from the window's begin; may lie outside of a window shorter than the clip.
    """

    length: float
    stride: float
    instants: np.ndarray

    @classmethod
    def of(
        cls, preprocessing: Preprocessing, fps: float, length: float, stride: float
    ) -> WindowPlan:
        """As the model's clips have it, for a video of about `fps` frames per second.

        The clip lies in the middle of the window; several clips lie evenly over a window that is longer than a clip.

        Raises:
            InputError: a length or stride that is none, or windows with gaps between them.
        """
        check_window(length, stride)
        num_frames = preprocessing.num_frames
        if preprocessing.sampling == "segments":
            middles = (np.arange(num_frames) + 0.5) / num_frames * length
            return cls(length, stride, middles[None])
        shape = clip_shape(
            preprocessing.sampling,
            num_frames,
            preprocessing.sampling_rate,
            fps,
            preprocessing.target_fps,
        )
        span = shape.span / fps
        clips = min(max(round(length / span), 1), _MOST_CLIPS)
        starts = (length - span) * (
            np.arange(clips) / (clips - 1) if clips > 1 else np.array([0.5])
        )
        # In the middle of a frame's time: rounded times are then no matter.
        return cls(length, stride, starts[:, None] + (shape.offsets + 0.5) / fps)


def check_window(length: float, stride: float) -> None:
    """Raises InputError for a length or stride that is none, or that leaves gaps between windows."""
    if not (0 < stride <= length < math.inf):
        raise InputError(f"window {length:g}, stride {stride:g}: seconds, 0 < stride <= window")


@dataclass(frozen=True, eq=False)
class Window:
    """One place of the window: begin and end in seconds, and its clips (clips, 3, T, crop, crop) uint8."""

    begin: float
    end: float
    clips: Tensor


def slide(stream: Stream, preprocessing: Preprocessing, length: float, stride: float) -> Windows:
    """The windows over an open stream, in order; iterate them once."""
    plan = WindowPlan.of(preprocessing, stream.info.fps, length, stride)
    refuse_strip(stream.info, stream.name)

    def crop(frame: VideoFrame) -> Tensor:
        pixels = stream.upright(frame, preprocessing.decoded_size(stream.info))
        one = cut_views(np.array(pixels[None]), np.zeros((1, 1), np.int64), preprocessing, 1)
        return one.views()[0, :, 0]

    return Windows(stream, plan, crop)


class Windows:
    """Iterates over the windows of timed frames, once.

    Windows end with the video, but the first is there however short that is. Of those that see nothing but one picture
    that stands still, the first and the last are cut.

    Args:
        frames: (begin, end, frame), without gaps, at least one.
        plan: when a window looks.
        crop: from a frame to its picture (3, crop, crop); called for frames that some window looks at.

    Attributes:
        plan: as given.
        duration: end of the last frame so far, in seconds.
    """

    def __init__(
        self,
        frames: Iterable[tuple[float, float, Any]],
        plan: WindowPlan,
        crop: Callable[[Any], Tensor],
    ) -> None:
        self._frames, self.plan, self._crop = frames, plan, crop
        self._open: deque[_OpenWindow] = deque()
        self._next = 0  # number of the window to open next
        self.duration = 0.0

    def __iter__(self) -> Iterator[Window]:
        num_cut = 0
        for begin, end, frame in self._frames:
            self._open_windows(begin, end)
            picture = None
            for window in self._open:
                if window.looks_before(end):
                    picture = self._crop(frame) if picture is None else picture
                    window.show(picture, end)
            self.duration = end
            while self._open and self._open[0].over <= end:
                num_cut += 1
                yield self._open.popleft().cut()
        for window in self._open:  # the clip may be longer than the window: its last picture stays
            if window.end <= self.duration + _ROUNDING or num_cut == 0:
                window.show(self._crop(frame), math.inf)
                num_cut += 1
                yield window.cut()

    def _open_windows(self, begin: float, end: float) -> None:
        """Opens the windows that begin to look before `end` at a picture shown in begin ... end."""
        still = 0
        while (window := self._window(self._next)).first < end:
            if window.first >= begin and window.over <= end:
                still += 1
                if still == 2:
                    last = math.floor((end - (window.over - window.begin)) / self.plan.stride)
                    if last > self._next:
                        self._next = last
                        continue
            self._open.append(window)
            self._next += 1

    def _window(self, number: int) -> _OpenWindow:
        begin = number * self.plan.stride
        instants = begin + self.plan.instants
        instants -= min(instants.min(), 0.0)  # no clip begins before the video
        return _OpenWindow(begin, begin + self.plan.length, instants)


class _OpenWindow:
    """A window that still waits for pictures.

    Attributes:
        begin, end: in seconds.
        first, over: when it begins to look, and when all that it waits for is over.
    """

    def __init__(self, begin: float, end: float, instants: np.ndarray) -> None:
        self.begin, self.end = begin, end
        self.first = float(instants.min())
        self.over = max(end - _ROUNDING, float(np.nextafter(instants.max(), np.inf)))
        self._instants = instants
        self._pictures: list[Tensor | None] = [None] * instants.size
        self._waiting = np.ones(instants.size, dtype=bool)

    def looks_before(self, end: float) -> bool:
        return bool((self._waiting & (self._instants.ravel() < end)).any())

    def show(self, picture: Tensor, end: float) -> None:
        """The picture that is shown until `end` is what all instants before that, which still wait, see."""
        for i in np.flatnonzero(self._waiting & (self._instants.ravel() < end)):
            self._pictures[i] = picture
            self._waiting[i] = False

    def cut(self) -> Window:
        clips = torch.stack(self._pictures).unflatten(0, self._instants.shape)
        return Window(self.begin, self.end, clips.transpose(1, 2))
