"""What a model is timed against."""

from __future__ import annotations

import sys

import pytest

from mvit_video.benchmark.candidates import make_candidate, torchvision_video
from mvit_video.benchmark.depthwise import depthwise_layers
from mvit_video.config import load_config
from mvit_video.errors import InputError
from mvit_video.models.blocks import blocks_of
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


@pytest.mark.parametrize("compile_model", [False, True])
def test_the_config_says_whether_ours_is_compiled_and_the_names_say_it_of_theirs(compile_model):
    cfg = load_config(None, [*overrides(TINY_MODEL), "MODEL.COMPILE", str(compile_model)])
    for name, wanted in (("mvit_video", compile_model), ("eager", False), ("compiled", True)):
        candidate = make_candidate(cfg, name, batch=1)
        compiled = {
            hasattr(block.forward, "_torchdynamo_orig_callable")
            for block in blocks_of(candidate.model)
        }
        assert compiled == {wanted} and candidate.multiply_adds > 0


def test_torchvision_where_it_is_missing_is_one_message(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    torchvision_video.cache_clear()
    cfg = load_config("configs/K400/MVITv2_S_16x4.yaml", [])
    with pytest.raises(InputError, match=r"needs a torchvision that fits torch .*torchvision"):
        make_candidate(cfg, "torchvision", batch=1)


def test_pytorchvideo_needs_no_torchvision_and_hides_none(monkeypatch):
    """One that is installed need not fit this torch: importing it is then no ImportError."""
    for name in [name for name in sys.modules if name.startswith("pytorchvideo.models")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torchvision", None)
    cfg = load_config("configs/K400/MVIT_B_16x4.yaml", [])
    assert make_candidate(cfg, "pytorchvideo", batch=1).multiply_adds > 0
    assert sys.modules["torchvision"] is None and "torchvision.ops" not in sys.modules


@pytest.mark.parametrize("config", ["MVIT_B_16x4", "MVITv2_S_16x4"])
def test_torchvision_has_the_published_small_models_only(config):
    try:
        torchvision_video()
    except InputError as error:
        pytest.skip(str(error))
    cfg = load_config(f"configs/K400/{config}.yaml", [])
    candidate = make_candidate(cfg, "torchvision", batch=2)
    assert candidate.multiply_adds == make_candidate(cfg, "mvit_video", batch=2).multiply_adds
    with pytest.raises(InputError, match="torchvision does not have this model"):
        make_candidate(load_config(None, overrides(TINY_MODEL)), "torchvision", batch=1)
