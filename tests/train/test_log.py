"""The log: one line of JSON per step, each step once."""

from __future__ import annotations

import importlib.util
import json

import pytest

from mvit_video.config import load_config
from mvit_video.errors import InputError
from mvit_video.train.log import RunLog, drop_lines_after, duration
from mvit_video.train.progress import Progress

STEP = {
    "loss": 1.5,
    "lr": 1e-3,
    "grad_norm": 2.0,
    "clips_per_second": 9.5,
    "data_seconds": 0.1,
    "data_share": 0.02,
    "mfu": 0.31,
    "memory_mib": 3072.0,
    "skipped": 0,
    "seconds_left": 3600.0,
}
EPOCH = {"train_loss": 1.25, "bad_videos": 2, "skipped": 1, "seconds": 75.0, "seconds_left": 7.0}
VALIDATED = {
    "val_loss": 1.5,
    "val_top1": 50.0,
    "val_top5": 75.0,
    "best_top1": 51.0,
    "best_epoch": 1,
}


@pytest.fixture
def cfg(tmp_path):
    return load_config(None, ["OUTPUT_DIR", str(tmp_path), "SOLVER.MAX_EPOCH", "2"])


def read(tmp_path) -> list[dict]:
    return [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]


def test_lines_are_json_with_kind_time_step_and_epoch(cfg, tmp_path):
    log = RunLog(cfg, Progress(), 8, enabled=True)
    log.line("start", 0, 0.0, world_size=2)
    log.step(1, 0.25, **STEP)
    log.epoch(4, 1, **EPOCH, **VALIDATED)
    log.close()
    start, step, epoch = read(tmp_path)
    assert start.pop("time") > 1.7e9
    assert start == {"kind": "start", "step": 0, "epoch": 0.0, "world_size": 2}
    assert step["kind"] == "step"
    assert {**STEP, "step": 1, "epoch": 0.25}.items() <= step.items()
    assert epoch["train_loss"] == 1.25
    assert epoch["val_top1"] == 50.0


def test_only_rank_0_writes(cfg, tmp_path):
    log = RunLog(cfg, Progress(), 8, enabled=False)
    log.step(1, 0.25, **STEP)
    log.epoch(4, 1, **EPOCH)
    log.go_back(Progress())
    log.advance()
    log.close()
    assert list(tmp_path.iterdir()) == []


def test_people_read_a_line_a_step_and_a_table_of_epochs(cfg, caplog):
    caplog.set_level("INFO")
    log = RunLog(cfg, Progress(), 8, enabled=True)
    log.step(1, 0.25, **STEP)
    log.epoch(4, 1, **EPOCH)
    log.epoch(8, 2, **EPOCH, **VALIDATED)
    log.close()
    step, header, plain, validated = (record.getMessage() for record in caplog.records)
    assert step == (
        "epoch 0.25/2, step 1: loss 1.5000, lr 0.001, grad norm 2, 9.5 clips/s, 2% waiting for data, 31.0% MFU, "
        "3.0 GiB, 1:00:00 h left"
    )
    bars = [i for i, letter in enumerate(header) if letter == "|"]
    for row in (plain, validated):
        assert [i for i, letter in enumerate(row) if letter == "|"] == bars
    assert validated.replace("|", " ").split() == (
        [
            "2/2",
            "1.2500",
            "1.5000",
            "50.00",
            "75.00",
            "51.00",
            "(1)",
            "2",
            "1",
            "1:15",
            "min",
            "7",
            "s",
        ]
    )


def test_numbers_that_are_not_finite_are_null(cfg, tmp_path):
    log = RunLog(cfg, Progress(), 8, enabled=True)
    log.step(1, 0.25, **{**STEP, "loss": float("nan"), "grad_norm": float("inf")})
    log.close()
    (line,) = read(tmp_path)
    assert line["loss"] is None and line["grad_norm"] is None


def test_a_run_that_goes_back_tells_its_steps_again(cfg, tmp_path):
    log = RunLog(cfg, Progress(), 8, enabled=True)
    for step in (1, 2, 3):
        log.step(step, step / 4, **STEP)
    log.line("skip", 3, 0.5, file="x")
    log.go_back(Progress(step=1, samples=4))
    log.line("rollback", 1, 0.25)
    log.step(2, 0.5, **STEP)
    log.close()
    assert [(line["kind"], line["step"]) for line in read(tmp_path)] == [
        ("step", 1),
        ("rollback", 1),
        ("step", 2),
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, ""), (41.6, "42 s"), (187, "3:07 min"), (18187, "5:03:07 h"), (190_987, "2 d 05:03 h")],
)
def test_durations_are_for_people(seconds, text):
    assert duration(seconds) == text


def test_a_resumed_run_drops_what_it_does_again(tmp_path):
    path = tmp_path / "log.jsonl"
    lines = [
        {"kind": "start", "step": 0, "epoch": 0},
        {"kind": "step", "step": 3, "epoch": 0.75},
        {"kind": "step", "step": 4, "epoch": 1.0},
        {"kind": "epoch", "step": 4, "epoch": 1},
        {"kind": "step", "step": 5, "epoch": 1.25},
        {"kind": "stop", "step": 5, "epoch": 1.25},
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    path.write_text(text + '{"kind": "step", "ste')
    drop_lines_after(path, Progress(epoch=0, samples=16, step=4))  # epoch 1 is not validated yet
    kept = [(line["kind"], line["step"]) for line in read(tmp_path)]
    assert kept == [("start", 0), ("step", 3), ("step", 4), ("stop", 5)]


def test_a_log_that_is_all_true_is_left_alone(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"kind": "epoch", "step": 4, "epoch": 1}\n')
    before = path.stat().st_ino
    drop_lines_after(path, Progress(epoch=1, step=4))
    assert path.stat().st_ino == before
    drop_lines_after(tmp_path / "nowhere", Progress())


def test_numbers_go_to_tensorboard_if_asked(cfg, tmp_path):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    cfg = load_config(None, ["OUTPUT_DIR", str(tmp_path), "TENSORBOARD.ENABLE", "True"])
    log = RunLog(cfg, Progress(), 8, enabled=True)
    log.step(1, 0.25, **STEP)
    log.close()
    written = events.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert written.Scalars("step/loss")[0].value == pytest.approx(1.5)


@pytest.mark.parametrize("enabled", [True, False])
def test_tensorboard_that_is_not_there_is_told_on_every_rank(tmp_path, monkeypatch, enabled):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    cfg = load_config(None, ["OUTPUT_DIR", str(tmp_path), "TENSORBOARD.ENABLE", "True"])
    with pytest.raises(InputError, match="mvit-video\\[tensorboard\\]"):
        RunLog(cfg, Progress(), 8, enabled=enabled)
