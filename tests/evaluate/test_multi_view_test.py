"""The multi-view test: what it writes, and that nothing but the videos and the weights decides it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from fvcore.common.config import CfgNode

from mvit_video.build import build_model
from mvit_video.config import load_config
from mvit_video.data.loader import video_loader
from mvit_video.data.preprocessing import Preprocessing
from mvit_video.errors import InputError
from mvit_video.evaluate.predictions import Predictions, load
from mvit_video.evaluate.scoring import score_views
from mvit_video.evaluate.test import run_test
from mvit_video.world import World


@dataclass
class Stop:
    requested: bool = False


def seeded_model(cfg: CfgNode) -> torch.nn.Module:
    """A model whose scores differ clearly from video to video."""
    torch.manual_seed(3)
    model = build_model(cfg)
    with torch.no_grad():
        model.head.projection.weight.normal_(std=2.0)
    return model.eval()


def predictions_of_run(cfg: CfgNode, world: World | None = None) -> Predictions:
    run_test(cfg, seeded_model(cfg), Preprocessing.from_config(cfg), world or World(), Stop())
    return load(Path(cfg.OUTPUT_DIR) / "test" / "predictions.npz")


def test_every_video_is_scored_once_in_list_order_or_reported(make_cfg, capsys):
    cfg = make_cfg({"TEST.NUM_ENSEMBLE_VIEWS": 2, "TEST.NUM_SPATIAL_CROPS": 3})
    found = predictions_of_run(cfg)
    assert found.video_id == tuple(f"test_{i}.mp4" for i in (0, 1, 2, 4, 5, 6))
    assert found.index.tolist() == [0, 1, 2, 4, 5, 6]
    assert found.label.tolist() == [0, 1, 2, 1, 2, 0]
    assert found.scores.shape == (6, 6, 3)
    assert found.view.tolist() == [[t, s] for t in range(2) for s in range(3)]
    assert found.class_names == ("red", "green", "blue")
    np.testing.assert_allclose(found.scores.sum(axis=-1), 1.0, rtol=1e-6)
    assert len(np.unique(found.scores)) > 90  # nothing is scored twice under two names
    (lost,) = found.undecodable
    assert (lost.video_id, lost.label, lost.index) == ("test_3.mp4", 0, 3)
    metrics = json.loads((Path(cfg.OUTPUT_DIR) / "test" / "metrics.json").read_text())
    assert metrics["undecodable"][0]["video_id"] == "test_3.mp4"
    assert sorted(file.name for file in (Path(cfg.OUTPUT_DIR) / "test").iterdir()) == [
        "config.yaml",
        "environment.json",
        "metrics.json",
        "predictions.npz",
    ]
    assert (Path(cfg.OUTPUT_DIR) / "report.html").is_file()
    printed = capsys.readouterr().out
    assert f"top-1 {metrics['top1']:.2f} %" in printed
    assert "6 videos scored, 1 undecodable" in printed
    assert str(Path(cfg.OUTPUT_DIR) / "test" / "predictions.npz") in printed


def test_a_view_scores_as_the_clip_alone_would(make_cfg):
    """The scores in row (t, s) are those of clip t and crop s, not of another."""
    cfg = make_cfg({"TEST.NUM_SPATIAL_CROPS": 3})
    found, model, preprocessing = (
        predictions_of_run(cfg),
        seeded_model(cfg),
        Preprocessing.from_config(cfg),
    )
    first = next(iter(video_loader(cfg, "test", World())))
    for row, clip in enumerate(first.views().split(1)):
        alone = score_views(model, clip, preprocessing)[0].numpy()
        np.testing.assert_allclose(found.scores[0, row], alone, atol=1e-5)


@pytest.mark.parametrize(
    "changes",
    [{"TEST.BATCH_SIZE": 1}, {"TEST.BATCH_SIZE": 64}, {"DATA_LOADER.NUM_WORKERS": 2}],
    ids=str,
)
def test_batch_and_workers_change_no_bit(make_cfg, tmp_path, changes):
    predictions_of_run(make_cfg(output=tmp_path / "plain"))
    predictions_of_run(make_cfg(changes, output=tmp_path / "changed"))
    files = [tmp_path / name / "test" / "predictions.npz" for name in ("plain", "changed")]
    assert files[0].read_bytes() == files[1].read_bytes()


def _test_as_rank(rank: int, size: int, store: str, config_file: str, output: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=size)
    predictions_of_run(
        load_config(config_file, ["OUTPUT_DIR", output]), World(rank=rank, size=size)
    )
    dist.destroy_process_group()


def test_one_two_and_three_ranks_write_the_same_file(make_cfg, tmp_path):
    config_file = tmp_path / "config.yaml"
    config_file.write_text(make_cfg().dump())
    predictions_of_run(make_cfg(output=tmp_path / "ranks 1"))
    runs = [
        torch.multiprocessing.spawn(
            _test_as_rank,
            (size, f"{tmp_path}/store {size}", str(config_file), f"{tmp_path}/ranks {size}"),
            nprocs=size,
            join=False,
        )
        for size in (2, 3)
    ]
    for run in runs:
        while not run.join():
            pass
    one, two, three = ((tmp_path / f"ranks {size}" / "test") for size in (1, 2, 3))
    for name in ("predictions.npz", "metrics.json"):
        assert (one / name).read_bytes() == (two / name).read_bytes() == (three / name).read_bytes()


def test_shuffled_frames_are_the_same_shuffle_every_time(make_cfg, tmp_path):
    plain = predictions_of_run(make_cfg(output=tmp_path / "plain"))
    shuffled = [
        predictions_of_run(make_cfg({"TEST.SHUFFLE_FRAMES": True}, output=tmp_path / f"{i}"))
        for i in range(2)
    ]
    np.testing.assert_array_equal(shuffled[0].scores, shuffled[1].scores)
    assert np.abs(plain.scores - shuffled[0].scores).max() > 1e-4


def test_bfloat16_scores_are_float32_softmax_near_the_full_ones(make_cfg, tmp_path):
    full = predictions_of_run(make_cfg(output=tmp_path / "full"))
    half = predictions_of_run(make_cfg({"TEST.PRECISION": "bfloat16"}, output=tmp_path / "half"))
    assert half.scores.dtype == np.float32
    np.testing.assert_allclose(half.scores.sum(axis=-1), 1.0, rtol=1e-6)
    assert 0 < np.abs(full.scores - half.scores).max() < 0.1


def test_a_stopped_test_writes_nothing(make_cfg):
    cfg = make_cfg()
    stopped = run_test(cfg, seeded_model(cfg), Preprocessing.from_config(cfg), World(), Stop(True))
    assert stopped is None
    assert not Path(cfg.OUTPUT_DIR).exists()


def test_a_model_that_gives_no_numbers_is_refused(make_cfg):
    cfg = make_cfg()
    model = seeded_model(cfg)
    with torch.no_grad():
        model.head.projection.bias[1] = float("nan")
    with pytest.raises(InputError, match="not finite"):
        run_test(cfg, model, Preprocessing.from_config(cfg), World(), Stop())
