"""A clip to explain: what the model is fed, and the frames that people are shown, of the same crop."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mvit_video.data.preprocessing import Preprocessing
from mvit_video.data.readers import Reader, VideoInfo, make_reader
from mvit_video.data.views import cut_views
from mvit_video.predict.reading import PartReader, Seconds, check_part, local_path
from mvit_video.predict.recognizer import Recognizer

_SHOWN_SIDE = 224  # pixels; smaller crops are shown enlarged
_MOST_FRAMES = 600


@dataclass(frozen=True, eq=False)
class ShownClip:
    """The middle clip of a video.

    Attributes:
        fed: (1, 3, T, H, W) float32, normalised, on the recognizer's device.
        frames: (F, S, S, 3) uint8 RGB to draw on, the part of the picture that the model sees.
        moments: (F,) where each of them stands among the T frames that were fed, 0 ... T - 1.
        seconds: (F,) when each of them is shown.
        fps: shown frames per second.
    """

    fed: Tensor
    frames: np.ndarray
    moments: np.ndarray
    seconds: np.ndarray
    fps: float


def read_clip(
    recognizer: Recognizer, video: str, part: Seconds | None = None, columns: int = 0
) -> ShownClip:
    """The clip in the middle of a video, or of a part of it.

    Args:
        recognizer: whose preprocessing cuts the clip.
        video: a path or URL.
        part: (begin, end) in seconds.
        columns: how many of the clip's own frames to show, evenly; 0 for all frames of the video that it spans.

    Raises:
        VideoError: the video cannot be decoded.
        InputError: a part that is none.
    """
    if part is not None:
        check_part(part)
    preprocessing = recognizer.preprocessing
    reader: Reader = (
        PartReader(*part) if part is not None else make_reader(recognizer.settings.reader)
    )

    def used(info: VideoInfo) -> np.ndarray:
        fed = preprocessing.view_frames(info, 1)[0]
        return np.unique(np.concatenate([fed, _shown(fed, columns)]))

    frames, info = reader.read(local_path(video), used, preprocessing.decoded_size)
    fed = preprocessing.view_frames(info, 1)[0]
    shown = _shown(fed, columns)
    places = used(info)
    views = cut_views(frames, np.searchsorted(places, fed)[None], preprocessing, 1)
    larger = _enlarged(preprocessing)
    picture = cut_views(frames, np.searchsorted(places, shown)[None], larger, 1).views()[0]
    begin = part[0] if part is not None else 0.0
    steps = np.diff(shown).mean() if len(shown) > 1 and shown[-1] > shown[0] else 1.0
    return ShownClip(
        preprocessing.normalise(views.views(recognizer.device)),
        picture.permute(1, 2, 3, 0).numpy(),
        np.interp(shown, *_rising(fed)),
        begin + shown / info.fps,
        info.fps / float(steps),
    )


def heat_on_frames(heat: Tensor, clip: ShownClip) -> Tensor:
    """A map (T', H', W') on a grid of tokens, spread smoothly over the shown frames: (F, S, S)."""
    num_fed, side = clip.fed.shape[2], clip.frames.shape[1]
    wide = F.interpolate(heat.float()[:, None], (side, side), mode="bicubic").clamp(min=0)
    # A token stands for several frames: time steps lie in the middle of theirs.
    steps = (torch.from_numpy(clip.moments).float() + 0.5) * len(heat) / num_fed - 0.5
    steps = steps.clamp(0, len(heat) - 1)
    before = steps.floor().long()
    after = (before + 1).clamp(max=len(heat) - 1)
    return torch.lerp(wide[before, 0], wide[after, 0], (steps - before)[:, None, None])


def _shown(fed: np.ndarray, columns: int) -> np.ndarray:
    """Numbers of the frames to show."""
    if columns:
        return fed[np.linspace(0, len(fed) - 1, min(columns, len(fed))).round().astype(int)]
    span = fed[-1] - fed[0] + 1
    return np.linspace(fed[0], fed[-1], min(span, _MOST_FRAMES)).round().astype(np.int64)


def _rising(fed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The frame numbers that were fed, without a short video's repeats of its last, and their places in the clip."""
    return np.unique(fed, return_index=True)


def _enlarged(preprocessing: Preprocessing) -> Preprocessing:
    """The same part of the picture in more pixels, where the model's own are few."""
    times = math.ceil(_SHOWN_SIDE / preprocessing.crop_size)
    return replace(
        preprocessing,
        short_side=preprocessing.short_side * times,
        crop_size=preprocessing.crop_size * times,
    )
