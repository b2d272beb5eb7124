"""The whole pipeline on real files of ../shared/clips: Kinetics, UCF101, HMDB51, Something-Something, codec samples."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import REPOSITORY
from tests.tiny_run import TINY_RUN, overrides

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def clips(shared) -> dict[str, str]:
    """{file name: action} of every clip, from the table in MANIFEST.md."""
    table = (shared / "clips" / "MANIFEST.md").read_text().splitlines()
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in table
        if line.startswith("|")
    ]
    found = {name.strip(): row[3] for row in rows[2:] for name in row[0].split(",")}
    files = {file.name for file in (shared / "clips").iterdir() if file.suffix != ".md"}
    assert found.keys() == files
    return found


def write_lists(folder: Path, clips: dict[str, str], actions: list[str]) -> dict[str, str]:
    """The same list as train.csv, val.csv and test.csv, labels being places in `actions`."""
    folder.mkdir()
    content = "".join(f"{name} {actions.index(action)}\n" for name, action in clips.items())
    for split in ("train", "val", "test"):
        (folder / f"{split}.csv").write_text(content)
    return {"DATA.PATH_TO_DATA_DIR": str(folder)}


def run_net(config: str, keys: dict[str, object]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "tools/run_net.py", "--cfg", config, *overrides(keys)],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=1200,
    )


def test_a_small_model_learns_every_decodable_clip_by_heart(clips, shared, tmp_path):
    actions = sorted(set(clips.values()))
    (tmp_path / "empty.yaml").write_text("")
    keys = {
        **TINY_RUN,
        **write_lists(tmp_path / "lists", clips, actions),
        "DATA.PATH_PREFIX": shared / "clips",
        "OUTPUT_DIR": tmp_path / "output",
        "MODEL.NUM_CLASSES": len(actions),
        "MVIT.EMBED_DIM": 32,
        "DATA.TRAIN_JITTER_SCALES": [32, 32],
        "DATA.RANDOM_FLIP": False,
        "DATA_LOADER.NUM_WORKERS": 2,
        "SOLVER.BASE_LR": 4e-3,
        "SOLVER.REFERENCE_BATCH_SIZE": 14,
        "SOLVER.MAX_EPOCH": 60,
        "SOLVER.WARMUP_EPOCHS": 5,
        "TRAIN.BATCH_SIZE": 14,
        "TRAIN.EVAL_PERIOD": 0,
        "TRAIN.CHECKPOINT_PERIOD": 60,
    }
    done = run_net(str(tmp_path / "empty.yaml"), keys)
    assert done.returncode == 1, done.stderr  # one clip is damaged, and is said to be
    metrics = json.loads((tmp_path / "output" / "test" / "metrics.json").read_text())
    assert metrics["top1"] == 100.0
    assert metrics["num_scored"] + metrics["num_undecodable"] == len(clips)
    assert {video["video_id"] for video in metrics["undecodable"]} == {"decord_corrupted.mp4"}
    assert all(video["reason"] for video in metrics["undecodable"])


def test_the_published_config_trains_and_tests_on_real_clips(clips, shared, tmp_path):
    kinetics = {name: action for name, action in clips.items() if name.startswith("k400_")}
    keys = {
        **write_lists(tmp_path / "lists", kinetics, sorted(set(kinetics.values()))),
        "DATA.PATH_PREFIX": shared / "clips",
        "OUTPUT_DIR": tmp_path / "output",
        "DATA_LOADER.NUM_WORKERS": 1,
        "NUM_THREADS": 2,
        "NUM_GPUS": 1,
        "SOLVER.MAX_EPOCH": 1,
        "SOLVER.WARMUP_EPOCHS": 0,
        "TRAIN.BATCH_SIZE": 2,
        "TRAIN.EVAL_PERIOD": 0,
        "LOG_PERIOD": 1,
    }
    done = run_net("configs/K400/MVIT_B_16x4.yaml", keys)
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "output" / "log.jsonl").read_text().splitlines()
    losses = [record["loss"] for record in map(json.loads, lines) if record["kind"] == "step"]
    assert len(losses) == 2
    assert np.isfinite(losses).all()
    with np.load(tmp_path / "output" / "test" / "predictions.npz") as predictions:
        assert predictions["video_id"].tolist() == list(kinetics)
        assert predictions["scores"].shape == (4, 5, 400)
        assert predictions["view"].tolist() == [[t, 0] for t in range(5)]
