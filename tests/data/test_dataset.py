"""Training samples: a function of (seed, epoch, index), and honest about what they replace."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mvit_video.data.dataset import TrainClips
from mvit_video.data.lists import ListFile, load_list
from mvit_video.data.preprocessing import Preprocessing
from mvit_video.data.readers import make_reader
from mvit_video.data.spatial import TrainCrop
from mvit_video.errors import InputError
from tests.data.conftest import BROKEN, NUM_VIDEOS
from tests.data.test_views import CountingReader

CROP = TrainCrop(48, (56, 64), None, (0.75, 1.3333), flip=True)


def training_set(cfg, split: str = "train", seed: int = 0, num_clips: int = 1, reader=None):
    return TrainClips(
        load_list(cfg, split),
        Preprocessing.from_config(cfg),
        CROP,
        reader or make_reader("pyav"),
        seed,
        num_clips,
    )


def test_a_sample_is_a_function_of_seed_epoch_and_index(make_config) -> None:
    first, second = training_set(make_config()), training_set(make_config())
    np.random.seed(1)
    torch.manual_seed(1)
    sample = first[3, 5]
    assert sample["clip"].shape == (1, 3, 4, 48, 48) and sample["clip"].dtype == torch.uint8
    assert (sample["label"], sample["index"], sample["used"]) == (5, 5, 5)
    first[0, 1], second[7, 5]  # what was asked before changes nothing
    assert torch.equal(second[3, 5]["clip"], sample["clip"])
    for other in (second[4, 5], second[3, 6], training_set(make_config(), seed=1)[3, 5]):
        assert not torch.equal(other["clip"], sample["clip"])


def test_sampling_leaves_the_global_generators_alone(make_config) -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    training_set(make_config())[0, 0]
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()


def test_repeated_clips_share_one_decode_and_differ(make_config) -> None:
    reader = CountingReader()
    sample = training_set(make_config(), num_clips=3, reader=reader)[0, 0]
    assert reader.calls == 1 and reader.frames == [4]
    assert sample["clip"].shape == (3, 3, 4, 48, 48)
    assert len({clip.numpy().tobytes() for clip in sample["clip"]}) == 3


def test_the_first_of_several_clips_is_the_only_one_of_one(make_config) -> None:
    one, three = training_set(make_config()), training_set(make_config(), num_clips=3)
    assert torch.equal(one[2, 7]["clip"][0], three[2, 7]["clip"][0])


def test_an_undecodable_video_gives_its_place_to_another_sample_and_says_so(make_config) -> None:
    videos = training_set(make_config(), split="test")  # the list with a broken file
    stand_ins = set()
    for epoch in range(8):
        sample = videos[epoch, BROKEN]
        assert sample["index"] == BROKEN and sample["used"] != BROKEN
        assert sample["label"] == videos.videos.label(sample["used"])
        (failed, *_) = sample["undecodable"]
        assert (failed.video_id, failed.index) == ("broken.mp4", BROKEN)
        assert failed.reason
        again = training_set(make_config(), split="test")[epoch, BROKEN]
        assert again["used"] == sample["used"] and torch.equal(again["clip"], sample["clip"])
        stand_ins.add(sample["used"])
    assert len(stand_ins) > 2
    good = videos[0, 0]
    assert good["used"] == good["index"] and good["undecodable"] == []


def test_a_list_without_a_decodable_video_is_called_wrong(make_config, tmp_path: Path) -> None:
    videos = ListFile.build(
        [(f"gone {k}.mp4", 0) for k in range(NUM_VIDEOS)], str(tmp_path), "", "x/train.csv"
    )
    clips = TrainClips(
        videos, Preprocessing.from_config(make_config()), CROP, make_reader("pyav"), seed=0
    )
    trouble = clips[0, 0]
    assert isinstance(trouble, InputError)
    assert "x/train.csv" in str(trouble) and f"DATA.PATH_PREFIX ({tmp_path})" in str(trouble)


@pytest.mark.parametrize("sampling", ["slowfast", "stride", "segments"])
def test_clips_are_cut_as_the_preprocessing_says(make_config, sampling: str) -> None:
    preprocessing = replace(Preprocessing.from_config(make_config()), sampling=sampling)
    asked: list[list[int]] = []

    class RecordingReader(CountingReader):
        def read(self, path, frames, size=None):
            return super().read(
                path, lambda info: asked.append(list(frames(info))) or asked[-1], size
            )

    videos = load_list(make_config(), "train")
    clips = TrainClips(videos, preprocessing, CROP, RecordingReader(), seed=0)
    for epoch in range(20):
        clips[epoch, 0]
    steps = np.diff(asked, axis=1)
    if sampling == "segments":
        assert len({tuple(step) for step in steps}) > 10
    else:
        assert set(map(tuple, steps)) == {(4, 4, 4) if sampling == "stride" else (5, 5, 5)}
    assert len({frames[0] for frames in asked}) > 5
