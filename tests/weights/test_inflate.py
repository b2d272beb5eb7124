"""Images and video: where a clip that stands still gives what its frame gives, and where not."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mvit_video.models.mvit import MViT
from mvit_video.models.mvit_spec import MViTSpec
from mvit_video.weights import Inflation, load_weights, model_from_checkpoint
from mvit_video.weights.inflate import change_time
from tests.weights.seeded import seeded_input
from tests.weights.small_models import (
    IMAGE_V1,
    IMAGE_V2,
    V1,
    V2,
    clip_for,
    largest_difference,
    weights_of,
)

IMAGE_V1_WITHOUT_TOKEN = replace(IMAGE_V1, class_token=False)


def _difference(spec: MViTSpec, inflation: Inflation, num_frames: int = 8) -> float:
    """Of a clip that stands still through the inflated model, to its frame through the image model."""
    weights = _as_published(weights_of(spec))
    image_model = model_from_checkpoint(weights).double()
    video_model = model_from_checkpoint(weights, num_frames, inflation=inflation).double()
    image = seeded_input((2, 3, spec.crop_size, spec.crop_size)).double()
    clip = image[:, :, None].repeat(1, 1, num_frames, 1, 1)
    with torch.inference_mode():
        return largest_difference(video_model(clip), image_model(image))


def _as_published(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """With a 4-D stem, as SlowFast's image models have it."""
    return weights | {"patch_embed.proj.weight": weights["patch_embed.proj.weight"][:, :, 0]}


@pytest.mark.parametrize("num_frames", [2, 8, 16])
@pytest.mark.parametrize("spec", [IMAGE_V2, IMAGE_V1_WITHOUT_TOKEN], ids=["v2", "v1 without token"])
def test_centre_inflation_is_exact_with_zero_padding(spec: MViTSpec, num_frames: int) -> None:
    assert _difference(spec, Inflation("centre"), num_frames) < 1e-12
    assert _difference(spec, Inflation("centre", "replicate"), num_frames) < 1e-12


def test_mean_inflation_is_exact_with_replicate_padding_only() -> None:
    assert (
        _difference(IMAGE_V2, Inflation("mean", "replicate")) < 1e-6
    )  # thirds are rounded in float32
    assert _difference(IMAGE_V2, Inflation("mean", "zero")) > 1e-3


@pytest.mark.parametrize("padding", ["zero", "replicate"])
def test_with_a_class_token_the_identity_does_not_hold(padding: str) -> None:
    """As a key the class token counts once, and each patch once per time step."""
    assert _difference(IMAGE_V1, Inflation("centre", padding)) > 1e-3


def test_the_inflated_model_keeps_the_image_models_strides_and_learns_time_from_zero() -> None:
    weights = _as_published(weights_of(IMAGE_V2))
    model = model_from_checkpoint(weights, num_frames=8)
    assert model.spec == replace(V2, class_token=False, pool_kv_stride_adaptive=(1, 4, 4))
    report = load_weights(MViT(model.spec), weights)
    made = {key for key in model.state_dict() if key.endswith("rel_pos_t")}
    assert made <= set(report.inflated)
    assert all(model.state_dict()[key].count_nonzero() == 0 for key in made)
    assert not (report.missing or report.unexpected or report.interpolated)


def test_joint_image_positions_become_the_spatial_table() -> None:
    weights = _as_published(weights_of(IMAGE_V1))
    state = model_from_checkpoint(weights, num_frames=8).state_dict()
    assert torch.equal(state["pos_embed_class"], weights["pos_embed"][:, :1])
    assert torch.equal(state["pos_embed_spatial"], weights["pos_embed"][:, 1:])
    assert state["pos_embed_temporal"].count_nonzero() == 0


def test_image_positions_of_another_size_are_resized_bicubically() -> None:
    weights = _as_published(weights_of(IMAGE_V1))
    model = MViT(replace(V1, crop_size=96))
    report = load_weights(model, weights)
    assert "pos_embed_spatial" in report.interpolated
    plane = weights["pos_embed"][0, 1:].T.reshape(1, 8, 16, 16)
    plane = torch.nn.functional.interpolate(plane, size=(24, 24), mode="bicubic")
    expected = plane.flatten(2).transpose(1, 2)
    torch.testing.assert_close(model.pos_embed_spatial.detach(), expected)


@pytest.mark.parametrize("spec", [V1, V2], ids=["v1", "v2"])
def test_video_becomes_an_image_model(spec: MViTSpec) -> None:
    weights = weights_of(spec)
    model = model_from_checkpoint(weights, num_frames=1)
    assert model.spec.num_frames == 1 and model.spec.patch_kernel == (1, 7, 7)
    image = clip_for(spec)[:, :, 0]
    with torch.inference_mode():
        assert model(image).shape == (2, 5)
    stem = weights["patch_embed.proj.weight"].sum(dim=2, keepdim=True)
    assert torch.equal(model.state_dict()["patch_embed.proj.weight"], stem)


@pytest.mark.parametrize("init", ["centre", "mean"])
def test_image_to_video_to_image_gives_the_image_model_back(init: str) -> None:
    weights = weights_of(IMAGE_V2)
    video = model_from_checkpoint(weights, num_frames=8, inflation=Inflation(init))
    back = model_from_checkpoint(dict(video.state_dict()), num_frames=1).state_dict()
    assert back.keys() == weights.keys()
    for key, tensor in weights.items():
        torch.testing.assert_close(back[key], tensor, rtol=1e-6, atol=1e-7)


def test_a_kernel_of_other_pixels_is_not_inflated() -> None:
    weight = torch.ones(4, 3, 7, 7)
    assert change_time(weight, (4, 3, 3, 5, 5), Inflation()) is None
    assert change_time(torch.ones(4, 3, 3, 7, 7), (4, 3, 5, 7, 7), Inflation()) is None
    assert change_time(weight, (4, 3, 1, 7, 7), Inflation()).shape == (4, 3, 1, 7, 7)
