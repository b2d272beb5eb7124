"""tools/metrics.py recomputes what a test wrote."""

from __future__ import annotations

import json

import numpy as np

from mvit_video.evaluate.metrics import compute_metrics
from mvit_video.evaluate.predictions import Predictions, save


def part(positions: list[int]) -> Predictions:
    scores = [np.random.default_rng(i).dirichlet(np.ones(6), 3) for i in positions]
    return Predictions(
        video_id=tuple(f"video {i}" for i in positions),
        index=np.array(positions),
        label=np.array([i % 6 for i in positions]),
        scores=np.array(scores, dtype=np.float32),
        view=np.array([[0, 0], [1, 0], [2, 0]]),
        num_videos=20,
    )


def test_the_whole_and_its_parts_give_the_same_metrics(run_tool, tmp_path):
    save(part(list(range(20))), tmp_path / "whole.npz")
    save(part(list(range(0, 20, 2))), tmp_path / "even.npz")
    save(part(list(range(1, 20, 2))), tmp_path / "odd.npz")
    printed = run_tool("metrics.py", tmp_path / "whole.npz", "--ensemble", "max")
    assert json.loads(printed.stdout) == compute_metrics(part(list(range(20))), "max")
    written = run_tool(
        "metrics.py",
        "odd.npz",
        "even.npz",
        "--ensemble",
        "max",
        "--output",
        "metrics.json",
        cwd=tmp_path,
    )
    assert written.returncode == 0, written.stderr
    assert (tmp_path / "metrics.json").read_text() == printed.stdout


def test_a_missing_part_is_named(run_tool, tmp_path):
    save(part([0, 1]), tmp_path / "part.npz")
    done = run_tool("metrics.py", tmp_path / "part.npz")
    assert done.returncode == 2
    assert "18 of 20 videos are in no part" in done.stderr
    assert "Traceback" not in done.stderr
