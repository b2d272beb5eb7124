"""Validation counts every video once, and is not moved by batch, mode or chance."""

from __future__ import annotations

import math

import pytest
import torch
import torch.distributed as dist

from mvit_video.build import build_model
from mvit_video.config import load_config
from mvit_video.data.dataset import UndecodableVideo
from mvit_video.data.loader import video_loader
from mvit_video.data.preprocessing import Preprocessing
from mvit_video.evaluate.validation import validate
from mvit_video.launch.stop import StopFlag
from mvit_video.world import World


class RedOnly(torch.nn.Module):
    """Logits 1, 0, 0 for every clip: the first class always wins."""

    def forward(self, clip: torch.Tensor) -> torch.Tensor:
        return torch.tensor([[1.0, 0.0, 0.0]]).expand(len(clip), -1)


def test_loss_and_accuracy_worked_out_by_hand(make_cfg):
    cfg = make_cfg()  # labels 0, 1, 2, 0
    found = validate(
        RedOnly(), video_loader(cfg, "val", World()), Preprocessing.from_config(cfg), World()
    )
    right, wrong = (math.log(math.e + 2) - logit for logit in (1, 0))
    assert found["loss"] == pytest.approx((right + wrong) / 2)
    assert (found["top1"], found["top5"], found["num_scored"]) == (50.0, 100.0, 4)
    assert found["undecodable"] == []


def test_the_batch_does_not_matter_and_the_mode_is_restored(make_cfg):
    cfg = make_cfg({"MVIT.DROPPATH_RATE": 0.5, "MODEL.DROPOUT_RATE": 0.5})
    model = build_model(cfg).train()
    loader, preprocessing = video_loader(cfg, "val", World()), Preprocessing.from_config(cfg)
    found = [validate(model, loader, preprocessing, World(), batch_size=size) for size in (1, 3, 3)]
    assert model.training
    assert found[1] == found[2]
    assert found[0]["loss"] == pytest.approx(found[1]["loss"], rel=1e-5)


def test_undecodable_videos_are_reported_and_not_scored(make_cfg):
    cfg = make_cfg()
    loader = [*video_loader(cfg, "val", World()), UndecodableVideo("lost.mp4", 1, 4, "cut short")]
    found = validate(RedOnly(), loader, Preprocessing.from_config(cfg), World())
    assert found["num_scored"] == 4
    assert found["undecodable"] == [{"video_id": "lost.mp4", "label": 1, "reason": "cut short"}]
    nothing = validate(RedOnly(), loader[-1:], Preprocessing.from_config(cfg), World())
    assert (nothing["loss"], nothing["top1"], nothing["num_scored"]) == (None, None, 0)


def test_a_validation_that_is_asked_to_stop_has_no_result(make_cfg):
    cfg = make_cfg()
    model, preprocessing = build_model(cfg).train(), Preprocessing.from_config(cfg)
    stop, seen = StopFlag(), []

    def look(*_: object) -> None:
        seen.append(1)
        stop.requested = len(seen) == 2

    model.register_forward_pre_hook(look)
    loader = video_loader(cfg, "val", World())
    found = validate(model, loader, preprocessing, World(), batch_size=1, stop=stop)
    assert found is None
    assert len(seen) == 2
    assert model.training


def _validate_as_rank(rank: int, size: int, store: str, config_file: str, results: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=size)
    cfg, world = load_config(config_file), World(rank=rank, size=size)
    torch.manual_seed(0)
    found = validate(
        build_model(cfg),
        video_loader(cfg, "val", world),
        Preprocessing.from_config(cfg),
        world,
        batch_size=1,
    )
    torch.save(found, f"{results}/{rank}.pt")
    dist.destroy_process_group()


def test_all_ranks_know_the_result_of_one(make_cfg, tmp_path):
    config_file = tmp_path / "config.yaml"
    config_file.write_text(make_cfg().dump())
    torch.multiprocessing.spawn(
        _validate_as_rank, (2, str(tmp_path / "store"), str(config_file), str(tmp_path)), nprocs=2
    )
    cfg = make_cfg()
    torch.manual_seed(0)
    alone = validate(
        build_model(cfg),
        video_loader(cfg, "val", World()),
        Preprocessing.from_config(cfg),
        World(),
        batch_size=1,
    )
    for rank in range(2):
        assert torch.load(tmp_path / f"{rank}.pt") == alone
