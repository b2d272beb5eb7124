"""Items: training clips, and test videos with all their views.

Training may replace an undecodable video by another sample, and says so; validation and test never do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mvit_video.data.augmentation import Augmentation, ClipChoices
from mvit_video.data.lists import ListFile
from mvit_video.data.preprocessing import Preprocessing
from mvit_video.data.readers import Reader
from mvit_video.data.seeding import CLIP, FRAMES, SUBSTITUTE, sample_rng, shuffle_rng
from mvit_video.data.spatial import TrainCrop, crop_and_resize
from mvit_video.data.views import VideoViews, read_views
from mvit_video.data.watch import Watch
from mvit_video.errors import InputError, VideoError

_MAX_TRIES = 10  # videos tried for one place in a batch before the list itself is called wrong


@dataclass(frozen=True)
class UndecodableVideo:
    """A video of a list that could not be read, and why. `index` is its place in the list."""

    video_id: str
    label: int
    index: int
    reason: str


class TrainSample(TypedDict):
    """One place of a training batch.

    clip: (S, 3, T, H, W) uint8, S = AUG.NUM_SAMPLE.
    choices: what is to be done to each clip on the device.
    label: of the video shown.
    clip_labels: of each clip; another one than the video's where mirroring changes it.
    index: the sample that the sampler asked for.
    used: the sample shown; another one where the video of `index` is undecodable.
    undecodable: every video that was tried and failed.
    """

    clip: Tensor
    choices: list[ClipChoices]
    label: int
    clip_labels: list[int]
    index: int
    used: int
    undecodable: list[UndecodableVideo]


class TrainClips(Dataset[TrainSample]):
    """Training samples by (epoch, index); the same key gives the same bits in any process.

    Args:
        videos: the training list.
        preprocessing: which frames make a clip.
        crop: how crops are drawn.
        reader: of video files.
        seed: of the run.
        num_clips: differently cropped and augmented clips of the same frames per video (repeated augmentation).
        augmentation: what is drawn for each clip beyond its crop and flip.
        mirrored: by label, the label of a mirrored clip, or -1 where clips must not be mirrored; None where mirroring
            changes no label.
        watch: bounds the time of a decode.
    """

    def __init__(
        self,
        videos: ListFile,
        preprocessing: Preprocessing,
        crop: TrainCrop,
        reader: Reader,
        seed: int,
        num_clips: int = 1,
        augmentation: Augmentation = Augmentation(),  # noqa: B008  frozen, and does nothing
        mirrored: Sequence[int] | None = None,
        watch: Watch | None = None,
    ) -> None:
        self.videos = videos
        self.watch = watch or Watch()
        self._preprocessing = preprocessing
        self._crop = crop
        self._reader = reader
        self._seed = seed
        self._num_clips = num_clips
        self._augmentation = augmentation
        self._mirrored = mirrored

    def __len__(self) -> int:
        return len(self.videos)

    def name(self, index: int) -> str:
        """What to call a video in messages."""
        return self.videos.path(index)

    def __getitem__(self, key: tuple[int, int]) -> TrainSample | InputError:
        """The sample, or (as a value: an exception loses its type on the way out of a worker) the reason to stop."""
        epoch, index = key
        undecodable: list[UndecodableVideo] = []
        substitutes = sample_rng(self._seed, epoch, index, SUBSTITUTE)
        used = index
        for _ in range(_MAX_TRIES):
            try:
                frames = self._read(used, sample_rng(self._seed, epoch, index, FRAMES))
            except VideoError as error:
                undecodable.append(_undecodable(self.videos, used, error))
                used = int(substitutes.integers(len(self.videos)))
                continue
            label = self.videos.label(used)
            clips, choices, labels = zip(
                *(
                    self._cut(frames, label, sample_rng(self._seed, epoch, index, CLIP + k))
                    for k in range(self._num_clips)
                ),
                strict=True,
            )
            return TrainSample(
                clip=torch.stack(clips),
                choices=list(choices),
                label=label,
                clip_labels=list(labels),
                index=index,
                used=used,
                undecodable=undecodable,
            )
        return _hopeless(self.videos, undecodable)

    def _read(self, index: int, rng: np.random.Generator) -> Tensor:
        """(T, H, W, 3) uint8 frames of a random clip of the video."""
        path = self.videos.path(index)
        with self.watch.decoding(index, path):
            frames, _ = self._reader.read(
                path,
                lambda info: self._preprocessing.training_frames(info, rng),
                self._preprocessing.decoded_size,
            )
        return torch.from_numpy(frames)

    def _cut(
        self, frames: Tensor, label: int, rng: np.random.Generator
    ) -> tuple[Tensor, ClipChoices, int]:
        """A random clip of the frames, (3, T, size, size); what the device is to do to it; its label."""
        size = self._crop.size
        box, flip = self._crop.draw(frames.shape[1], frames.shape[2], rng)
        choices = self._augmentation.draw(rng, size, size)
        clip = crop_and_resize(frames, box, size).permute(3, 0, 1, 2)
        mirrored = label if self._mirrored is None else self._mirrored[label]
        if flip and mirrored >= 0:
            clip, label = clip.flip(-1), mirrored
        return clip, choices, label


class TestVideos(Dataset[VideoViews | UndecodableVideo]):
    """Videos by list index, each read once for all its views. Nothing about them is random.

    Args:
        videos: the list.
        preprocessing: what happens to them.
        reader: of video files.
        num_views, num_crops: clips per video, and crops per clip (1 or 3).
        shuffle_seed: shuffles the frames of each clip where it is given (TEST.SHUFFLE_FRAMES).
        watch: bounds the time of a decode.
    """

    __test__ = False  # not a test case, whatever pytest thinks of its name

    def __init__(
        self,
        videos: ListFile,
        preprocessing: Preprocessing,
        reader: Reader,
        num_views: int = 1,
        num_crops: int = 1,
        shuffle_seed: int | None = None,
        watch: Watch | None = None,
    ) -> None:
        self.videos = videos
        self.watch = watch or Watch()
        self._preprocessing = preprocessing
        self._reader = reader
        self._num_views = num_views
        self._num_crops = num_crops
        self._shuffle_seed = shuffle_seed

    def __len__(self) -> int:
        return len(self.videos)

    def name(self, index: int) -> str:
        """What to call a video in messages."""
        return self.videos.path(index)

    def __getitem__(self, index: int) -> VideoViews | UndecodableVideo:
        path = self.videos.path(index)
        try:
            with self.watch.decoding(index, path):
                views = read_views(
                    self._reader, path, self._preprocessing, self._num_views, self._num_crops
                )
        except VideoError as error:
            return _undecodable(self.videos, index, error)
        frame_index = views.frame_index
        if self._shuffle_seed is not None:
            rng = shuffle_rng(self._shuffle_seed, index)
            frame_index = torch.from_numpy(rng.permuted(frame_index.numpy(), axis=1))
        return replace(
            views,
            frame_index=frame_index,
            video_id=self.videos.video_id(index),
            label=self.videos.label(index),
            index=index,
        )


def _undecodable(videos: ListFile, index: int, error: VideoError) -> UndecodableVideo:
    return UndecodableVideo(
        videos.video_id(index), videos.label(index), index, f"{error.path}: {error.reason}"
    )


def _hopeless(videos: ListFile, undecodable: list[UndecodableVideo]) -> InputError:
    reasons = "\n  ".join(video.reason for video in undecodable[:3])
    return InputError(
        f"{len(undecodable)} videos drawn from {videos.source} in a row cannot be decoded, among them\n  {reasons}\n"
        f"Is DATA.PATH_PREFIX ({videos.prefix or 'empty: paths are relative to the current folder'}) right?"
    )
