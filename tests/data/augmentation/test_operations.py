"""Every operation against Pillow, which the published recipes use frame by frame, and torchvision."""

from __future__ import annotations

from importlib.util import find_spec
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from mvit_video.data.augmentation.operations import OPERATIONS, apply_operations
from mvit_video.data.augmentation.randaugment import Operation
from tests.reference.pillow_operations import pillow


def picture_clip(height: int, width: int, frames: int = 3, seed: int = 0) -> Tensor:
    """(3, T, H, W): soft colours with some noise, darker from frame to frame, flat in a corner."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (frames, -(-height // 8), -(-width // 8), 3))
    fine = coarse.repeat(8, axis=1).repeat(8, axis=2)[:, :height, :width]
    clip = np.clip(fine + rng.integers(-20, 20, fine.shape), 3, 250)
    clip[:, : height // 3, : width // 3] = 77
    clip[1] = clip[1] * 0.6
    return torch.from_numpy(clip.astype(np.uint8)).permute(3, 0, 1, 2)


def through_pillow(clip: Tensor, name: str, value: float, interpolation: str) -> Tensor:
    frames = clip.permute(1, 2, 3, 0).numpy()
    done = [np.asarray(pillow(Image.fromarray(f), name, value, interpolation)) for f in frames]
    return torch.from_numpy(np.stack(done)).permute(3, 0, 1, 2)


EXACT = {
    "AutoContrast": [0], "Equalize": [0], "Invert": [0], "Posterize": [1, 2, 4, 8],
    "Solarize": [0, 1, 77, 128, 255, 256], "SolarizeAdd": [0, 1, 76, 110],
    "Color": [0.1, 0.37, 1.0, 1.63, 1.9], "Contrast": [0.1, 0.37, 1.0, 1.63, 1.9],
    "Brightness": [0.1, 0.37, 1.0, 1.63, 1.9], "Sharpness": [0.1, 0.37, 1.0, 1.63, 1.9],
}  # fmt: skip
GEOMETRIC = {
    "Rotate": [-30, -21.3, 0.4, 11], "ShearX": [-0.3, 0.21], "ShearY": [-0.21, 0.3],
    "TranslateX": [-0.45, 0.317, 0.0], "TranslateY": [0.45, -0.02],
}  # fmt: skip
SIZES = [(64, 64), (50, 83)]


def test_every_operation_is_held_against_pillow_here() -> None:
    assert {*EXACT, *GEOMETRIC} == set(OPERATIONS)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("name", "value"), [(n, v) for n, values in EXACT.items() for v in values])
def test_color_operations_equal_pillow_bit_by_bit(name: str, value: float, size: tuple) -> None:
    clip = picture_clip(*size)
    expected = through_pillow(clip, name, value, "bicubic")
    assert torch.equal(apply_operations(clip, [Operation(name, value)], "bicubic"), expected)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("name", "value"), [(n, v) for n, values in GEOMETRIC.items() for v in values]
)
def test_geometric_operations_equal_pillow_to_rounding(
    name: str, value: float, size: tuple, interpolation: str
) -> None:
    clip = picture_clip(*size)
    expected = through_pillow(clip, name, value, interpolation)
    found = apply_operations(clip, [Operation(name, value)], interpolation)
    difference = (found.int() - expected.int()).abs()
    # Pillow's double and our single precision may fall on either side of a whole number, where fractions are cut.
    assert difference.max() <= 1
    assert (difference > 0).float().mean() < 0.08


def test_flat_and_extreme_frames_keep_their_values() -> None:
    for level in (0, 128, 255):
        clip = torch.full((3, 2, 20, 24), level, dtype=torch.uint8)
        for name in ("AutoContrast", "Equalize", "Sharpness", "Contrast", "Color"):
            found = apply_operations(clip, [Operation(name, 1.7)], "bicubic")
            assert torch.equal(found, through_pillow(clip, name, 1.7, "bicubic")), (name, level)
    inside = apply_operations(clip // 2, [Operation("Rotate", 12.0)], "bicubic")
    assert set(inside.unique().tolist()) <= {127, 128}


def test_zero_bits_leave_black() -> None:
    assert apply_operations(picture_clip(8, 8), [Operation("Posterize", 0)], "bicubic").max() == 0


def test_every_frame_is_treated_as_if_it_were_alone() -> None:
    clip = picture_clip(40, 48, frames=6)
    for name, values in {**EXACT, **GEOMETRIC}.items():
        operation = [Operation(name, values[-1])]
        alone = [apply_operations(frame, operation, "bicubic") for frame in clip.split(1, dim=1)]
        assert torch.equal(apply_operations(clip, operation, "bicubic"), torch.cat(alone, 1)), name


def test_operations_are_applied_in_order_and_leave_their_input_alone() -> None:
    clip = picture_clip(40, 48)
    before = clip.clone()
    operations = [Operation("Invert"), Operation("Solarize", 100), Operation("ShearX", 0.2)]
    stepwise = clip
    for operation in operations:
        stepwise = apply_operations(stepwise, [operation], "bilinear")
    assert torch.equal(apply_operations(clip, operations, "bilinear"), stepwise)
    assert torch.equal(clip, before)
    assert not torch.equal(stepwise, apply_operations(clip, operations[::-1], "bilinear"))


@pytest.fixture(scope="module")
def torchvision() -> ModuleType:
    """torchvision's tensor functions, where it is installed, also next to a torch that its binary does not fit."""
    if find_spec("torchvision") is None:
        pytest.skip("torchvision is not installed")
    for name in (
        "nms",
        "qnms",
    ):  # its Python part wants these declared, and nothing here calls them
        if not hasattr(torch.ops.torchvision, name):
            torch.library.define(f"torchvision::{name}", "(Tensor a, Tensor b, float c) -> Tensor")
    from torchvision.transforms.v2 import functional

    return functional


