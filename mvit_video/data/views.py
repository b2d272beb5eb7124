"""The views of one video: clips x crops cut from frames that were decoded once."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from mvit_video.data.preprocessing import Preprocessing
from mvit_video.data.readers import Reader, VideoInfo
from mvit_video.data.spatial import crop_corners, resize, scaled_size
from mvit_video.data.transfer import to_device
from mvit_video.errors import VideoError

_LONGEST = 16
"""Times the short side that the long one may be: scaled to the crop's size, a strip would take any amount of memory."""


@dataclass(frozen=True)
class VideoViews:
    """A video on its way to the model: every frame that some view needs once, resized, uint8.

    Attributes:
        frames: (F, h, w, 3) uint8.
        frame_index: (V, T) int64, which of `frames` make each clip.
        corners: (S, 2) int64, top and left of each crop.
        crop_size: side of the crops.
        video_id, label, index: of the video in its list.
    """

    frames: Tensor
    frame_index: Tensor
    corners: Tensor
    crop_size: int
    video_id: str = ""
    label: int = -1
    index: int = -1

    @property
    def num_views(self) -> int:
        return len(self.frame_index) * len(self.corners)

    def views(self, device: torch.device | str = "cpu") -> Tensor:
        """(V * S, 3, T, crop, crop) uint8 on `device`; the crops of the first clip come first."""
        frames = to_device(self.frames, device)
        frame_index = to_device(self.frame_index, device)
        size = self.crop_size
        crops = [
            frames[:, top : top + size, left : left + size][frame_index]  # (V, T, size, size, 3)
            for top, left in self.corners.tolist()
        ]
        return torch.stack(crops, dim=1).flatten(0, 1).permute(0, 4, 1, 2, 3).contiguous()

    def view_numbers(self) -> np.ndarray:
        """(V * S, 2) int64: temporal and spatial number of each view, in the order of `views`."""
        clips, crops = len(self.frame_index), len(self.corners)
        return np.stack([np.arange(clips * crops) // crops, np.arange(clips * crops) % crops], 1)

    def pin_memory(self) -> VideoViews:
        """For DataLoader's pinning."""
        return replace(self, frames=self.frames.pin_memory())


def cut_views(
    frames: np.ndarray, frame_index: np.ndarray, preprocessing: Preprocessing, num_crops: int
) -> VideoViews:
    """Views of frames that are in memory: (F, H, W, 3) uint8 RGB, with the rows of `frame_index` (V, T) as clips."""
    height, width = scaled_size(
        frames.shape[1], frames.shape[2], preprocessing.view_short_side(num_crops)
    )
    size = preprocessing.crop_size
    return VideoViews(
        resize(torch.from_numpy(frames), height, width),
        torch.from_numpy(frame_index),
        crop_corners(height, width, size, num_crops),
        size,
    )


def read_views(
    reader: Reader, path: str, preprocessing: Preprocessing, num_views: int, num_crops: int
) -> VideoViews:
    """The `num_views` x `num_crops` views of a file, which is opened once and each frame decoded once.

    Raises:
        VideoError: the file, or a frame of it that is wanted, cannot be decoded.
    """

    def needed(info: VideoInfo) -> np.ndarray:
        refuse_strip(info, path)
        return np.unique(preprocessing.view_frames(info, num_views))

    frames, info = reader.read(path, needed, preprocessing.decoded_size)
    wanted = preprocessing.view_frames(info, num_views)
    return cut_views(frames, np.searchsorted(np.unique(wanted), wanted), preprocessing, num_crops)


def refuse_strip(info: VideoInfo, path: str) -> None:
    """Raises VideoError for frames that are far longer than wide."""
    if max(info.width, info.height) > _LONGEST * min(info.width, info.height):
        raise VideoError(
            path,
            f"is {info.width} x {info.height} pixels, and a strip of more than 1 : {_LONGEST} is not looked at",
        )
