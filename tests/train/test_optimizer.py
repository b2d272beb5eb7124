"""Which parameters are decayed."""

from __future__ import annotations

import pytest
import torch

from mvit_video.build import build_model
from mvit_video.config import load_config
from mvit_video.train.optimizer import build_optimizer, parameter_groups
from tests.tiny_run import TINY_MODEL, overrides


@pytest.fixture
def model():
    keys = {**TINY_MODEL, "MVIT.REL_POS_SPATIAL": True, "MVIT.SEP_POS_EMBED": True}
    return build_model(load_config(None, overrides(keys)))


def names_by_decay(model, **options) -> dict[float, list[str]]:
    names = {parameter: name for name, parameter in model.named_parameters()}
    found: dict[float, list[str]] = {}
    for group in parameter_groups(model, 0.05, **options):
        found.setdefault(group["weight_decay"], []).extend(names[p] for p in group["params"])
    return found


@pytest.mark.parametrize("decay_1d", [True, False])
@pytest.mark.parametrize("decay_positions", [True, False])
def test_every_parameter_is_in_exactly_one_group(model, decay_1d, decay_positions):
    found = names_by_decay(model, decay_1d=decay_1d, decay_positions=decay_positions)
    every = [name for names in found.values() for name in names]
    assert sorted(every) == sorted(name for name, _ in model.named_parameters())


def test_published_recipe_spares_biases_and_norms_only(model):
    spared = names_by_decay(model)[0.0]
    for name, parameter in model.named_parameters():
        assert (name in spared) == (parameter.ndim == 1), name
    assert "blocks.0.norm1.weight" in spared
    assert "cls_token" not in spared
    assert "blocks.0.attn.rel_pos_h" not in spared


def test_positions_can_be_spared(model):
    spared = set(names_by_decay(model, decay_positions=False)[0.0])
    for name in ("cls_token", "pos_embed_spatial", "pos_embed_temporal", "blocks.1.attn.rel_pos_w"):
        assert name in spared
    assert "head.projection.weight" not in spared


def test_everything_can_be_decayed(model):
    assert list(names_by_decay(model, decay_1d=True)) == [0.05]


def test_the_order_of_parameters_is_that_of_the_model(model):
    order = {id(parameter): i for i, parameter in enumerate(model.parameters())}
    for group in parameter_groups(model, 0.05):
        places = [order[id(parameter)] for parameter in group["params"]]
        assert places == sorted(places)


def test_frozen_parameters_are_left_out(model):
    model.patch_embed.requires_grad_(False)
    found = [name for names in names_by_decay(model).values() for name in names]
    assert not [name for name in found if name.startswith("patch_embed")]


def test_the_config_chooses_the_optimiser(model):
    adamw = build_optimizer(model, load_config(None, overrides(TINY_MODEL)))
    assert isinstance(adamw, torch.optim.AdamW)
    assert adamw.defaults["fused"]
    assert adamw.defaults["betas"] == (0.9, 0.999)
    keys = {**TINY_MODEL, "SOLVER.OPTIMIZING_METHOD": "sgd", "SOLVER.MOMENTUM": 0.8}
    sgd = build_optimizer(model, load_config(None, overrides(keys)))
    assert isinstance(sgd, torch.optim.SGD)
    assert sgd.defaults["momentum"] == 0.8
    assert sgd.defaults["nesterov"]
