"""What the readers are measured against: the bare decoder, one decode per view, and pytorchvideo."""

from __future__ import annotations

import importlib

import av
import numpy as np
import torch
from torch import Tensor

from mvit_video.data.dataset import TestVideos
from mvit_video.data.readers import Frames, Reader, SizeRequest, VideoInfo, make_reader
from mvit_video.data.readers.base import settle
from mvit_video.data.views import cut_views
from mvit_video.errors import InputError


class BareReader:
    """The least that a decoder must do: seek to a key frame, decode up to the last wanted frame, convert nothing.

    The header's word is taken for the frame numbers. The frames are empty, and nothing was looked at.
    """

    name = "bare"

    def read(
        self, path: str, frames: Frames, size: SizeRequest = None
    ) -> tuple[np.ndarray, VideoInfo]:
        """See `Reader.read`."""
        with av.open(path, metadata_errors="ignore") as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            fps = float(stream.average_rate)
            info = VideoInfo(max(stream.frames, 1), fps, stream.width, stream.height)
            numbers, _ = settle(info, frames, None)
            ticks = 1 / (fps * stream.time_base)
            begin = stream.start_time or 0
            container.seek(begin + int(min(numbers) * ticks), stream=stream)
            end = begin + int(max(numbers) * ticks)
            for frame in container.decode(stream):
                if frame.pts >= end:
                    break
        return np.zeros((len(numbers), info.height, info.width, 3), np.uint8), info


class PerView(TestVideos):
    """Opens and decodes a video again for every view and crop, as SlowFast's test does."""

    def __getitem__(self, index: int) -> Tensor:
        """(V * S, 3, T, crop, crop) uint8."""
        preprocessing, path = self._preprocessing, self.videos.path(index)
        clips = []
        for view in range(self._num_views):
            for crop in range(self._num_crops):
                frames, _ = self._reader.read(
                    path,
                    lambda info, view=view: preprocessing.view_frames(info, self._num_views)[view],
                    preprocessing.decoded_size,
                )
                order = np.arange(len(frames))[None]
                clips.append(cut_views(frames, order, preprocessing, self._num_crops).views()[crop])
        return torch.stack(clips)


def make_rival(name: str) -> Reader:
    """A reader by its name: those of `make_reader`, "bare" and "encoded_video" (pytorchvideo's).

    Raises:
        InputError: what it needs is not here.
    """
    if name == "bare":
        return BareReader()
    if name != "encoded_video":
        return make_reader(name)
    try:
        return importlib.import_module("tests.reference.encoded_video").EncodedVideoReader()
    except ModuleNotFoundError as error:
        raise InputError(
            f"encoded_video needs pytorchvideo and a checkout of this repository, and {error.name} is not here"
        ) from None
