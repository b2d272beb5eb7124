"""The published recipes as a user gets them from SlowFast's YAMLs.

The files in tests/fixtures/slowfast hold SlowFast's keys and values; the numbers here are those of
../shared/reference/mvit.md, sections 3.1 and 3.2.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import pytest
import torch

from mvit_video.build import build_model
from mvit_video.config import load_config
from mvit_video.data.augmentation.randaugment import RandAugment
from mvit_video.data.augmentation.recipe import augmentation_from_config, mixup_from_config
from mvit_video.train.optimizer import build_optimizer
from mvit_video.train.schedule import build_schedule

FIXTURES = Path(__file__).parent.parent / "fixtures" / "slowfast"


def published(name: str, *overrides: object):
    return load_config(FIXTURES / f"{name}.yaml", [str(word) for word in overrides])


def rate(cfg, epoch: float) -> float:
    return build_schedule(cfg)(epoch)


def groups_of(cfg) -> tuple[torch.optim.Optimizer, dict[str, dict]]:
    """The optimiser, and by parameter name the group it is in."""
    with torch.device("meta"):
        model = build_model(cfg)
        optimizer = build_optimizer(model, cfg)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = defaultdict(list)
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            found[names[id(parameter)]].append(group)
    assert found.keys() == set(names.values())
    assert all(len(groups) == 1 for groups in found.values())
    return optimizer, {name: group for name, (group,) in found.items()}


@pytest.mark.parametrize(
    ("nodes", "start", "top"), [(1, 1e-6, 1e-4), (2, 2e-6, 2e-4), (16, 1.6e-5, 1.6e-3)]
)
def test_kinetics_rates_follow_the_nodes(nodes, start, top) -> None:
    """A node has 16 videos; the original run had 16 nodes, 512 clips and a rate of 1.6e-3."""
    cfg = published("K400_MVITv2_S_16x4", "TRAIN.BATCH_SIZE", 16 * nodes)
    assert cfg.SOLVER.MAX_EPOCH == 200 and cfg.SOLVER.WARMUP_EPOCHS == 30
    steps_per_epoch = 240_000 // (16 * nodes)
    for step, expected in {
        0: start,
        steps_per_epoch: start + (top - start) / 30,
        15 * steps_per_epoch: (start + top) / 2,
        30 * steps_per_epoch: top,
        115 * steps_per_epoch: (start + top)
        / 2,  # the end of the cosine is the start of the warm-up
        # A quarter and three quarters of the cosine: (1 ± sqrt(1/2)) / 2 of the way.
        int(72.5 * steps_per_epoch): start + (top - start) * 0.853553,
        int(157.5 * steps_per_epoch): start + (top - start) * 0.146447,
    }.items():
        assert rate(cfg, step / steps_per_epoch) == pytest.approx(expected, rel=1e-4), step
    assert rate(cfg, 200 - 1 / steps_per_epoch) == pytest.approx(start, rel=1e-3)


def test_something_something_is_trained_by_sgd() -> None:
    cfg = published("SSv2_MVITv2_S_16x4")
    optimizer, groups = groups_of(cfg)
    assert isinstance(optimizer, torch.optim.SGD)
    assert optimizer.defaults["momentum"] == 0.9 and optimizer.defaults["nesterov"]
    assert {group["weight_decay"] for group in groups.values()} == {0.0, 1e-4}
    assert (cfg.SOLVER.MAX_EPOCH, cfg.SOLVER.WARMUP_EPOCHS) == (100, 3)
    assert rate(cfg, 0) == pytest.approx(1e-4)
    assert rate(cfg, 3) == pytest.approx(0.0025)
    eight_nodes = published("SSv2_MVITv2_S_16x4", "TRAIN.BATCH_SIZE", 128)
    assert rate(eight_nodes, 3) == pytest.approx(8 * 0.0025)
    assert published("SSv2_MVITv2_B_32x3").SOLVER.BASE_LR == 0.0015
    large = published("SSv2_MVITv2_L_40x3")
    assert (large.SOLVER.MAX_EPOCH, large.TRAIN.BATCH_SIZE) == (40, 8)
    assert rate(large, 3) == pytest.approx(0.00125)
    assert mixup_from_config(large) is None and large.SOLVER.CLIP_GRAD_L2NORM == 2.0
    assert not cfg.DATA.RANDOM_FLIP and cfg.AUG.NUM_SAMPLE == 1
    assert cfg.MVIT.DROPPATH_RATE == 0.4


_DECAYED = re.compile(
    r"cls_token|patch_embed\.proj\.weight|head\.projection\.weight"
    r"|blocks\.\d+\.(proj\.weight|attn\.(qkv|proj)\.weight|mlp\.fc[12]\.weight|attn\.pool_[qkv]\.weight"
    r"|attn\.rel_pos_[hwt])"
)
_SPARED = re.compile(
    r"(patch_embed\.proj|head\.projection|norm)\.bias|norm\.weight"
    r"|blocks\.\d+\.(norm[12]\.(weight|bias)|attn\.norm_[qkv]\.(weight|bias)"
    r"|(proj|attn\.qkv|attn\.proj|mlp\.fc[12])\.bias)"
)


def test_each_parameter_of_mvitv2_s_is_in_its_published_group() -> None:
    """Biases and norms are not decayed; class token and position tables are, for ZERO_DECAY_POS_CLS is False."""
    optimizer, groups = groups_of(published("K400_MVITv2_S_16x4"))
    assert isinstance(optimizer, torch.optim.AdamW)
    assert (optimizer.defaults["betas"], optimizer.defaults["eps"]) == ((0.9, 0.999), 1e-8)
    assert len(groups) == 397  # tensors of the published file, mvit.md 2.2
    for name, group in groups.items():
        decayed = _DECAYED.fullmatch(name) is not None
        assert decayed != (_SPARED.fullmatch(name) is not None), name
        assert group["weight_decay"] == (0.05 if decayed else 0.0), name
        assert group["lr_scale"] == 1.0
    # 16 blocks x (4 linear + 3 pools + 3 tables) + 3 width changes + stem, class token and head.
    assert sum(group["weight_decay"] > 0 for group in groups.values()) == 16 * 10 + 3 + 3


@pytest.mark.parametrize(
    ("name", "decay", "depth", "base"),
    [
        ("masked_ssl_MVITv2_S_16x4_FT", 0.75, 16, 6e-4),
        ("masked_ssl_MVITv2_L_16x4_FT", 0.875, 48, 6e-4),
        ("masked_ssl_VIT_B_16x4_FT", 0.65, 12, 6e-4),
    ],
)
def test_fine_tuning_rates_fall_block_by_block(name, decay, depth, base) -> None:
    cfg = published(name)
    _, groups = groups_of(cfg)
    for parameter, group in groups.items():
        block = re.match(r"blocks\.(\d+)\.", parameter)
        if block:
            expected = decay ** (depth - int(block[1]))
        elif parameter.startswith(("patch_embed", "pos_embed", "cls_token")):
            expected = decay ** (depth + 1)
        else:
            expected = 1.0
        assert group["lr_scale"] == pytest.approx(expected), parameter
    assert f"blocks.{depth - 1}.norm1.weight" in groups
    assert base == cfg.SOLVER.BASE_LR
    assert cfg.SOLVER.CLIP_GRAD_L2NORM == 5.0
    assert cfg.MVIT.USE_MEAN_POOLING and cfg.MVIT.HEAD_INIT_SCALE == 0.001


def test_kinetics_augmentation_is_the_published_one() -> None:
    cfg = published("K400_MVITv2_S_16x4")
    augmentation, mixup = augmentation_from_config(cfg), mixup_from_config(cfg)
    assert augmentation.rand_augment == RandAugment(7, 4, 0.5, 0.5, True)
    assert augmentation.interpolation == "bicubic"
    erasing = augmentation.erasing
    assert (erasing.probability, erasing.mode, erasing.count) == (0.25, "pixel", 1)
    assert (mixup.alpha, mixup.cutmix_alpha) == (0.8, 1.0)
    assert (mixup.probability, mixup.switch_probability, mixup.mode) == (1.0, 0.5, "batch")
    assert cfg.MIXUP.LABEL_SMOOTH_VALUE == 0.1 and cfg.AUG.NUM_SAMPLE == 2
    assert cfg.DATA.TRAIN_JITTER_SCALES_RELATIVE == [0.08, 1.0]
    assert cfg.DATA.TRAIN_JITTER_ASPECT_RELATIVE == [0.75, 1.3333]
    assert cfg.SOLVER.CLIP_GRAD_L2NORM == 1.0 and cfg.MVIT.DROPPATH_RATE == 0.2


def test_our_kinetics_config_is_the_same_recipe() -> None:
    ours = load_config("configs/K400/MVITv2_S_16x4.yaml", ["TRAIN.BATCH_SIZE", "256"])
    theirs = published("K400_MVITv2_S_16x4", "TRAIN.BATCH_SIZE", 256)
    for epoch in (0, 0.5, 15, 30, 72.5, 115, 199.9):
        assert rate(ours, epoch) == pytest.approx(rate(theirs, epoch)), epoch
    for section in ("AUG", "MIXUP"):
        assert ours[section] == theirs[section]
    for key in ("WEIGHT_DECAY", "BETAS", "CLIP_GRAD_L2NORM", "OPTIMIZING_METHOD", "MAX_EPOCH"):
        assert ours.SOLVER[key] == theirs.SOLVER[key], key
