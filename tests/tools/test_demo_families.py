"""Dual-ViT, MPViT and CloFormer learn the built-in demo by its real command, read the order of frames, and lose
nothing in bfloat16."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mvit_video.data.demo import write_demo
from tests.conftest import REPOSITORY

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def demo_videos(tmp_path_factory) -> Path:
    """The demo's videos, in one folder for all workers of a test run: what exists is kept."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if base.name.startswith("popen-") else base) / "demo_data"
    write_demo(folder, num_workers=1)
    return folder


@pytest.mark.parametrize("name", ["DUALVIT_TINY", "MPVIT_TINY", "CLOFORMER_TINY"])
def test_a_family_learns_the_demo_and_reads_the_order_of_frames(
    name, demo_videos, run_tool, tmp_path
):
    def top1(folder: str, *words: object) -> float:
        done = run_tool(
            "run_net.py", "--cfg", REPOSITORY / f"configs/demo/{name}_8x4.yaml",
            "OUTPUT_DIR", tmp_path / folder, "DATA.PATH_PREFIX", demo_videos, *words, timeout=900,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads((tmp_path / folder / "test" / "metrics.json").read_text())["top1"]

    exact = top1("trained")
    assert exact >= 90
    weights = max((tmp_path / "trained" / "checkpoints").glob("step_*.pt"))
    test_only = ("TRAIN.ENABLE", "False", "TEST.CHECKPOINT_FILE_PATH", weights)
    assert top1("shuffled", *test_only, "TEST.SHUFFLE_FRAMES", "True") < 60
    # Compiling takes a minute: one family stands for all.
    fast = ("TEST.PRECISION", "bfloat16", "MODEL.COMPILE", name == "DUALVIT_TINY")
    assert abs(top1("fast", *test_only, *fast) - exact) <= 2