@pytest.mark.parametrize(
    ("name", "value", "function"),
    [
        ("Invert", 0, lambda tv, x: tv.invert(x)),
        ("Posterize", 2, lambda tv, x: tv.posterize(x, 2)),
        ("Solarize", 100, lambda tv, x: tv.solarize(x, 100.0)),
        ("Equalize", 0, lambda tv, x: tv.equalize(x)),
        ("AutoContrast", 0, lambda tv, x: tv.autocontrast(x)),
        ("Brightness", 1.6, lambda tv, x: tv.adjust_brightness(x, 1.6)),
        ("Color", 0.4, lambda tv, x: tv.adjust_saturation(x, 0.4)),
        ("Contrast", 1.6, lambda tv, x: tv.adjust_contrast(x, 1.6)),
        ("Sharpness", 1.6, lambda tv, x: tv.adjust_sharpness(x, 1.6)),
    ],
)
def test_color_operations_agree_with_torchvision(
    name: str, value: float, function, torchvision: ModuleType
) -> None:
    clip = picture_clip(50, 64)
    expected = function(torchvision, clip.transpose(0, 1)).transpose(0, 1)  # it takes (T, 3, H, W)
    found = apply_operations(clip, [Operation(name, value)], "bilinear")
    # torchvision neither rounds the mean grey nor the smoothed frame before it blends.
    assert (found.int() - expected.int()).abs().max() <= (
        2 if name in ("Contrast", "Sharpness") else 1
    )


def test_rotation_agrees_with_torchvision(torchvision: ModuleType) -> None:
    clip = picture_clip(64, 64)
    expected = torchvision.rotate(
        clip.transpose(0, 1),
        17.0,
        interpolation=torchvision.InterpolationMode.BILINEAR,
        fill=[128.0] * 3,
    ).transpose(0, 1)
    found = apply_operations(clip, [Operation("Rotate", 17.0)], "bilinear")
    inner = (found.int() - expected.int()).abs()[
        ..., 20:44, 20:44
    ]  # edges are filled in another way
    assert inner.max() <= 2
