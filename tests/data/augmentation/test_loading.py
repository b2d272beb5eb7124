"""What the training data set draws for the device, and labels of mirrored clips."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from mvit_video.data.augmentation import Augmentation
from mvit_video.data.augmentation.erasing import RandomErasing
from mvit_video.data.augmentation.randaugment import RandAugment
from mvit_video.data.dataset import TrainClips
from mvit_video.data.lists import ListFile
from mvit_video.data.preprocessing import Preprocessing
from mvit_video.data.readers import VideoInfo
from mvit_video.data.spatial import TrainCrop

RECIPE = Augmentation(RandAugment.parse("rand-m7-n4-mstd0.5-inc1"), erasing=RandomErasing())
INFO = VideoInfo(num_frames=20, fps=30.0, width=40, height=32)


class RampReader:
    """A reader whose frames grow brighter from left to right."""

    name = "ramp"

    def probe(self, path: str) -> VideoInfo:
        return INFO

    def read(
        self, path: str, frames: Callable, size: object = None
    ) -> tuple[np.ndarray, VideoInfo]:
        ramp = np.broadcast_to(np.arange(40, dtype=np.uint8)[:, None] * 6, (32, 40, 3))
        return np.stack([ramp] * len(frames(INFO))), INFO


def training_set(
    num_clips: int = 1, augmentation: Augmentation = RECIPE, mirrored: tuple[int, ...] | None = None
) -> TrainClips:
    videos = ListFile.build([(f"v{k}.mp4", k % 3) for k in range(60)], "", "", "list")
    preprocessing = Preprocessing(
        num_frames=2, sampling_rate=2, sampling="stride", target_fps=30.0, short_side=32, crop_size=24,
        mean=(0.45,) * 3, std=(0.225,) * 3, reverse_channels=False,
    )  # fmt: skip
    crop = TrainCrop(24, (32, 32), None, (0.75, 1.3333), flip=True)
    return TrainClips(
        videos, preprocessing, crop, RampReader(), 5, num_clips, augmentation, mirrored
    )


def test_choices_belong_to_the_sample_and_the_epoch() -> None:
    first, second = training_set(), training_set()
    assert all(first[0, k]["choices"] == second[0, k]["choices"] for k in range(20))
    drawn = {tuple(first[epoch, k]["choices"]) for epoch in range(3) for k in range(20)}
    assert len(drawn) > 50


def test_repeated_clips_of_a_video_are_augmented_each_in_its_own_way() -> None:
    videos = training_set(num_clips=3)
    assert all(len(set(videos[0, k]["choices"])) == 3 for k in range(10))
    # The first clip is that of a run without repeats.
    single = training_set()
    assert torch.equal(videos[0, 4]["clip"][0], single[0, 4]["clip"][0])
    assert videos[0, 4]["choices"][0] == single[0, 4]["choices"][0]


def test_augmentation_does_not_change_which_crop_is_cut() -> None:
    plain, augmented = training_set(augmentation=Augmentation()), training_set()
    assert all(torch.equal(plain[0, k]["clip"], augmented[0, k]["clip"]) for k in range(10))


def test_mirrored_clips_have_the_mirrored_label_and_forbidden_ones_stay() -> None:
    videos = training_set(mirrored=(1, 0, -1))
    flipped = 0
    for k in range(60):
        sample = videos[0, k]
        row = sample["clip"][0, 0, 0, 0].int()
        is_flipped = bool(row[0] > row[-1])
        label, shown = sample["label"], sample["clip_labels"][0]
        assert label == k % 3
        assert shown == ((1, 0, 2)[label] if is_flipped else label)
        assert not (is_flipped and label == 2)
        flipped += is_flipped
    assert 10 <= flipped <= 30  # half of the clips of two labels
