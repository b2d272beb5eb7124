"""Parameters and multiply-adds of the published variants, as images and as 16-frame clips.

Expected: `../shared/reference/families.md`, 4.2 and 6.4, 1000 classes, Dual-ViT with its auxiliary head.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mvit_video.build import build_model
from mvit_video.config import load_config
from mvit_video.models import REGISTRY
from mvit_video.models.cost import count_multiply_adds, count_parameters
from mvit_video.resources import configs_dir
from tests.models.inflation import VARIANTS

# name: parameters of the image model; of the video model, in millions; its multiply-adds at 16 x 224 x 224, in 10^9
EXPECTED = {
    "DUALVIT_S": (25_054_000, 25.113, 58.8),
    "DUALVIT_B": (42_627_024, 42.727, 104.9),
    "DUALVIT_L": (72_966_544, 73.119, 193.6),
    "MPVIT_T": (5_843_736, 5.857, 13.3),
    "MPVIT_XS": (10_573_448, 10.588, 23.8),
    "MPVIT_S": (22_892_400, 22.908, 38.3),
    "MPVIT_B": (74_845_976, 74.874, 131.5),
    "CLOFORMER_XXS": (4_166_728, 4.191, 6.4),
    "CLOFORMER_XS": (7_172_216, 7.205, 11.5),
    "CLOFORMER_S": (12_345_576, 12.389, 19.5),
}
every_variant = pytest.mark.parametrize("name", EXPECTED)


def on_meta(name: str, **changes):
    family = REGISTRY[VARIANTS[name.removeprefix("IN1K_")]]
    if VARIANTS[name.removeprefix("IN1K_")] == "DualViT":
        changes["aux_head"] = True
    with torch.device("meta"):
        return family.model(replace(family.presets[name], num_classes=1000, **changes)).eval()


@every_variant
def test_the_image_model_has_the_published_parameters(name):
    assert count_parameters(on_meta(f"IN1K_{name}")) == EXPECTED[name][0]


@every_variant
def test_the_video_model_adds_only_its_kernels_along_time(name):
    video = on_meta(name)
    assert round(count_parameters(video) / 1e6, 3) == EXPECTED[name][1]
    taps = sum(p.numel() for key, p in video.named_parameters() if key.endswith("taps"))
    stem = next(p for p in video.stem.parameters() if p.ndim == 5)
    assert count_parameters(video) == EXPECTED[name][0] + taps + stem.numel() * 2 // 3


@every_variant
def test_a_clip_costs_the_published_multiply_adds(name):
    counted = count_multiply_adds(on_meta(name), (1, 3, 16, 224, 224))
    assert counted / 1e9 == pytest.approx(EXPECTED[name][2], rel=0.01)


@pytest.mark.parametrize(
    ("name", "thousands"), [("DUALVIT_S", 295), ("MPVIT_T", 67), ("CLOFORMER_XXS", 482)]
)
def test_full_kernels_add_many_times_what_taps_add(name, thousands):
    full, none = (on_meta(name, depthwise_time=time) for time in ("full", "none"))
    assert round((count_parameters(full) - count_parameters(none)) / 1000) == thousands


CONFIGS = sorted(
    path
    for folder in ("K400", "SSv2", "IN1K")
    for path in (configs_dir() / folder).glob("*.yaml")
    if path.stem.removesuffix("_16x4") in EXPECTED
)


def test_every_variant_has_its_configs():
    found = {(path.parent.name, path.stem) for path in CONFIGS}
    assert {("K400", f"{name}_16x4") for name in EXPECTED} <= found
    assert {("IN1K", name) for name in EXPECTED} <= found
    assert {("SSv2", f"{name}_16x4") for name in ("DUALVIT_S", "MPVIT_S", "CLOFORMER_S")} <= found


@pytest.mark.parametrize("path", CONFIGS, ids=[f"{p.parent.name}/{p.stem}" for p in CONFIGS])
def test_a_shipped_config_is_its_preset(path):
    with torch.device("meta"):
        spec = build_model(load_config(str(path))).spec
    name = path.stem.removesuffix("_16x4")
    presets = REGISTRY[VARIANTS[name]].presets
    if path.parent.name == "IN1K":
        assert spec == presets[f"IN1K_{name}"]
    else:
        classes = {"K400": 400, "SSv2": 174}[path.parent.name]
        assert spec == replace(presets[name], num_classes=classes, dropout_rate=0.5)
