"""A clip that stands still gives what its frame gives, and order counts once the taps have learned.

`../shared/reference/families.md`, section 6.6, has the proof, and the cases in which it must fail.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mvit_video.errors import InputError
from mvit_video.models import REGISTRY, dual_vit
from mvit_video.models.inflated import InflatedSpec
from tests.models.inflation import (
    PUBLISHED,
    TINY,
    VARIANTS,
    build,
    build_random,
    build_zero,
    difference,
    inflate,
    randomise,
)

EXACT = 1e-12
SIZE = 32


def still(frame: torch.Tensor, num_frames: int) -> torch.Tensor:
    return frame[:, :, None].expand(-1, -1, num_frames, -1, -1)


def frame(size: int = SIZE, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, 3, size, size, generator=generator, dtype=torch.float64)


def moving(num_frames: int = 8, size: int = SIZE) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(1, 3, num_frames, size, size, generator=generator, dtype=torch.float64)


@torch.no_grad()
def error(name: str, init: str, *lengths: int, size: int = SIZE, **changes) -> float:
    """Of the inflated model on clips that stand still, against the image model on their frame.

    The worst of the clip lengths.
    """
    image = build_random(name, image=True, **changes | {"temporal_position": False})
    video = inflate(image, build_zero(name, **changes), init)
    x = frame(size)
    expected = image(x)
    return max(difference(video(still(x, length)), expected) for length in lengths)


# ------------------------------------------------------------------------------ it holds


LARGE = ("DUALVIT_B", "DUALVIT_L", "MPVIT_B")  # seconds each, even at 32 pixels


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n in LARGE else ()) for n in PUBLISHED]
)
def test_a_still_clip_gives_what_its_frame_gives(name):
    assert error(name, "centre", 3) < EXACT


@pytest.mark.slow
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", PUBLISHED)
def test_a_still_clip_of_any_length_gives_what_its_frame_gives(name, stride):
    for padding, init in (("zero", "centre"), ("replicate", "mean")):
        changes = {"temporal_padding": padding, "stem_stride_t": stride}
        if VARIANTS[name] == "DualViT":
            changes["aux_head"] = True
        assert error(name, init, 1, 2, 3, 8, 16, size=64, **changes) < EXACT, padding


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize(
    ("init", "changes"),
    [
        ("centre", {}),
        ("centre", {"depthwise_time": "full", "temporal_position": True}),
        ("centre", {"temporal_padding": "replicate", "stem_kernel_t": 2}),
        ("mean", {"temporal_padding": "replicate"}),
        ("mean", {"temporal_padding": "replicate", "depthwise_time": "full"}),
    ],
    ids=["taps", "full", "replicate", "mean", "mean-full"],
)
def test_every_way_through_time_that_must_keep_the_identity_does(name, init, changes, stride):
    assert error(name, init, 1, 2, 3, 8, 16, stem_stride_t=stride, **changes) < EXACT


@pytest.mark.parametrize("name", TINY)
def test_temporal_positions_start_at_zero(name):
    assert not build(name, temporal_position=True).position.table.any()


@pytest.mark.parametrize("name", TINY)
def test_family_options_keep_the_identity(name):
    options = {
        "DualViT": [{"semantic_pool_t": p, "aux_head": True} for p in (1, 2, 4, 8)],
        "MPViT": [{"relative_time": True}, {"relative_time": True, "depthwise_time": "full"}],
        "CloFormer": [{"norm_scope": "clip"}, {"pool_t": 2}, {"pool_t": 3, "norm_scope": "clip"}],
    }
    for changes in options[VARIANTS[name]]:
        assert error(name, "centre", 3, 10, 16, size=64, **changes) < EXACT, changes


@pytest.mark.parametrize("name", TINY)
def test_tubelets_without_padding_hold_for_mean_kernels(name):
    changes = {"stem_kernel_t": 2, "stem_stride_t": 2, "depthwise_time": "none"}
    assert error(name, "mean", 8, **changes) < EXACT
    assert error(name, "mean", 7, **changes) > 1e-4  # an odd length is padded


@pytest.mark.parametrize("name", TINY)
def test_batch_norm_in_training_keeps_the_identity(name):
    image = build_random(name, image=True).train()
    video = inflate(image, build(name)).train()
    with torch.no_grad():
        assert difference(video(still(frame(64), 8)), image(frame(64))) < EXACT
    found = video.state_dict()
    for key, expected in image.state_dict().items():
        if key.endswith("running_mean"):
            torch.testing.assert_close(found[key], expected)


# ------------------------------------------------------------------------- it must not hold


@pytest.mark.parametrize("name", TINY)
def test_mean_kernels_with_zero_padding_are_no_identity(name):
    assert error(name, "mean", 8) > 1e-3
    assert error(name, "mean", 8, depthwise_time="none") > 1e-4


@pytest.mark.parametrize("name", TINY)
def test_repeated_kernels_are_no_identity(name):
    assert error(name, "repeat", 8, temporal_padding="replicate") > 1e-3


@pytest.mark.parametrize("pool_t", [1, 4])
def test_dual_vit_needs_its_keys_weighted_by_the_steps_they_stand_for(monkeypatch, pool_t):
    assert error("DUALVIT_TINY", "centre", 16, size=64, semantic_pool_t=pool_t) < EXACT
    monkeypatch.setattr(dual_vit, "step_bias", lambda *_: None)
    assert error("DUALVIT_TINY", "centre", 16, size=64, semantic_pool_t=pool_t) > 1e-6


# ------------------------------------------------------------------------------ order


@pytest.mark.parametrize("name", TINY)
def test_right_after_inflation_the_order_of_frames_does_not_count(name):
    video = inflate(build_random(name, image=True), build(name, stem_stride_t=1))
    if name.startswith("DUALVIT"):  # pooled over time, semantics see who their neighbour is
        video = inflate(
            build_random(name, image=True), build(name, stem_stride_t=1, semantic_pool_t=1)
        )
    clip = moving()
    with torch.no_grad():
        assert difference(video(clip[:, :, torch.randperm(8)]), video(clip)) < EXACT


@pytest.mark.parametrize("name", TINY)
def test_side_taps_make_the_order_count(name):
    video = inflate(build_random(name, image=True), build(name, stem_stride_t=1))
    with torch.no_grad():
        for key, tensor in video.state_dict().items():
            if key.endswith("taps"):
                tensor.add_(0.3 * torch.randn_like(tensor))
        clip = moving()
        assert difference(video(clip.flip(2)), video(clip)) > 1e-3


@pytest.mark.parametrize("name", TINY)
def test_tubelets_alone_are_a_bag_whatever_is_trained(name):
    changes = {"stem_kernel_t": 2, "stem_stride_t": 2, "depthwise_time": "none"}
    if name.startswith("DUALVIT"):
        changes["semantic_pool_t"] = 1
    video = randomise(build(name, **changes))
    clip = moving()
    tubelets = clip.unflatten(2, (4, 2))[:, :, [2, 0, 3, 1]].flatten(2, 3)
    with torch.no_grad():
        assert difference(video(tubelets), video(clip)) < EXACT
        position = randomise(build(name, temporal_position=True, **changes))
        assert difference(position(tubelets), position(clip)) > 1e-6


@pytest.mark.parametrize("name", TINY)
def test_a_few_training_steps_make_the_order_count(name):
    torch.manual_seed(0)
    changes = {"semantic_pool_t": 1} if VARIANTS[name] == "DualViT" else {}
    image = build_random(name, image=True)
    model = inflate(image, build(name, stem_stride_t=1, num_frames=4, **changes))
    forwards = torch.randn(4, 3, 4, SIZE, SIZE, dtype=torch.float64)
    clips = torch.cat((forwards, forwards.flip(2)))  # the classes differ in their order alone
    labels = torch.tensor([0] * 4 + [1] * 4)

    def sensitivity() -> float:
        model.eval()
        with torch.no_grad():
            return difference(model(clips[:4]), model(clips[4:]))

    assert sensitivity() < EXACT
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(5):
        model.train()
        loss = nn.functional.cross_entropy(model(clips), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert sensitivity() > 1e4 * EXACT


@pytest.mark.parametrize("name", TINY)
def test_after_centre_inflation_stride_two_skips_odd_frames_but_can_learn_to_read_them(name):
    video = inflate(build_random(name, image=True), build(name))
    clip = moving()
    other = clip.clone()
    other[:, :, 1::2] += 1
    video(clip).square().sum().backward()
    with torch.no_grad():
        assert torch.equal(video(other), video(clip))
    for key, parameter in video.named_parameters():
        if key.endswith("taps"):
            assert parameter.grad[:, :, 0].any() and parameter.grad[:, :, 2].any(), key


@pytest.mark.parametrize("name", TINY)
def test_the_stem_of_an_inflated_model_sees_each_frame_as_the_image_model_does(name):
    image = build_random(name, image=True)
    video = inflate(image, build(name))
    clip = moving()
    with torch.no_grad():
        steps = video.stem(clip)
        for step in range(4):
            one = image.stem(clip[:, :, 2 * step : 2 * step + 1])
            assert difference(steps[:, step : step + 1], one) < EXACT


# ------------------------------------------------------------------------------ specs


def test_wrong_specs_say_what_is_wrong():
    for name, changes, words in (
        ("CLOFORMER_TINY", {"stem_kernel_t": 4}, "stem_kernel_t is 4; choose one of 1, 2, 3"),
        ("MPVIT_TINY", {"temporal_padding": "reflect"}, "zero, replicate"),
        ("DUALVIT_TINY", {"depths": (1, 1)}, "depths has 2 entries for 4 stages"),
        ("DUALVIT_TINY", {"heads": (1, 2, 4, 5)}, "width 128 does not split into 5 heads"),
        ("CLOFORMER_TINY", {"norm_scope": "batch"}, "frame, clip"),
        ("MPVIT_TINY", {"num_frames": 0}, "num_frames is 0"),
    ):
        with pytest.raises(InputError, match=words):
            build(name, **changes)


def test_specs_are_plain_data():
    for family in REGISTRY.values():
        for spec in family.presets.values():
            assert hash(spec) == hash(spec)
            if isinstance(spec, InflatedSpec):
                assert spec.num_steps >= 1
