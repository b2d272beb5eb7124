"""Boxes that are erased, and the noise in them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mvit_video.data.augmentation.erasing import RandomErasing, erase, normal_noise

CPU = torch.device("cpu")


def test_a_quarter_of_the_clips_lose_a_box_of_published_size_and_shape() -> None:
    erasing = RandomErasing()
    drawn = [erasing.draw(np.random.default_rng(seed), 224, 224) for seed in range(10_000)]
    boxes = [box for some in drawn for box in some]
    assert abs(np.mean([len(some) > 0 for some in drawn]) - 0.25) < 0.015
    area = np.array([h * w for _, _, h, w in boxes]) / 224**2
    aspect = np.array([h / w for _, _, h, w in boxes])
    assert 0.019 < area.min() < 0.03 and 0.32 < area.max() < 0.34
    assert 0.29 < aspect.min() < 0.32 and 3.2 < aspect.max() < 3.4
    assert abs(np.median(np.log(aspect))) < 0.08  # tall and wide alike
    assert abs(area.mean() - (0.02 + 1 / 3) / 2) < 0.01


@given(
    seed=st.integers(0, 2**32),
    height=st.integers(2, 60),
    width=st.integers(2, 60),
    count=st.integers(1, 4),
)
def test_boxes_lie_inside_the_frame(seed: int, height: int, width: int, count: int) -> None:
    erasing = RandomErasing(probability=1.0, count=count)
    boxes = erasing.draw(np.random.default_rng(seed), height, width)
    assert len(boxes) <= count
    for top, left, h, w in boxes:
        assert 0 <= top < top + h <= height and 0 <= left < left + w <= width


def test_pixel_mode_fills_one_box_with_fresh_noise_in_each_frame() -> None:
    clip = torch.full((3, 8, 40, 50), 9.0)
    erase(clip, ((5, 6, 20, 30),), "pixel", key=7)
    region = clip[..., 5:25, 6:36].clone()
    assert abs(region.mean()) < 0.05 and abs(region.std() - 1) < 0.05
    assert (region[:, 0] != region[:, 1]).float().mean() > 0.99
    clip[..., 5:25, 6:36] = 9.0
    assert (clip == 9).all()  # nothing outside of the box


def test_two_boxes_have_noise_of_their_own() -> None:
    clip = torch.zeros(3, 2, 20, 20)
    erase(clip, ((0, 0, 8, 8), (10, 10, 8, 8)), "pixel", key=7)
    assert not torch.equal(clip[..., :8, :8], clip[..., 10:18, 10:18])


def test_rand_and_const_modes() -> None:
    clip = torch.full((3, 8, 40, 50), 9.0)
    erase(clip, ((5, 6, 20, 30),), "rand", key=7)
    region = clip[..., 5:25, 6:36]
    assert torch.equal(region, region[..., :1, :1].expand_as(region))  # one colour
    assert region[..., 0, 0].unique().numel() == 24  # per frame and channel
    erase(clip, ((5, 6, 20, 30),), "const", key=7)
    assert (clip[..., 5:25, 6:36] == 0).all()


def test_noise_is_normal_and_decided_by_its_key_alone() -> None:
    noise = normal_noise(123, 400_001, CPU)
    assert torch.equal(noise, normal_noise(123, 400_001, CPU))
    assert abs(noise.mean()) < 0.006 and abs(noise.std() - 1) < 0.005
    for quantile in (-2.0, -1.0, 0.0, 1.5):
        expected = 0.5 * (1 + math.erf(quantile / 2**0.5))
        assert abs((noise < quantile).float().mean() - expected) < 0.004
    steps = (1, 2, 3, 4, 150)  # neighbours in a row, and a row below
    assert all(abs((noise[:-s] * noise[s:]).mean()) < 0.008 for s in steps)
    for other in (124, 122, 2**63 - 1, 0):
        assert abs((noise[:1000] * normal_noise(other, 1000, CPU)).mean()) < 0.15
        assert not torch.equal(noise[:1000], normal_noise(other, 1000, CPU))


def test_noise_is_that_of_splitmix64() -> None:
    def mix(z: int) -> int:
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
        return z ^ (z >> 31)

    key = 2**62 + 12345
    start = key * 0xD1342543DE82EF95
    words = [mix((i * 0x9E3779B97F4A7C15 + start) % 2**64) for i in range(1, 4)]
    picks = [(word >> shift) & 4095 for word in words for shift in (0, 16, 32, 48)]
    ranks = (torch.special.ndtr(normal_noise(key, 12, CPU).double()) * 4096 - 0.5).round().long()
    assert ranks.tolist() == picks


@pytest.mark.parametrize("count", [0, 1, 5])
def test_any_amount_of_noise_can_be_had(count: int) -> None:
    assert normal_noise(1, count, CPU).shape == (count,)
