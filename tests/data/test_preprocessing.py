"""The preprocessing that a checkpoint carries."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from mvit_video.config import load_config
from mvit_video.data.preprocessing import Preprocessing
from mvit_video.data.readers import VideoInfo
from mvit_video.errors import InputError

SHIPPED = Preprocessing.from_config(load_config("configs/K400/MVITv2_S_16x4.yaml"))


def test_it_survives_storage_as_plain_types() -> None:
    named = replace(SHIPPED, class_names=("a", "b"))
    assert Preprocessing.from_dict(json.loads(json.dumps(named.to_dict()))) == named


def test_a_stored_one_of_another_version_is_refused() -> None:
    values = SHIPPED.to_dict()
    with pytest.raises(InputError, match="brightness"):
        Preprocessing.from_dict({**values, "brightness": 1})


def test_normalised_values_are_slowfasts() -> None:
    clips = torch.randint(0, 256, (2, 3, 4, 5, 6), dtype=torch.uint8)
    expected = (clips.float() / 255 - 0.45) / 0.225
    torch.testing.assert_close(SHIPPED.normalise(clips), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(SHIPPED.normalise(clips[0]), expected[0], rtol=1e-5, atol=1e-6)


def test_mean_and_std_are_in_the_order_the_model_is_fed() -> None:
    preprocessing = replace(
        SHIPPED, reverse_channels=True, mean=(0.1, 0.2, 0.3), std=(1.0, 0.5, 0.25)
    )
    red = torch.zeros(3, 1, 1, 1, dtype=torch.uint8)
    red[0] = 255
    expected = torch.tensor([(0 - 0.1) / 1.0, (0 - 0.2) / 0.5, (1 - 0.3) / 0.25])
    torch.testing.assert_close(preprocessing.normalise(red).flatten(), expected)


def test_only_very_large_frames_are_scaled_by_the_decoder() -> None:
    def asked(height: int, width: int) -> tuple[int, int] | None:
        return SHIPPED.decoded_size(VideoInfo(100, 30.0, width, height))

    assert asked(256, 340) is None and asked(720, 1280) is None and asked(1280, 720) is None
    assert asked(1080, 1920) == (512, 910)
    assert asked(4320, 7680) == (512, 910)
    assert asked(3840, 2160) == (910, 512)
    assert asked(400, 20_000) is None  # scaling would not help: the crop needs the height


def test_train_and_test_lists_must_be_of_one_kind() -> None:
    with pytest.raises(InputError, match=r"TRAIN\.DATASET is kinetics and TEST\.DATASET is ssv2"):
        Preprocessing.from_config(load_config(None, ["TEST.DATASET", "ssv2"]))
