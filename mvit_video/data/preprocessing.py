"""What happens to a video between its file and the model: one object for validation, test, predict and export.

It is stored in every checkpoint as plain types, so that a model file is enough to predict with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import torch
from fvcore.common.config import CfgNode
from torch import Tensor

from mvit_video.data.lists import load_class_names
from mvit_video.data.readers import VideoInfo
from mvit_video.data.sampling import (
    ClipShape,
    Sampling,
    clip_shape,
    middle_segments,
    random_clip,
    random_segments,
    uniform_clips,
)
from mvit_video.errors import InputError

# Above this many pixels a frame, full-size frames of a many-view test no longer fit into a loader worker's share of
# memory.
_FULL_SIZE_PIXELS = 1280 * 720


@dataclass(frozen=True)
class Preprocessing:
    """Frames, resize, crop and normalisation that a model expects.

    Attributes:
        num_frames, sampling_rate, sampling, target_fps: which frames make a clip (mvit_video/data/sampling.py).
        short_side: pixels that the short side is scaled to before a single centre crop.
        crop_size: side of the crop in pixels; with three crops the short side is scaled to it.
        mean, std: per channel, of pixel values in 0 ... 1, in the order the model is fed.
        reverse_channels: feed BGR.
        class_names: by label; empty where they are not known.
    """

    num_frames: int
    sampling_rate: int
    sampling: Sampling
    target_fps: float
    short_side: int
    crop_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    reverse_channels: bool
    class_names: tuple[str, ...] = ()

    @classmethod
    def from_config(cls, cfg: CfgNode) -> Preprocessing:
        """The preprocessing of a run; reads class names where DATA.PATH_TO_DATA_DIR has them.

        Raises:
            InputError: the two DATASET keys differ, or the class names do not fit MODEL.NUM_CLASSES.
        """
        if cfg.TRAIN.DATASET != cfg.TEST.DATASET:
            raise InputError(
                f"TRAIN.DATASET is {cfg.TRAIN.DATASET} and TEST.DATASET is {cfg.TEST.DATASET}, but a model is tested "
                "on clips cut as in training; set both to the same"
            )
        data = cfg.DATA
        return cls(
            num_frames=data.NUM_FRAMES,
            sampling_rate=data.SAMPLING_RATE,
            sampling="segments" if cfg.TEST.DATASET == "ssv2" else data.SAMPLING,
            target_fps=data.TARGET_FPS,
            short_side=data.TRAIN_JITTER_SCALES[0],
            crop_size=data.TEST_CROP_SIZE,
            mean=tuple(data.MEAN),
            std=tuple(data.STD),
            reverse_channels=data.REVERSE_INPUT_CHANNEL,
            class_names=load_class_names(cfg),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain types only: numbers, strings, lists."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Preprocessing:
        """The inverse of to_dict. Raises InputError where `values` is of another version."""
        wanted = {field.name for field in fields(cls)}
        if set(values) != wanted:
            raise InputError(
                f"stored preprocessing has {sorted(values)}, where this version of mvit-video expects {sorted(wanted)}"
            )
        return cls(
            **{
                name: tuple(value) if isinstance(value, (list, tuple)) else value
                for name, value in values.items()
            }
        )

    def training_frames(self, info: VideoInfo, rng: np.random.Generator) -> np.ndarray:
        """(T,) int64 frame numbers of a random clip."""
        if self.sampling == "segments":
            return random_segments(self.num_frames, info.num_frames, info.fps, self.target_fps, rng)
        return random_clip(self._clip_shape(info), info.num_frames, rng)

    def view_frames(self, info: VideoInfo, num_views: int) -> np.ndarray:
        """(V, T) int64 frame numbers of `num_views` clips, evenly over the video."""
        if self.sampling == "segments":
            return middle_segments(
                self.num_frames, info.num_frames, info.fps, self.target_fps, num_views
            )
        return uniform_clips(self._clip_shape(info), info.num_frames, num_views)

    def _clip_shape(self, info: VideoInfo) -> ClipShape:
        return clip_shape(
            self.sampling, self.num_frames, self.sampling_rate, info.fps, self.target_fps
        )

    def view_short_side(self, num_crops: int) -> int:
        """Pixels that the short side is scaled to before `num_crops` (1 or 3) are cut."""
        return self.short_side if num_crops == 1 else self.crop_size

    def decoded_size(self, info: VideoInfo) -> tuple[int, int] | None:
        """The `size` to ask a reader for: None, the file's own, but for frames above 720p, scaled while decoding.

        Those are still twice as large as the clip needs, so that the resize that follows decides how the result looks.
        """
        if info.height * info.width <= _FULL_SIZE_PIXELS:
            return None
        scale = 2 * max(self.short_side, self.crop_size) / min(info.height, info.width)
        if scale >= 1:
            return None
        # Even, and never narrower than the crop: decoders pad odd lines.
        return tuple(max(2 * round(side * scale / 2), 2) for side in (info.height, info.width))

    def normalise(self, clips: Tensor) -> Tensor:
        """uint8 (..., 3, T, H, W) RGB -> float32 of the same shape on the same device, as the model is fed."""
        if self.reverse_channels:
            clips = clips.flip(-4)
        mean = torch.tensor(self.mean, device=clips.device).view(3, 1, 1, 1)
        std = torch.tensor(self.std, device=clips.device).view(3, 1, 1, 1)
        return clips.float().mul_(1 / (255 * std)).sub_(mean / std)
