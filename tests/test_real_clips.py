"""The whole pipeline on real files of ../shared/clips: Kinetics, UCF101, HMDB51, Something-Something, codec samples."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mvit_video.build import build_model
from mvit_video.config import load_config
from mvit_video.data.demo import write_demo
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
    found = {}
    for row in rows[2:]:
        names, actions = row[0].split(","), row[3].split(";")
        actions = actions if len(actions) == len(names) else actions * len(names)
        found |= {n.strip(): a.strip() for n, a in zip(names, actions, strict=True)}
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


def readme_command(*words: str) -> list[str]:
    """The one command of the README in which these words stand."""
    (line,) = (
        line.strip()
        for line in (REPOSITORY / "README.md").read_text().splitlines()
        if line.startswith("    python tools/") and all(word in line for word in words)
    )
    return [sys.executable, *shlex.split(line)[1:]]


@pytest.fixture(scope="module")
def own_videos(clips, shared, tmp_path_factory) -> Path:
    """A folder for the README's commands, `my_videos` in it with a folder per action, prepared by the first of them."""
    place = tmp_path_factory.mktemp("place")
    for name in ("tools", "configs"):
        (place / name).symlink_to(REPOSITORY / name)
    for name, action in clips.items():
        if action != "-":  # a codec sample
            (place / "my_videos" / action).mkdir(parents=True, exist_ok=True)
            (place / "my_videos" / action / name).symlink_to(shared / "clips" / name)
    told = give(place, readme_command("prepare_data.py folder", "--out data_lists/mine")).stdout
    (classes,) = {re.search(r"MODEL.NUM_CLASSES \d+", text)[0] for text in (told, *fine_tunings())}
    assert classes.endswith(" 15")
    return place


def fine_tunings() -> list[str]:
    return [shlex.join(readme_command("configs/finetune", name)) for name in ("v2_S", "XS")]


def give(place: Path, command: list[str]) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=place, env=environment, capture_output=True, text=True, timeout=1200
    )
    assert done.returncode == 0, done.stderr
    return done


def test_the_readmes_command_fine_tunes_to_100_percent_of_the_training_clips(own_videos) -> None:
    """From a checkpoint of the demo, here a short one: by heart, real Kinetics, UCF101, HMDB51 and SSv2 videos."""
    lists = own_videos / "demo_lists"
    lists.mkdir()
    shipped = (REPOSITORY / "data_lists/demo/train.csv").read_text().splitlines(True)
    for split in ("train", "val"):
        (lists / f"{split}.csv").write_text("".join(shipped[:48]))
    write_demo(own_videos / "demo_data", lists, num_workers=2)
    demo = [sys.executable, "tools/run_net.py", "--cfg", "configs/demo/MVIT_XS_8x4.yaml"]
    keys = {"DATA.PATH_TO_DATA_DIR": lists, "SOLVER.MAX_EPOCH": 2, "TEST.ENABLE": False}
    give(own_videos, [*demo, *overrides(keys)])

    command = readme_command("configs/finetune/MVIT_XS_8x4.yaml")
    assert "starting from" in give(own_videos, command).stderr
    output = own_videos / "output" / "finetune_xs"
    assert json.loads((output / "test" / "metrics.json").read_text())["num_scored"] == 3

    mine = own_videos / "data_lists" / "mine"
    (mine / "test.csv").write_bytes((mine / "train.csv").read_bytes())
    newest = max((output / "checkpoints").glob("step_*.pt"))
    keys = {"TRAIN.ENABLE": False, "TEST.CHECKPOINT_FILE_PATH": newest, "OUTPUT_DIR": "by_heart"}
    give(own_videos, [*command, *overrides(keys)])
    metrics = json.loads((own_videos / "by_heart" / "test" / "metrics.json").read_text())
    assert (metrics["num_scored"], metrics["num_undecodable"]) == (18, 0)
    assert metrics["top1"] == 100.0


def test_the_readmes_command_fine_tunes_a_published_model(own_videos) -> None:
    """An update of it, on clips of 32 pixels, from a file as SlowFast writes them."""
    torch.manual_seed(0)
    model = build_model(load_config("configs/K400/MVITv2_S_16x4.yaml"))
    torch.save({"model_state": model.state_dict()}, own_videos / "MViTv2_S_16x4_k400.pyth")
    smaller = {
        "DATA.TRAIN_JITTER_SCALES": [32, 32],
        "DATA.TRAIN_CROP_SIZE": 32,
        "DATA.TEST_CROP_SIZE": 32,
        "DATA.NUM_FRAMES": 2,
        "AUG.NUM_SAMPLE": 1,
        "NUM_THREADS": 1,
        "SOLVER.MAX_EPOCH": 1,
        "SOLVER.WARMUP_EPOCHS": 0,
        "TEST.NUM_ENSEMBLE_VIEWS": 1,
        "DATA_LOADER.NUM_WORKERS": 1,
    }
    done = give(own_videos, [*readme_command("configs/finetune", "v2_S"), *overrides(smaller)])
    assert "starting from" in done.stderr and "head" in done.stderr
    assert (own_videos / "output" / "finetune" / "checkpoints" / "best.pt").exists()
