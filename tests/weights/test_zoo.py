"""The zoo's computed columns agree with what was measured and published."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import urlparse

import pytest
import torch

from mvit_video import build_model, load_config
from mvit_video.benchmark.zoo import config_header, sizes, zoo_table
from mvit_video.models import REGISTRY
from mvit_video.resources import configs_dir
from mvit_video.weights.zoo import ZOO, Published, weights_url
from tools.zoo import BEGIN, END, REPOSITORY

README = REPOSITORY / "README.md"

# ../shared/reference/mvit.md 1.9: exact parameters, and multiply-adds in 10^9 as measured.
MEASURED = {
    ("MVIT_B_16x4", 400): (36_610_672, 70.60),
    ("MVIT_B_32x3", 400): (36_611_440, 169.96),
    ("MVIT_B_64x3", 400): (36_612_976, 455.06),
    ("MVIT_B24_32x3", 400): (53_115_280, 235.78),
    ("MVIT_B24_32x3", 600): (53_269_080, None),
    ("MVITv2_S_16x4", 400): (34_537_744, 64.22),
    ("MVITv2_B_32x3", 400): (51_230_128, 224.47),
    ("MVITv2_L_40x3", 400): (213_390_112, 2823.40),
    ("MVITv2_S_16x4", 174): (34_363_950, None),
    ("MVITv2_B_32x3", 174): (51_056_334, None),
    ("MVITv2_L_40x3", 174): (213_129_534, 2823.40),
    ("MASKFEAT_S_16x4", 400): (36_475_120, 71.16),
    ("MASKFEAT_L_16x4", 400): (217_578_064, 376.82),
    ("VIT_B_16x4", 400): (86_702_224, 180.49),
    ("IN1K_MVIT_B", 1000): (36_982_600, 7.81),
    ("IN1K_MVITv2_T", 1000): (24_173_320, 4.68),
    ("IN1K_MVITv2_S", 1000): (34_870_216, 6.96),
}


def _name(entry: Published) -> str:
    return f"{entry.preset}-{entry.dataset}-{entry.source}"


@pytest.mark.parametrize(
    "entry",
    [e for e in ZOO if e.published_parameters or (e.preset, e.num_classes) in MEASURED],
    ids=_name,
)
def test_sizes_agree_with_measurement_and_publication(entry: Published) -> None:
    parameters, multiply_adds = sizes(entry)
    exact, work = MEASURED.get((entry.preset, entry.num_classes), (None, None))
    if exact:
        assert parameters == exact
    if work:
        assert multiply_adds / 1e9 == pytest.approx(work, abs=0.006)
    if entry.published_parameters:
        assert parameters / 1e6 == pytest.approx(entry.published_parameters, rel=0.02)
    if entry.published_multiply_adds:
        assert multiply_adds / 1e9 == pytest.approx(entry.published_multiply_adds, rel=0.04)


@pytest.mark.parametrize("entry", [e for e in ZOO if e.config], ids=_name)
def test_the_config_builds_the_model_of_the_zoo(entry: Published) -> None:
    cfg = load_config(entry.config)
    with torch.device("meta"):
        model = build_model(cfg)
    preset = next(f.presets[entry.preset] for f in REGISTRY.values() if entry.preset in f.presets)
    same = replace(
        preset,
        num_classes=entry.num_classes,
        drop_path_rate=model.spec.drop_path_rate,
        dropout_rate=model.spec.dropout_rate,
    )
    assert model.spec == same
    if entry.views:
        crops, clips = map(int, entry.views.split("x"))
        assert (crops, clips) == (cfg.TEST.NUM_SPATIAL_CROPS, cfg.TEST.NUM_ENSEMBLE_VIEWS)


def test_addresses_are_addresses_and_the_first_is_found() -> None:
    urls = [entry.url for entry in ZOO if entry.url]
    assert len(set(urls)) == len(urls)
    assert all(urlparse(url).scheme == "https" for url in urls)
    assert weights_url("MVITv2_S_16x4").endswith("MViTv2_S_16x4_k400_f302660347.pyth")
    assert weights_url("VIT_B_16x4") == ""


@pytest.mark.parametrize("config", sorted({entry.config for entry in ZOO if entry.config}))
def test_a_configs_head_says_what_was_published(config: str) -> None:
    text = (configs_dir().parent / config).read_text(encoding="utf-8")
    assert text.startswith(config_header(config)), "python tools/zoo.py --write"


@pytest.mark.slow
def test_the_table_has_a_line_for_each_model_and_the_readmes_is_not_stale() -> None:
    table = zoo_table()
    lines = table.splitlines()
    assert len(lines) == len(ZOO) + 2
    assert any("| 34.5 M | 64.22 x 1 x 5 | 81.0 | 94.6 |" in line for line in lines)
    text = README.read_text(encoding="utf-8")
    if BEGIN not in text:
        pytest.skip("the README has no table of published models")
    assert text.split(BEGIN)[1].split(END)[0].strip() == table, "python tools/zoo.py --write"


def test_models_that_nobody_published_have_no_accuracy_and_say_so() -> None:
    inflated = [entry for entry in ZOO if entry.source == "inflated here, not trained"]
    assert len(inflated) == 13
    for entry in inflated:
        assert entry.top1 is entry.top5 is None and not entry.url
        assert config_header(entry.config) == ""
