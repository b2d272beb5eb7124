"""Which frames of a video make a clip: pure functions on frame numbers.

Two rules for Kinetics-like clips, and one for Something-Something:

slowfast  SlowFast's (slowfast/datasets/decoder.py). A clip spans num_frames x sampling_rate frames of a target_fps
          clock, so num_frames * sampling_rate * fps / target_fps frames of the file, and its frames lie evenly over
          the span with both ends included. At 30 fps a 16x4 clip is 0, 4, 8, 12, 16, 21, 25, ... 63: the mean step
          is 63 / 15 = 4.2, not 4.
stride    exactly every sampling_rate-th frame of the file, whatever its frame rate: 0, 4, 8, ... 60.
segments  one frame from each of num_frames equal parts of the video (SSv2): a random one in training, the middle
          one in tests.

A video that is shorter than its clip repeats its last frame.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

Sampling = Literal["slowfast", "stride", "segments"]


@dataclass(frozen=True)
class ClipShape:
    """A clip before it has a place in a video.

    Attributes:
        offsets: (T,) int64, frame numbers from the clip's first frame, which is 0.
        span: length of the clip in frames of the file; not whole where the frame rates differ.
    """

    offsets: np.ndarray
    span: float

    def at(self, starts: np.ndarray | int, num_video_frames: int) -> np.ndarray:
        """Frame numbers (..., T) of clips that begin at `starts` (...), the last frame repeated past the end."""
        frames = np.asarray(starts, dtype=np.int64)[..., None] + self.offsets
        return np.minimum(frames, num_video_frames - 1)

    def room(self, num_video_frames: int) -> float:
        """How far the start of the clip can move in the video, in frames."""
        return max(num_video_frames - self.span, 0.0)


def clip_shape(
    sampling: Sampling, num_frames: int, sampling_rate: int, fps: float, target_fps: float
) -> ClipShape:
    """The clip of `slowfast` or `stride` sampling in a file of `fps` frames per second."""
    if sampling == "stride":
        offsets = np.arange(num_frames, dtype=np.int64) * sampling_rate
        return ClipShape(offsets, float(offsets[-1] + 1))
    span = max(num_frames * sampling_rate * fps / target_fps, 1.0)
    # Multiply before dividing: whole results stay whole, where i * (63 / 15) may fall just below them.
    steps = np.arange(num_frames) * (span - 1) / max(num_frames - 1, 1)
    return ClipShape(np.floor(steps).astype(np.int64), span)


def random_clip(shape: ClipShape, num_video_frames: int, rng: np.random.Generator) -> np.ndarray:
    """A training clip: (T,) frame numbers, every whole start in the video equally likely.

    (SlowFast draws a real start, which its decoder rounds up to a frame: the same clips, except that none starts at 0.)
    """
    start = rng.integers(0, math.floor(shape.room(num_video_frames)), endpoint=True)
    return shape.at(start, num_video_frames)


def uniform_clips(shape: ClipShape, num_video_frames: int, num_views: int) -> np.ndarray:
    """Test clips: (V, T) frame numbers with starts evenly over the video, one view in the middle.

    SlowFast's TEST.USE_OFFSET_SAMPLING, with which MViT's numbers are made: the step between starts is rounded down.
    """
    room = shape.room(num_video_frames)
    if num_views == 1:
        starts = np.array([math.floor(room / 2)])
    else:
        starts = np.arange(num_views) * math.floor(room / (num_views - 1))
    return shape.at(starts, num_video_frames)


def random_segments(
    num_frames: int, num_video_frames: int, fps: float, target_fps: float, rng: np.random.Generator
) -> np.ndarray:
    """SSv2 training clip: (T,) frame numbers, a random one from each segment."""
    ticks = _ticks(num_video_frames, fps, target_fps)
    first, last = _segment_bounds(num_frames, ticks)
    return _shown_frame(rng.integers(first, last, endpoint=True), num_video_frames, fps, target_fps)


def middle_segments(
    num_frames: int, num_video_frames: int, fps: float, target_fps: float, num_views: int
) -> np.ndarray:
    """SSv2 test clips: (V, T) frame numbers. One view takes the middle of each segment.

    Of several views, the v-th takes the point (v + 1/2) / V of each segment. (SlowFast makes all of them equal.)
    """
    ticks = _ticks(num_video_frames, fps, target_fps)
    first, last = _segment_bounds(num_frames, ticks)
    odd = 2 * np.arange(num_views)[:, None] + 1
    return _shown_frame(
        first + (last - first) * odd // (2 * num_views), num_video_frames, fps, target_fps
    )


def _segment_bounds(num_frames: int, ticks: int) -> tuple[np.ndarray, np.ndarray]:
    """First and last tick of each of num_frames segments, both ends included (slowfast/datasets/ssv2.py)."""
    size = (ticks - 1) / num_frames
    bounds = np.round(size * np.arange(num_frames + 1)).astype(np.int64)
    return bounds[:-1], bounds[1:]


# SSv2's files run at 12 fps, but SlowFast trained on frames extracted with `ffmpeg -r 30`, which shows each file frame
# two or three times. Segments are therefore cut on that 30 fps clock (DATA.TARGET_FPS), and a tick means the file frame
# it shows.


def _ticks(num_video_frames: int, fps: float, target_fps: float) -> int:
    """Length of the video on the target_fps clock."""
    return max(math.floor(num_video_frames * target_fps / fps + 0.5), 1)


def _shown_frame(
    tick: np.ndarray, num_video_frames: int, fps: float, target_fps: float
) -> np.ndarray:
    """The file frame that ffmpeg's fps filter shows at a tick: the last one whose time rounds to the tick or before."""
    frames = np.ceil((tick + 0.5) * (fps / target_fps) - 1e-6).astype(np.int64) - 1
    return np.clip(frames, 0, num_video_frames - 1)
