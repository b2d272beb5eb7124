"""The policy string, and what 10,000 draws of the published one look like."""

from __future__ import annotations

import pickle
from collections import Counter

import numpy as np
import pytest

from mvit_video.data.augmentation.operations import OPERATIONS
from mvit_video.data.augmentation.randaugment import INCREASING, PLAIN, RandAugment
from mvit_video.errors import InputError

PUBLISHED = "rand-m7-n4-mstd0.5-inc1"


def test_the_published_string_is_understood() -> None:
    assert RandAugment.parse(PUBLISHED) == RandAugment(7, 4, 0.5, 0.5, True)
    assert RandAugment.parse("rand-inc1-mstd0.5-n4-m7") == RandAugment.parse(PUBLISHED)
    assert RandAugment.parse("rand") == RandAugment(10, 2, 0.5, 0.0, False)
    assert RandAugment.parse("rand-m9-n3-p0.7-inc0") == RandAugment(9, 3, 0.7, 0.0, False)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("augmix-m3", "augmix-m3"),
        ("rand-x3", "'x3'"),
        ("rand-m", "'m'"),
        ("rand-m7-m8", "m comes twice"),
        ("rand-m11", "0 ... 10"),
        ("rand-n2.5", "whole number"),
        ("rand-n0", "1 ... 20"),
        ("rand-p1.5", "0 ... 1"),
        ("rand-m-7", "'m'"),
        ("rand--m7", "''"),
        ("rand-m7 ", "'m7 '"),
    ],
)
def test_a_wrong_string_is_refused_with_the_part_that_is_wrong(text: str, said: str) -> None:
    with pytest.raises(InputError, match=r"AUG\.AA_TYPE") as error:
        RandAugment.parse(text)
    assert said in str(error.value)


@pytest.fixture(scope="module")
def drawn() -> list[tuple]:
    policy = RandAugment.parse(PUBLISHED)
    return [policy.draw(np.random.default_rng(seed)) for seed in range(10_000)]


def test_each_of_four_operations_takes_place_half_of_the_time(drawn: list[tuple]) -> None:
    lengths = np.bincount([len(operations) for operations in drawn], minlength=5) / len(drawn)
    np.testing.assert_allclose(lengths, np.array([1, 4, 6, 4, 1]) / 16, atol=0.015)


def test_the_fifteen_operations_are_equally_frequent(drawn: list[tuple]) -> None:
    counts = Counter(operation.name for operations in drawn for operation in operations)
    assert set(counts) == set(INCREASING) == set(PLAIN) == set(OPERATIONS)
    share = np.array(list(counts.values())) / sum(counts.values())
    np.testing.assert_allclose(share, 1 / 15, atol=0.006)


def test_magnitudes_follow_the_published_levels(drawn: list[tuple]) -> None:
    values = {
        name: np.array([o.value for operations in drawn for o in operations if o.name == name])
        for name in OPERATIONS
    }
    # Unit per magnitude 10 of what has either sign; the deviation is 0.5 of 10, cut at 10.
    for name, unit in {
        "Rotate": 30,
        "ShearX": 0.3,
        "ShearY": 0.3,
        "TranslateX": 0.45,
        "TranslateY": 0.45,
    }.items():
        strength = np.abs(values[name]) / unit * 10
        assert abs(strength.mean() - 7) < 0.06, name
        assert abs(strength.std() - 0.5) < 0.05, name
        assert abs((values[name] > 0).mean() - 0.5) < 0.05, name
    for name in ("Color", "Contrast", "Brightness", "Sharpness"):
        strength = np.abs(values[name] - 1) / 0.9 * 10
        assert abs(strength.mean() - 7) < 0.06, name
        assert abs((values[name] > 1).mean() - 0.5) < 0.05, name
    assert (
        set(values["Posterize"]) <= {1, 2} and abs((values["Posterize"] == 2).mean() - 0.84) < 0.05
    )
    assert abs(values["Solarize"].mean() - (256 - 0.7 * 256)) < 2
    assert abs(values["SolarizeAdd"].mean() - 76.5) < 1


def test_the_plain_set_weakens_posterize_and_solarize_with_magnitude() -> None:
    assert PLAIN["Posterize"](1.0, 1.0).value == 4 and INCREASING["Posterize"](1.0, 1.0).value == 0
    assert PLAIN["Solarize"](1.0, 1.0).value == 256 and INCREASING["Solarize"](1.0, 1.0).value == 0
    assert PLAIN["Color"](0.0, 1.0).value == pytest.approx(0.1)
    assert INCREASING["Color"](0.0, 1.0).value == 1.0


def test_a_probability_or_deviation_leaves_the_choice_of_operations_alone() -> None:
    always = RandAugment.parse("rand-m7-n4-p1").draw(np.random.default_rng(3))
    noisy = RandAugment.parse("rand-m7-n4-p1-mstd2").draw(np.random.default_rng(3))
    assert [o.name for o in always] == [o.name for o in noisy]
    assert RandAugment.parse("rand-p0").draw(np.random.default_rng(3)) == ()


def test_magnitudes_stay_in_their_range_however_large_the_deviation() -> None:
    policy = RandAugment.parse("rand-m10-n20-p1-mstd10-inc1")
    for seed in range(200):
        for name, value in policy.draw(np.random.default_rng(seed)):
            if name == "Rotate":
                assert abs(value) <= 30
            if name == "Posterize":
                assert 0 <= value <= 4


def test_choices_are_plain_and_survive_pickling(drawn: list[tuple]) -> None:
    assert pickle.loads(pickle.dumps(drawn[:50])) == drawn[:50]
    assert all(type(o.value) in (int, float) for operations in drawn[:50] for o in operations)
