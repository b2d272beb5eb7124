"""tools/benchmark.py on models and files so small that only the report is worth reading."""

from __future__ import annotations

import json

import pytest


@pytest.mark.slow
def test_a_model_against_pytorchvideo(run_tool, tiny_config, tmp_path):
    done = run_tool(
        "benchmark.py", "model", "--cfg", tiny_config, "--against", "pytorchvideo", "--rounds", 2,
        "--json", tmp_path / "result.json", "MVIT.SEP_POS_EMBED", "True",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "pytorchvideo takes" in done.stdout
    result = json.loads((tmp_path / "result.json").read_text())
    for candidate in ("mvit_video", "pytorchvideo"):
        numbers = result["candidates"][candidate]
        assert numbers["clips_per_second"] == pytest.approx(1000 / numbers["ms_per_clip"])
        assert 0 < numbers["share_of_matmul_peak"] < 1
        assert numbers["pass_memory_mib"] < numbers["peak_memory_mib"]
    assert result["ratios"]["pytorchvideo"]["time"] > 0


FAMILY = [
    "MODEL.MODEL_NAME", "CloFormer", "CLOFORMER.VARIANT", "CLOFORMER_TINY", "DATA.NUM_FRAMES", 8,
    "DATA.TRAIN_CROP_SIZE", 64, "DATA.TRAIN_JITTER_SCALES", "[64,64]",
]  # fmt: skip


@pytest.mark.slow
def test_a_clip_against_images(run_tool, tiny_config):
    done = run_tool(
        "benchmark.py", "model", "--cfg", tiny_config, "--against", "image", "--training",
        "--rounds", 1, "--opts", *FAMILY,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "image takes" in done.stdout
    assert "the multiply-adds per second of image" in done.stdout


def test_depthwise_convolutions_alone(run_tool, tiny_config):
    done = run_tool(
        "benchmark.py", "depthwise", "--cfg", tiny_config, "--against", "conv3d",
        "--against", "none", "--training", "--rounds", 1, "--opts", *FAMILY,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "convolutions 12," in done.stdout  # two in each of six blocks
    assert "conv3d takes" in done.stdout and "none takes" in done.stdout


def test_the_loader_against_another_reader(run_tool, tiny_config):
    done = run_tool(
        "benchmark.py", "loader", "--cfg", tiny_config, "--against", "pyav", "--rounds", 2,
        "--opts", "DATA_LOADER.NUM_WORKERS", 1,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "clips per round 12, rounds 2, workers 1" in done.stdout
    assert "pyav takes" in done.stdout


@pytest.mark.slow
def test_the_loader_on_a_folder_against_other_ways_to_the_same(run_tool, tiny_config):
    videos = ("--videos", tiny_config.parent, "--rounds", 1)
    done = run_tool(
        "benchmark.py", "loader", "--cfg", tiny_config, *videos, "--against", "bare",
        "--against", "copies", "--against", "encoded_video", "--batches", 1,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for name in ("bare", "copies", "encoded_video"):
        assert f"{name} takes" in done.stdout
    done = run_tool(
        "benchmark.py", "loader", "--cfg", tiny_config, *videos, "--views", "--against", "per_view"
    )
    assert done.returncode == 0, done.stderr
    assert f"clips per round {23 * 3}, rounds 1" in done.stdout and "per_view takes" in done.stdout


def test_augmentation_against_pillow(run_tool, tiny_config):
    done = run_tool(
        "benchmark.py", "augmentation", "--cfg", tiny_config, "--against", "pillow",
        "--rounds", 1, "AUG.ENABLE", True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "pillow takes" in done.stdout


def test_what_cannot_be_compared_is_refused(run_tool, tiny_config):
    done = run_tool(
        "benchmark.py", "model", "--cfg", tiny_config, "--against", "pytorchvideo",
        "MVIT.RESIDUAL_POOLING", "True", "MVIT.REL_POS_SPATIAL", "True",
    )  # fmt: skip
    assert done.returncode == 2
    assert "pytorchvideo does not have this model" in done.stderr
    assert "Traceback" not in done.stderr
