"""SlowFast's YAMLs through --cfg, as they are. The files in tests/fixtures/slowfast hold its keys and values."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mvit_video import build_model, load_config
from mvit_video.errors import InputError
from mvit_video.models.mvit_presets import PRESETS
from mvit_video.models.mvit_spec import spec_from_config

FOLDER = Path(__file__).parent.parent / "fixtures" / "slowfast"
# Exact parameter counts of ../shared/reference/mvit.md 1.9, and the preset each file describes.
FILES = {
    "K400_MVIT_B_16x4_CONV": (36_610_672, "MVIT_B_16x4"),
    "K400_MVIT_B_32x3_CONV": (53_115_280, "MVIT_B24_32x3"),
    "K400_MVITv2_S_16x4": (34_537_744, "MVITv2_S_16x4"),
    "K400_MVITv2_B_32x3": (51_230_128, "MVITv2_B_32x3"),
    "K400_MVITv2_L_40x3_test": (213_390_112, "MVITv2_L_40x3"),
    "SSv2_MVITv2_S_16x4": (34_363_950, "MVITv2_S_16x4"),
    "SSv2_MVITv2_B_32x3": (51_056_334, "MVITv2_B_32x3"),
    "SSv2_MVITv2_L_40x3": (213_129_534, "MVITv2_L_40x3"),
    "IN1K_MVIT_B_16_CONV": (36_982_600, "IN1K_MVIT_B"),
    "IN1K_MVITv2_T": (24_173_320, "IN1K_MVITv2_T"),
    "IN1K_MVITv2_S": (34_870_216, "IN1K_MVITv2_S"),
    "IN1K_MVITv2_B": (None, "IN1K_MVITv2_B"),
    "masked_ssl_MVITv2_S_16x4_FT": (36_475_120, "MASKFEAT_S_16x4"),
    "masked_ssl_MVITv2_L_16x4_FT": (217_578_064, "MASKFEAT_L_16x4"),
    "masked_ssl_VIT_B_16x4_FT": (86_702_224, "VIT_B_16x4"),
}


def _write(folder: Path, text: str) -> Path:
    path = folder / "slowfast.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", FILES)
def test_every_released_file_builds_its_model(name: str) -> None:
    parameters, preset = FILES[name]
    cfg = load_config(FOLDER / f"{name}.yaml")
    with torch.device("meta"):
        model = build_model(cfg)
    if parameters:
        assert sum(p.numel() for p in model.parameters()) == parameters
    assert [b.thw for b in model.spec.blocks] == [b.thw for b in PRESETS[preset].blocks]
    same = ("pool_q", "pool_kv", "relative_rows", "num_heads", "dim_out")
    for block, published in zip(model.spec.blocks, PRESETS[preset].blocks, strict=True):
        assert all(getattr(block, field) == getattr(published, field) for field in same)
    assert model.spec.mean_pooling == PRESETS[preset].mean_pooling


def test_rates_for_one_node_are_converted_and_the_conversion_is_said(caplog) -> None:
    cfg = load_config(FOLDER / "K400_MVITv2_S_16x4.yaml")
    assert cfg.SOLVER.REFERENCE_BATCH_SIZE == 32 and cfg.SOLVER.BASE_LR == 1e-4
    assert (
        "TRAIN.BATCH_SIZE 16 x AUG.NUM_SAMPLE 2 clips, SOLVER.REFERENCE_BATCH_SIZE 32"
        in caplog.text
    )


def test_a_file_of_ours_that_states_a_rate_alone_follows_the_same_convention(
    tmp_path, caplog
) -> None:
    file = _write(tmp_path, "SOLVER:\n  BASE_LR: 0.01\nTRAIN:\n  BATCH_SIZE: 24\n")
    cfg = load_config(file)
    assert cfg.SOLVER.REFERENCE_BATCH_SIZE == 24
    assert "REFERENCE_BATCH_SIZE 24" in caplog.text
    assert cfg.SOLVER.OPTIMIZING_METHOD == "adamw", (
        "only SlowFast's own files get SlowFast's defaults"
    )
    file.write_text("SOLVER:\n  BASE_LR: 0.01\n  REFERENCE_BATCH_SIZE: 512\n")
    assert load_config(file).SOLVER.REFERENCE_BATCH_SIZE == 512


def test_rates_that_slowfast_does_not_scale_are_used_as_they_stand(tmp_path) -> None:
    text = (FOLDER / "K400_MVITv2_S_16x4.yaml").read_text()
    text = text.replace("BASE_LR_SCALE_NUM_SHARDS: True", "BASE_LR_SCALE_NUM_SHARDS: False")
    assert load_config(_write(tmp_path, text)).SOLVER.REFERENCE_BATCH_SIZE == 0


def test_keys_without_meaning_are_listed_in_one_line(caplog) -> None:
    load_config(FOLDER / "SSv2_MVITv2_S_16x4.yaml")
    lines = [record.getMessage() for record in caplog.records]
    (line,) = [line for line in lines if "without meaning here" in line]
    for key in ("PREFETCH.NUM_LOADERS", "MODEL.ARCH", "DATA.DECODING_BACKEND", "NUM_SHARDS"):
        assert key in line


def test_a_key_that_stands_twice_counts_as_slowfast_counts_it(caplog) -> None:
    cfg = load_config(FOLDER / "SSv2_MVITv2_L_40x3.yaml")
    assert cfg.MVIT.POOL_KV_STRIDE_ADAPTIVE == [1, 8, 8]
    assert "key 'POOL_KV_STRIDE_ADAPTIVE' stands twice, in line" in caplog.text


def test_what_the_file_leaves_out_means_what_it_means_in_slowfast() -> None:
    cfg = load_config(FOLDER / "K400_MVIT_B_16x4_CONV.yaml")
    assert cfg.TEST.NUM_ENSEMBLE_VIEWS == 10
    assert cfg.TEST.BATCH_SIZE == 6, "64 clips are 6 videos of 10 views"
    assert cfg.NUM_GPUS == -1 and cfg.NUM_SHARDS == 1


def test_ssv2_is_fed_as_slowfast_feeds_it() -> None:
    """BGR frames, normalised in that order, then reversed: RGB with the statistics reversed."""
    cfg = load_config(FOLDER / "SSv2_MVITv2_L_40x3.yaml")
    assert cfg.DATA.REVERSE_INPUT_CHANNEL is False
    assert cfg.DATA.MEAN == [0.406, 0.456, 0.485] and cfg.DATA.STD == [0.225, 0.224, 0.229]
    assert cfg.DATA.INV_UNIFORM_SAMPLE is True


def test_lists_of_clip_numbers_and_lone_nones_are_understood() -> None:
    cfg = load_config(FOLDER / "masked_ssl_VIT_B_16x4_FT.yaml")
    assert cfg.TEST.NUM_ENSEMBLE_VIEWS == 10 and cfg.TEST.NUM_SPATIAL_CROPS == 3
    assert cfg.AUG.COLOR_JITTER == 0.0
    assert cfg.SOLVER.LAYER_DECAY == 0.65, "the second of two"


def test_mixed_precision_becomes_a_named_format(tmp_path) -> None:
    text = (FOLDER / "K400_MVITv2_S_16x4.yaml").read_text()
    text = text.replace("AUTO_RESUME: True", "AUTO_RESUME: True, MIXED_PRECISION: True")
    assert load_config(_write(tmp_path, text)).TRAIN.PRECISION == "float16"


def test_smoothing_belongs_to_mixing(tmp_path) -> None:
    text = (FOLDER / "K400_MVITv2_S_16x4.yaml").read_text()
    file = _write(tmp_path, text.replace("MIXUP: {ENABLE: True", "MIXUP: {ENABLE: False"))
    assert load_config(FOLDER / "K400_MVITv2_S_16x4.yaml").MIXUP.LABEL_SMOOTH_VALUE == 0.1
    assert load_config(file).MIXUP.LABEL_SMOOTH_VALUE == 0.0


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("ARCH: mvit", "ARCH: slowfast", r"MODEL\.ARCH is 'slowfast'"),
        ('NORM: "layernorm"', 'NORM: "batchnorm"', r"MVIT\.NORM is 'batchnorm'"),
        ("LR_POLICY: cosine", "LR_POLICY: steps_with_relative_lrs", r"SOLVER\.LR_POLICY"),
        (
            "USE_OFFSET_SAMPLING: True",
            "USE_OFFSET_SAMPLING: False",
            r"USE_OFFSET_SAMPLING is False",
        ),
        ("TRAIN: {", "TASK: ssl\nTRAIN: {", r"TASK is 'ssl', self-supervised"),
        ("TRAIN: {", "DETECTION: {ENABLE: True}\nTRAIN: {", r"DETECTION\.ENABLE is True"),
        ("TRAIN: {", "TRAIN: {SHUFFLE_BACKWARDS: True, ", r"unknown key TRAIN\.SHUFFLE_BACKWARDS"),
    ],
)
def test_what_cannot_be_honoured_is_refused(
    tmp_path, before: str, after: str, message: str
) -> None:
    text = (FOLDER / "K400_MVITv2_S_16x4.yaml").read_text()
    assert before in text
    with pytest.raises(InputError, match=message):
        load_config(_write(tmp_path, text.replace(before, after)))


def test_the_command_line_comes_after(tmp_path) -> None:
    cfg = load_config(
        FOLDER / "K400_MVITv2_S_16x4.yaml", ["TRAIN.BATCH_SIZE", "256", "NUM_GPUS", "4"]
    )
    assert cfg.TRAIN.BATCH_SIZE == 256 and cfg.NUM_GPUS == 4
    assert cfg.SOLVER.REFERENCE_BATCH_SIZE == 32, "so the rate becomes 16 times as large"


def test_the_resolved_config_reads_back_as_ours(tmp_path, caplog) -> None:
    cfg = load_config(FOLDER / "SSv2_MVITv2_L_40x3.yaml")
    caplog.clear()
    again = load_config(_write(tmp_path, cfg.dump()))
    assert again == cfg and not caplog.records
    assert spec_from_config(again) == spec_from_config(cfg)
