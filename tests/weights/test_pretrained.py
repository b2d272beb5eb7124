"""`build_model(..., pretrained=...)`."""

from __future__ import annotations

import logging

import pytest
import torch

from mvit_video import build_model
from mvit_video.errors import InputError
from mvit_video.models.mvit import MViT
from mvit_video.models.mvit_presets import PRESETS
from tests.weights.seeded import seeded_state_dict


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    with torch.device("meta"):
        model = MViT(PRESETS["IN1K_MVITv2_T"])
    return seeded_state_dict([(key, tuple(t.shape)) for key, t in model.state_dict().items()])


def test_a_new_head_on_pretrained_weights_is_said(weights, tmp_path, caplog) -> None:
    path = tmp_path / "weights.pyth"
    torch.save({"model_state": weights}, path)
    with caplog.at_level(logging.WARNING):
        model = build_model("IN1K_MVITv2_T", pretrained=path, num_classes=12)
    assert model.head.projection.weight.shape == (12, 768)
    assert torch.equal(model.norm.weight, weights["norm.weight"])
    assert "the head is new" in caplog.text


def test_weights_of_another_model_are_refused(weights) -> None:
    with torch.device("meta"), pytest.raises(InputError, match="depth: 10 against 16"):
        build_model("IN1K_MVITv2_S", pretrained=weights)


def test_public_weights_are_for_presets_that_have_some() -> None:
    with pytest.raises(InputError, match="give their path or URL"):
        build_model("VIT_B_16x4", pretrained=True)
