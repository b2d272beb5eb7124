"""Layer-wise learning rates, and training the head alone."""

from __future__ import annotations

import pytest
import torch

from mvit_video.errors import InputError
from mvit_video.train.optimizer import parameter_groups
from tests.train.test_update import make_batch, make_updater


def test_rates_fall_from_the_head_to_the_stem() -> None:
    updater = make_updater(**{"SOLVER.LAYER_DECAY": 0.5})
    scales = {}
    names = {parameter: name for name, parameter in updater.model.named_parameters()}
    for group in updater.optimizer.param_groups:
        scales |= {names[parameter]: group["lr_scale"] for parameter in group["params"]}
    assert scales["head.projection.weight"] == scales["norm.weight"] == 1.0
    assert scales["blocks.1.mlp.fc1.weight"] == 0.5
    assert scales["blocks.0.mlp.fc1.weight"] == 0.25
    assert scales["patch_embed.proj.weight"] == scales["cls_token"] == 0.125
    assert len(scales) == len(names)
    updater.update([make_batch(2)], 0, learning_rate=0.1)
    assert {group["lr"] for group in updater.optimizer.param_groups} == {0.1, 0.05, 0.025, 0.0125}


def test_without_decay_all_rates_are_the_same() -> None:
    updater = make_updater()
    assert all(group["lr_scale"] == 1.0 for group in updater.optimizer.param_groups)


def test_a_model_without_a_row_of_blocks_is_refused() -> None:
    with pytest.raises(InputError, match=r"SOLVER\.LAYER_DECAY counts blocks"):
        parameter_groups(torch.nn.Linear(2, 2), 0.05, layer_decay=0.5)


def test_a_linear_probe_changes_the_head_and_nothing_else() -> None:
    updater = make_updater(**{"TRAIN.LINEAR_PROBE": True, "MVIT.DROPPATH_RATE": 0.5})
    before = {name: p.detach().clone() for name, p in updater.model.named_parameters()}
    for step in range(2):
        updater.update([make_batch(4)], step, learning_rate=0.1)
    changed = {
        name for name, p in updater.model.named_parameters() if not torch.equal(p, before[name])
    }
    assert changed == {"head.projection.weight", "head.projection.bias"}
    assert updater.model.head.training and not updater.model.blocks.training
