"""From whatever a caller calls a video to its views: a file, a part of one, or frames in memory."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from mvit_video.data.preprocessing import Preprocessing
from mvit_video.data.readers import Frames, Reader, SizeRequest, VideoInfo
from mvit_video.data.readers.base import settle
from mvit_video.data.readers.pyav_reader import open_video
from mvit_video.data.views import VideoViews, cut_views, read_views
from mvit_video.errors import InputError, VideoError
from mvit_video.weights.download import fetch, is_url

Video = str | os.PathLike[str] | np.ndarray | Tensor
"""A path, an http(s) URL, or frames (T, H, W, 3) uint8 RGB."""

Seconds = tuple[float, float | None]
"""Begin and end of a part of a video, from its first frame on; None is the end of the video."""


def video_views(
    video: Video,
    preprocessing: Preprocessing,
    reader: Reader,
    num_views: tuple[int, int],
    part: Seconds | None = None,
    fps: float | None = None,
) -> VideoViews:
    """The clips x crops of a video or of a part of it, as the multi-view test cuts them.

    Args:
        video: what to read.
        preprocessing: the model's.
        reader: of files.
        num_views: clips and crops.
        part: seconds, None for all of it.
        fps: frames per second of frames in memory, which must have it.

    Raises:
        VideoError: the file cannot be decoded, or ends before the part begins.
        InputError: frames of another shape or type, without fps, or a part that is none.
    """
    if part is not None:
        check_part(part)
    if isinstance(video, (np.ndarray, Tensor)):
        return _frames_views(video, preprocessing, num_views, part, fps)
    if fps is not None:
        raise InputError("fps is for frames in memory; a file tells its own")
    if part is not None:
        reader = PartReader(*part)
    return read_views(reader, local_path(video), preprocessing, *num_views)


def video_name(video: Video) -> str:
    """What a video is called in results."""
    return "frames" if isinstance(video, (np.ndarray, Tensor)) else os.fspath(video)


def local_path(video: str | os.PathLike[str]) -> str:
    """The file to open; a URL is downloaded once, whole. Raises VideoError where it cannot be."""
    name = os.fspath(video)
    if not is_url(name):
        return name
    try:
        return str(fetch(name))
    except InputError as error:
        raise VideoError(name, str(error).removeprefix(f"{name}: ")) from error


@dataclass(frozen=True)
class PartReader:
    """Reads the frames shown in `begin` ... `end` seconds of a file as if they were all that it holds.

    A frame belongs to the part if it is shown at or after its begin and before its end, by the file's own times.
    """

    begin: float
    end: float | None
    name: str = "part"

    def probe(self, path: str) -> VideoInfo:
        """See `readers.Reader.probe`."""
        with open_video(path) as video:
            return self._part(video)[1]

    def read(
        self, path: str, frames: Frames, size: SizeRequest = None
    ) -> tuple[np.ndarray, VideoInfo]:
        """See `readers.Reader.read`."""
        with open_video(path) as video:
            first, info = self._part(video)
            numbers, size = settle(info, frames, size)
            return video.read([first + i for i in numbers], size), info

    def _part(self, video: Any) -> tuple[int, VideoInfo]:
        """Number of the part's first frame, and the facts of the part."""
        first, end = _numbers_between(video.times(), self.begin, self.end)
        if first == end:
            seconds = video.info.num_frames / video.info.fps
            raise VideoError(
                video.path,
                f"no frame is shown from second {self.begin:g} on; it is {seconds:.2f} s long"
                if self.end is None
                else f"no frame is shown in seconds {self.begin:g} ... {self.end:g}; it is {seconds:.2f} s long",
            )
        return first, replace(video.info, num_frames=end - first)


def _numbers_between(
    times: np.ndarray | Sequence[float], begin: float, end: float | None
) -> tuple[int, int]:
    """The frames [first, last) with begin <= time < end. A microsecond is no difference: times are rounded."""
    bounds = np.array([begin, np.inf if end is None else end]) - 1e-6
    first, last = np.searchsorted(times, bounds)
    return int(first), int(last)


def check_part(part: Seconds) -> None:
    """Raises InputError for seconds that are no part of any video."""
    begin, end = part
    if not (0 <= begin < float("inf")) or (end is not None and not begin < end):
        raise InputError(
            f"the part {begin} ... {end} of a video: it takes seconds, 0 <= begin < end, or None for the end"
        )


def _frames_views(
    frames: np.ndarray | Tensor,
    preprocessing: Preprocessing,
    num_views: tuple[int, int],
    part: Seconds | None,
    fps: float | None,
) -> VideoViews:
    if fps is None or not 0 < fps < float("inf"):
        raise InputError(f"frames in memory come with their frames per second: fps is {fps}")
    if isinstance(frames, Tensor):
        frames = frames.detach().cpu().numpy()
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or 0 in frames.shape:
        raise InputError(
            f"frames are {frames.dtype} {tuple(frames.shape)}; wanted are uint8 (T, H, W, 3), RGB"
        )
    if part is not None:
        first, end = _numbers_between(np.arange(len(frames)) / fps, *part)
        if first == end:
            raise InputError(f"{len(frames)} frames at {fps:g} per second have none in {part} s")
        frames = frames[first:end]
    info = VideoInfo(len(frames), fps, frames.shape[2], frames.shape[1])
    wanted = preprocessing.view_frames(info, num_views[0])
    used = np.unique(wanted)
    return cut_views(frames[used], np.searchsorted(used, wanted), preprocessing, num_views[1])
