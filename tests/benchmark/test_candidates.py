"""What a model is timed against."""

from __future__ import annotations

import pytest

from mvit_video.benchmark.candidates import make_candidate
from mvit_video.benchmark.depthwise import depthwise_layers
from mvit_video.config import load_config
from mvit_video.errors import InputError
from tests.tiny_run import TINY_MODEL, overrides

FAMILIES = [("DualViT", "DUALVIT"), ("MPViT", "MPVIT"), ("CloFormer", "CLOFORMER")]


def tiny_config(family: str, section: str):
    return load_config(
        None,
        ["MODEL.MODEL_NAME", family, f"{section}.VARIANT", f"{section}_TINY", "DATA.NUM_FRAMES", "7",
         "DATA.TRAIN_CROP_SIZE", "64", "DATA.TEST_CROP_SIZE", "64"],
    )  # fmt: skip


@pytest.mark.parametrize(("family", "section"), FAMILIES)
def test_images_are_as_many_as_a_clip_has_time_steps(family, section):
    cfg = tiny_config(family, section)
    ours, image, conv3d = (
        make_candidate(cfg, name, batch=2) for name in ("mvit_video", "image", "conv3d")
    )
    assert ours.inputs == conv3d.inputs == ((2, 3, 7, 64, 64),)
    assert image.inputs == ((1, 3, 64, 64),) * 8
    assert 0.7 * ours.multiply_adds < image.multiply_adds < ours.multiply_adds
    assert ours.multiply_adds < conv3d.multiply_adds


@pytest.mark.parametrize("name", ["image", "conv3d"])
def test_mvit_has_no_image_model_of_its_own(name):
    with pytest.raises(InputError, match="is for Dual-ViT, MPViT and CloFormer"):
        make_candidate(load_config(None, overrides(TINY_MODEL)), name, batch=1)


def test_only_mvit_was_written_by_other_hands():
    with pytest.raises(InputError, match="has MViT only"):
        make_candidate(tiny_config("MPViT", "MPVIT"), "materialised", batch=1)


def test_a_model_without_depthwise_convolutions_along_time_is_refused():
    with pytest.raises(InputError, match="no depthwise convolutions"):
        depthwise_layers(load_config(None, overrides(TINY_MODEL)), batch=1)
