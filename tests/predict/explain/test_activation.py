"""Class activation maps of every family."""

from __future__ import annotations

import pytest
import torch

from mvit_video.errors import InputError
from mvit_video.models.dual_vit import DualViT
from mvit_video.models.mvit import MViT
from mvit_video.predict.explain.activation import (
    Level,
    activation_map,
    default_level,
    watch_levels,
)
from tests.models.test_all_models import SMALL, clip, make

everyone = pytest.mark.parametrize("which", SMALL)


@everyone
@torch.no_grad()
def test_the_levels_watched_are_those_of_the_pyramid(which):
    model = make(which).eval()
    pyramid = model.forward_pyramid(clip(batch=1))
    levels, logits = watch_levels(model, clip(batch=1))
    assert len(levels) == len(pyramid)
    torch.testing.assert_close(logits, model(clip(batch=1)))
    cubes = [level.cube() for level in levels]
    if isinstance(model, DualViT):
        cubes[-1] = model.norm(cubes[-1])  # the class token attends to them before their norm
    if isinstance(model, MViT) and model.spec.class_token:
        del cubes[-1], pyramid[-1]  # what the class token attends to goes into the last block
    for cube, wanted in zip(cubes, pyramid, strict=True):
        torch.testing.assert_close(cube, wanted[0].permute(1, 2, 3, 0))


@everyone
def test_every_level_has_something_to_say_for_some_class(which):
    model = make(which).eval()
    one = clip(batch=1)
    for level in range(len(model.feature_info)):
        maps = [activation_map(model, one, label, level) for label in range(5)]
        assert all(used == level and (heat >= 0).all() for heat, used in maps)
        assert any(heat.max() > 0 for heat, _ in maps)
        assert not all(torch.equal(heat, maps[0][0]) for heat, _ in maps)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_behind_a_mean_and_a_linear_head_it_is_the_published_formula():
    model = make("MPViT").eval()
    one = clip(batch=1)
    heat, _ = activation_map(model, one, 3, level=3)
    with torch.no_grad():
        features = model.forward_pyramid(one)[-1][0]
        number = features[0].numel()
        wanted = torch.einsum("cthw,c->thw", features, model.head.weight[3] / number)
    torch.testing.assert_close(heat, wanted.clamp(min=0))


def test_by_default_it_is_the_coarsest_level_that_shows_where():
    def levels(*sides):
        return [Level(torch.empty(0), (4, side, side)) for side in sides]

    assert default_level(levels(56, 28, 14, 7)) == 3
    assert default_level(levels(12, 6, 3, 2)) == 0
    assert default_level(levels(6, 3)) == 0


def test_a_level_that_is_not_there_is_an_input_error():
    with pytest.raises(InputError, match=r"levels 0 ... 3"):
        activation_map(make("CloFormer").eval(), clip(batch=1), 0, level=4)
