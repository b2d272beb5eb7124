"""The whole recipe: choices drawn in the loader, applied on the device."""

from __future__ import annotations

import pickle
from dataclasses import asdict, replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from fvcore.common.config import CfgNode
from torch import Tensor

from mvit_video.data.augmentation import (
    Augmentation,
    ClipChoices,
    augment,
    augmentation_from_config,
    mixup_from_config,
)
from mvit_video.data.augmentation.color import draw_color_jitter
from mvit_video.data.augmentation.erasing import RandomErasing
from mvit_video.data.augmentation.randaugment import RandAugment
from mvit_video.errors import InputError

RECIPE = Augmentation(
    RandAugment.parse("rand-m7-n4-mstd0.5-inc1"), erasing=RandomErasing(probability=0.5)
)


def normalise(clips: Tensor) -> Tensor:
    return (clips.float() / 255 - 0.45) / 0.225


def random_clips(count: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, 4, 40, 48), generator=generator, dtype=torch.uint8)


def draw(seed: int) -> ClipChoices:
    return RECIPE.draw(np.random.default_rng(seed), 40, 48)


def test_the_same_generator_draws_the_same_choices() -> None:
    assert [draw(seed) for seed in range(50)] == [draw(seed) for seed in range(50)]
    assert len({draw(seed) for seed in range(50)}) > 45


def test_choices_are_plain_data() -> None:
    for seed in range(50):
        choices = draw(seed)
        assert pickle.loads(pickle.dumps(choices)) == choices
        assert len(pickle.dumps(choices)) < 2000
        plain = asdict(choices)
        numbers = [v for o in plain["operations"] for v in o[1:]] + [
            v for b in plain["boxes"] for v in b
        ]
        assert all(type(number) in (int, float) for number in numbers)


def test_a_clip_does_not_depend_on_its_batch() -> None:
    clips, choices = random_clips(6), [draw(seed) for seed in range(6)]
    together = augment(clips, choices, normalise)
    for k in (0, 3, 5):
        assert torch.equal(augment(clips[k : k + 1], choices[k : k + 1], normalise)[0], together[k])
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert torch.equal(augment(clips, choices, normalise), together)
    finally:
        torch.set_num_threads(threads)


def test_the_layout_in_memory_does_not_matter() -> None:
    clips, choices = random_clips(4), [draw(seed) for seed in range(10, 14)]
    channels_last = clips.permute(0, 2, 3, 4, 1).contiguous().permute(0, 4, 1, 2, 3)
    assert torch.equal(
        augment(channels_last, choices, normalise), augment(clips, choices, normalise)
    )


def test_no_choices_only_normalise_and_the_input_is_left_alone() -> None:
    clips = random_clips(3)
    before = clips.clone()
    assert torch.equal(augment(clips, [ClipChoices()] * 3, normalise), normalise(clips))
    augment(clips, [draw(seed) for seed in range(3)], normalise)
    assert torch.equal(clips, before)


def test_boxes_are_erased_after_normalisation() -> None:
    choices = replace(ClipChoices(), boxes=((3, 4, 20, 30),), fill="const")
    result = augment(random_clips(1), [choices], normalise)
    assert (result[..., 3:23, 4:34] == 0).all()


def test_color_jitter_takes_each_factor_from_its_range_in_every_order() -> None:
    drawn = [draw_color_jitter(0.4, np.random.default_rng(seed)) for seed in range(3000)]
    factors = np.array([operation.value for some in drawn for operation in some])
    assert 0.6 <= factors.min() < 0.61 and 1.39 < factors.max() <= 1.4
    assert len({tuple(operation.name for operation in some) for some in drawn}) == 6
    strong = [o.value for s in range(200) for o in draw_color_jitter(1.5, np.random.default_rng(s))]
    assert min(strong) >= 0


def config(**changes: object) -> CfgNode:
    cfg = CfgNode({
        "AUG": {"ENABLE": True, "COLOR_JITTER": 0.4, "AA_TYPE": "rand-m7-n4-mstd0.5-inc1", "INTERPOLATION": "bicubic",
                "RE_PROB": 0.25, "RE_MODE": "pixel", "RE_COUNT": 1},
        "MIXUP": {"ENABLE": True, "ALPHA": 0.8, "CUTMIX_ALPHA": 1.0, "PROB": 1.0, "SWITCH_PROB": 0.5, "MODE": "batch"},
    })  # fmt: skip
    for name, value in changes.items():
        section, _, key = name.partition("_")
        cfg[section][key] = value
    return cfg


def test_the_config_gives_the_recipe() -> None:
    recipe = augmentation_from_config(config())
    assert recipe.rand_augment == RandAugment(7, 4, 0.5, 0.5, True)
    assert recipe.erasing == RandomErasing(0.25, "pixel", 1)
    assert augmentation_from_config(config(AUG_ENABLE=False)) == Augmentation()
    assert mixup_from_config(config()).cutmix_alpha == 1.0
    assert mixup_from_config(config(MIXUP_ENABLE=False)) is None
    assert mixup_from_config(config(MIXUP_PROB=0.0)) is None


def test_color_jitter_stands_in_where_there_is_no_policy() -> None:
    names = [
        o.name
        for o in augmentation_from_config(config(AUG_AA_TYPE=""))
        .draw(np.random.default_rng(0), 9, 9)
        .operations
    ]
    assert sorted(names) == ["Brightness", "Color", "Contrast"]


@pytest.mark.parametrize(
    ("name", "value"),
    [("AUG_AA_TYPE", "v0"), ("AUG_COLOR_JITTER", -1.0), ("AUG_RE_PROB", 1.5), ("AUG_RE_COUNT", 0)],
)
def test_an_impossible_setting_is_refused_by_its_name(name: str, value: object) -> None:
    with pytest.raises(InputError, match=name.replace("_", ".", 1)):
        augmentation_from_config(config(**{name: value}))


def test_frames_of_a_clip_are_moved_alike() -> None:
    """Equal frames stay equal whatever is drawn, but for the noise in erased boxes."""
    still = random_clips(1)[:, :, :1].expand(-1, -1, 4, -1, -1)
    for seed in range(40):
        choices = replace(draw(seed), boxes=())
        result = augment(still, [choices], normalise)
        assert all(torch.equal(a, b) for a, b in pairwise(result.unbind(2)))
