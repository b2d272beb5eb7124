"""What a model costs, counted in its published form."""

from __future__ import annotations

import pytest
import torch

from mvit_video.build import build_model
from mvit_video.config import load_config
from mvit_video.models.cost import count_multiply_adds, count_parameters
from tests.tiny_run import TINY_MODEL, overrides


@pytest.mark.parametrize(
    ("config", "billions"),
    [
        ("K400/MVIT_B_16x4", 70.599),
        ("K400/MVIT_B_32x3", 169.96),
        ("K400/MVITv2_S_16x4", 64.22),
        ("K400/MVITv2_L_40x3", 2823.40),
    ],
)
def test_multiply_adds_are_the_published_ones(config, billions):
    """../shared/reference/mvit.md, 1.9: folded biases and padded heads do not count."""
    cfg = load_config(f"configs/{config}.yaml")
    size = cfg.DATA.TRAIN_CROP_SIZE
    with torch.device("meta"):
        model = build_model(cfg)
    counted = count_multiply_adds(model, (1, 3, cfg.DATA.NUM_FRAMES, size, size))
    assert counted / 1e9 == pytest.approx(billions, abs=0.005)


def test_counting_leaves_the_model_working():
    model = build_model(load_config(None, overrides(TINY_MODEL))).eval()
    clip = torch.randn(1, 3, 4, 32, 32)
    before = model(clip)
    count_multiply_adds(model, clip.shape)
    assert torch.equal(model(clip), before)


@pytest.mark.parametrize("name", ["DUALVIT_TINY", "MPVIT_TINY", "CLOFORMER_TINY"])
def test_key_biases_padding_and_taps_do_not_count(name):
    def multiply_adds(**changes):
        return count_multiply_adds(build_model(name, **changes), (2, 3, 8, 64, 64))

    taps, full = multiply_adds(), multiply_adds(depthwise_time="full")
    assert taps == multiply_adds(depthwise_time="none") < full


def test_multiply_adds_grow_with_the_batch_and_the_model_need_not_be_whole():
    with torch.device("meta"):
        model = build_model("CLOFORMER_TINY")
    one, three = (count_multiply_adds(model, (batch, 3, 8, 64, 64)) for batch in (1, 3))
    assert three == 3 * one


def test_a_shared_parameter_counts_once():
    shared = torch.nn.Linear(2, 3)
    assert count_parameters(torch.nn.Sequential(shared, shared)) == 9


def test_counting_copies_no_weights(monkeypatch):
    model = build_model("MPVIT_TINY")
    monkeypatch.delattr(torch.nn.Parameter, "__deepcopy__")
    monkeypatch.setattr(torch.Tensor, "__deepcopy__", lambda *_: pytest.fail("a weight is copied"))
    assert count_multiply_adds(model, (1, 3, 8, 64, 64)) > 0
