"""Crops and resizes against SlowFast's arithmetic and numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mvit_video.data.spatial import (
    Box,
    TrainCrop,
    crop_and_resize,
    crop_corners,
    inception_box,
    resize,
    scaled_size,
    short_side_jitter_box,
)

sides = st.integers(40, 500)


def pictures(height: int, width: int, count: int = 2) -> torch.Tensor:
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.integers(0, 256, (count, height, width, 3), dtype=np.uint8))


def bilinear(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear sampling at pixel centres without antialiasing, in float64."""

    def taps(out: int, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        position = np.clip((np.arange(out) + 0.5) * size / out - 0.5, 0, None)
        low = np.minimum(np.floor(position).astype(int), size - 1)
        return low, np.minimum(low + 1, size - 1), np.clip(position - low, 0, 1)

    picture = picture.astype(np.float64)
    low, high, share = taps(height, picture.shape[0])
    rows = picture[low] * (1 - share)[:, None, None] + picture[high] * share[:, None, None]
    low, high, share = taps(width, picture.shape[1])
    return rows[:, low] * (1 - share)[None, :, None] + rows[:, high] * share[None, :, None]


@pytest.mark.parametrize("size", [(33, 57), (80, 120), (224, 224)])
def test_resize_is_bilinear_within_one_level(size: tuple[int, int]) -> None:
    frames = pictures(61, 97)
    scaled = resize(frames, *size).numpy()
    expected = np.stack([bilinear(frame, *size) for frame in frames.numpy()])
    assert scaled.dtype == np.uint8 and scaled.shape == (2, *size, 3)
    assert abs(scaled - expected).max() <= 1.01
    assert abs(scaled - expected).mean() < 0.5


def test_a_crop_is_cut_before_it_is_resized() -> None:
    frames = pictures(60, 90)
    box = Box(top=7, left=20, height=31, width=44)
    assert torch.equal(crop_and_resize(frames, box, 48), resize(frames[:, 7:38, 20:64], 48, 48))
    whole = Box(0, 0, 60, 90)
    assert torch.equal(crop_and_resize(frames, whole, 60), resize(frames, 60, 60))


@given(height=sides, width=sides, seed=st.integers(0, 999))
def test_inception_boxes_keep_area_aspect_and_frame(height: int, width: int, seed: int) -> None:
    area, aspect = (0.08, 1.0), (3 / 4, 4 / 3)
    box = inception_box(height, width, area, aspect, np.random.default_rng(seed))
    assert 0 <= box.top <= height - box.height and 0 <= box.left <= width - box.width
    # A box is whole pixels: allow half a pixel on either side.
    assert (box.width - 1) / (box.height + 1) < 4 / 3 and (box.width + 1) / (box.height - 1) > 3 / 4
    assert (box.width + 1) * (box.height + 1) >= 0.08 * height * width


def test_inception_areas_are_uniform() -> None:
    rng = np.random.default_rng(0)
    boxes = [inception_box(256, 256, (0.08, 0.5), (0.75, 1.3333), rng) for _ in range(4000)]
    shares = np.array([box.height * box.width for box in boxes]) / 256**2
    histogram, _ = np.histogram(shares, bins=6, range=(0.08, 0.5))
    assert (abs(histogram - 4000 / 6) < 110).all()
    ratios = np.log([box.width / box.height for box in boxes])
    assert abs(ratios.mean()) < 0.01


def test_frames_too_long_for_any_box_give_the_largest_centred_one() -> None:
    box = inception_box(50, 1000, (0.9, 1.0), (0.75, 1.3333), np.random.default_rng(0))
    assert box == Box(top=0, left=(1000 - 67) // 2, height=50, width=67)


@given(height=sides, width=sides, seed=st.integers(0, 999))
def test_jittered_crops_are_squares_inside_the_frame(height: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    box = short_side_jitter_box(height, width, 224, (256, 320), rng)
    assert box.height == box.width
    assert 224 / 320 - 0.02 < box.height / min(height, width) < 224 / 256 + 0.02
    assert 0 <= box.top <= height - box.height and 0 <= box.left <= width - box.width


def test_a_jittered_crop_shows_what_scaling_first_would_show() -> None:
    frames = torch.arange(320).repeat(256, 1)[None, :, :, None].expand(1, 256, 320, 3)
    frames = (frames * 0.75).to(torch.uint8)
    scaled = resize(frames, *scaled_size(256, 320, 288))
    box = short_side_jitter_box(256, 320, 224, (288, 288), np.random.default_rng(3))
    assert box.height == round(224 * 256 / 288)
    left = round(box.left * 288 / 256)
    expected = scaled[:, :224, left : left + 224]
    assert (crop_and_resize(frames, box, 224).int() - expected.int()).abs().max() <= 1


def test_half_of_the_clips_are_mirrored_where_asked() -> None:
    rng = np.random.default_rng(0)
    crop = TrainCrop(32, (40, 60), None, (0.75, 1.3333), flip=True)
    flips = sum(crop.draw(64, 80, rng)[1] for _ in range(1000))
    assert 440 < flips < 560
    still = TrainCrop(32, (40, 60), (0.5, 1.0), (0.75, 1.3333), flip=False)
    assert not any(still.draw(64, 80, rng)[1] for _ in range(100))


@pytest.mark.parametrize(("height", "width"), [(256, 340), (340, 256), (256, 256), (240, 427)])
def test_sizes_and_crops_are_slowfasts(height: int, width: int) -> None:
    # short_side_scale_jitter and uniform_crop of slowfast/datasets/transform.py
    long_side = math.floor(max(height, width) / min(height, width) * 224)
    new = (long_side, 224) if width < height else (224, long_side)
    assert scaled_size(height, width, 224) == new
    corners = []
    for spatial in range(3):
        y, x = math.ceil((new[0] - 180) / 2), math.ceil((new[1] - 180) / 2)
        if new[0] > new[1]:
            y = (0, y, new[0] - 180)[spatial]
        else:
            x = (0, x, new[1] - 180)[spatial]
        corners.append([y, x])
    assert crop_corners(*new, 180, 3).tolist() == corners
    assert crop_corners(*new, 180, 1).tolist() == [corners[1]]
