"""Trainings from beginning to end, in this process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from mvit_video.config import load_config
from mvit_video.errors import InputError
from mvit_video.train.checkpoint import (
    BEST,
    checkpoint_files,
    checkpoints_folder,
    read_training_checkpoint,
)
from mvit_video.train.loop import TrainResult, train
from mvit_video.world import World
from tests.run_processes import log_lines


class Stop:
    """Asks to stop when it is looked at for the n-th time."""

    def __init__(self, looks: float = float("inf")) -> None:
        self._looks = looks

    @property
    def requested(self) -> bool:
        self._looks -= 1
        return self._looks <= 0


@pytest.fixture
def run(words, tmp_path):
    """run(stop=..., KEY=value ...) trains into tmp_path/run."""

    def make(stop: Stop | None = None, **changes: object) -> TrainResult:
        return train(load_config(None, words(**changes)), World(), stop or Stop())

    return make


@pytest.fixture
def output(tmp_path) -> Path:
    return tmp_path / "run"


def steps_of_checkpoints(output: Path) -> list[int]:
    return [int(path.stem[5:]) for path in checkpoint_files(checkpoints_folder(output))]


def test_epochs_with_validation(run, output):
    result = run(SOLVER__MAX_EPOCH=6)
    assert not result.stopped
    assert (result.progress.epoch, result.progress.samples, result.progress.step) == (6, 0, 24)
    epochs = log_lines(output, "epoch")
    assert [line["epoch"] for line in epochs] == [1, 2, 3, 4, 5, 6]
    assert ["val_top1" in line for line in epochs] == [False, True] * 3  # EVAL_PERIOD is 2
    top1 = [line["val_top1"] for line in epochs[1::2]]
    assert epochs[-1]["best_top1"] == max(top1) == result.progress.best["top1"]
    best = read_training_checkpoint(checkpoints_folder(output) / BEST)
    assert best["progress"]["epoch"] == result.progress.best["epoch"]
    assert best["progress"]["epoch"] == 2 * (top1.index(max(top1)) + 1)
    assert log_lines(output)[-1]["kind"] == "end"


def test_a_step_tells_what_people_watch(run, output):
    run(SOLVER__MAX_EPOCH=1)
    line = log_lines(output, "step")[2]
    assert line["step"] == 3
    assert line["epoch"] == 0.75
    for name in ("loss", "lr", "grad_norm", "clips_per_second", "data_seconds", "memory_mib"):
        assert line[name] > 0, name


def test_checkpoints_by_steps_and_epochs(run, output):
    run(TRAIN__CHECKPOINT_STEPS=3, TRAIN__EVAL_PERIOD=0, TRAIN__KEEP_CHECKPOINTS=10)
    assert steps_of_checkpoints(output) == [3, 4, 6, 8, 9, 12]


def test_the_last_epoch_has_a_checkpoint_whatever_the_period(run, output):
    run(TRAIN__CHECKPOINT_STEPS=0, TRAIN__CHECKPOINT_PERIOD=2, TRAIN__EVAL_PERIOD=0)
    assert steps_of_checkpoints(output) == [8, 12]


def test_a_checkpoint_is_enough_to_go_on_and_to_predict_with(run, output):
    result = run()
    saved = read_training_checkpoint(checkpoint_files(checkpoints_folder(output))[-1])
    assert saved["preprocessing"] == result.preprocessing.to_dict()
    assert saved["preprocessing"]["class_names"] == ["red", "green", "blue"]
    assert saved["model"].keys() == saved["ema"].keys()
    averaged = result.model.state_dict()
    assert all(torch.equal(saved["ema"][name], averaged[name]) for name in averaged)
    assert saved["progress"]["step"] == 12


def test_the_written_config_is_the_config_and_can_be_read_back(run, output, words):
    run(SOLVER__MAX_EPOCH=1, SOLVER__BASE_LR=1e-5)
    again = load_config(output / "config.yaml")
    assert again == load_config(None, words(SOLVER__MAX_EPOCH=1, SOLVER__BASE_LR=1e-5))


def test_a_finished_run_started_again_says_so_and_has_its_model(run, output, caplog):
    first = run()
    written = {
        path: path.stat().st_mtime_ns for path in checkpoint_files(checkpoints_folder(output))
    }
    caplog.set_level("INFO")
    again = run()
    assert "already finished" in caplog.text
    assert not again.stopped
    for a, b in zip(first.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(a, b)
    assert written == {path: path.stat().st_mtime_ns for path in written}
    assert len(log_lines(output, "step")) == 12


@pytest.mark.parametrize("looks", [1, 4, 5, 8, 9])
def test_a_stop_saves_and_the_rest_gives_the_same_bits(run, words, looks, tmp_path):
    changes = {"TRAIN__CHECKPOINT_STEPS": 0, "TRAIN__CHECKPOINT_PERIOD": 100}
    whole = train(load_config(None, words("whole", **changes)), World(), Stop())
    stopped = run(Stop(looks), **changes)
    assert stopped.stopped
    assert steps_of_checkpoints(tmp_path / "run")[-1] == stopped.progress.step < 12
    rest = run(**changes)
    assert log_lines(tmp_path / "run", "resume")[0]["step"] == stopped.progress.step
    assert rest.progress == whole.progress
    for a, b in zip(whole.model.parameters(), rest.model.parameters(), strict=True):
        assert torch.equal(a, b)
    last = [log_lines(tmp_path / name, "epoch")[-1] for name in ("whole", "run")]
    assert last[0]["train_loss"] == last[1]["train_loss"]


def test_a_damaged_newest_checkpoint_costs_its_steps_only(run, words, output, caplog):
    whole = train(load_config(None, words("whole")), World(), Stop())
    run(Stop(8))
    newest = checkpoint_files(checkpoints_folder(output))[-1]
    newest.write_bytes(newest.read_bytes()[:-100])
    rest = run()
    assert "passing over" in caplog.text
    for a, b in zip(whole.model.parameters(), rest.model.parameters(), strict=True):
        assert torch.equal(a, b)
    assert [line["step"] for line in log_lines(output, "step")] == list(range(1, 13))


def test_other_settings_than_the_checkpoints_are_refused_by_name(run, output):
    run(Stop(2))
    config = (output / "config.yaml").read_text()
    with pytest.raises(InputError) as error:
        run(SOLVER__BASE_LR=0.1, RNG_SEED=5, LOG_PERIOD=7)
    message = str(error.value)
    assert "SOLVER.BASE_LR: 0.002 there, 0.1 now" in message
    assert "RNG_SEED: 0 there, 5 now" in message
    assert "LOG_PERIOD" not in message
    assert (output / "config.yaml").read_text() == config


def test_another_list_than_the_checkpoints_is_refused(run, dataset, tmp_path):
    run(Stop(2))
    moved = tmp_path / "lists"
    moved.mkdir()
    for path in Path(dataset["DATA.PATH_TO_DATA_DIR"]).iterdir():
        if path.suffix != ".mp4":
            (moved / path.name).write_text(path.read_text())
    train_list = moved / "train.csv"
    run(Stop(2), DATA__PATH_TO_DATA_DIR=moved)  # the same list elsewhere is the same list
    lines = train_list.read_text().splitlines(keepends=True)
    train_list.write_text("".join(lines[1:] + lines[:1]))
    with pytest.raises(InputError, match="another list"):
        run(DATA__PATH_TO_DATA_DIR=moved)


def test_a_longer_run_goes_on_and_says_what_changes(run, output, caplog):
    run()
    caplog.set_level("INFO")
    longer = run(SOLVER__MAX_EPOCH=4)
    assert longer.progress.step == 16
    assert "SOLVER.MAX_EPOCH was 3 and is now 4" in caplog.text


def test_auto_resume_off_touches_no_earlier_run(run, output):
    run(Stop(2))
    with pytest.raises(InputError, match="AUTO_RESUME"):
        run(TRAIN__AUTO_RESUME=False)
    assert steps_of_checkpoints(output) == [2]


def test_training_starts_from_given_weights(run, words, output):
    run(SOLVER__MAX_EPOCH=1, SOLVER__EMA_DECAY=0.0)
    [*_, newest] = checkpoint_files(checkpoints_folder(output))
    # The averaged weights, which are what comes out, begin there too.
    changes = {"SOLVER__BASE_LR": 0.0, "SOLVER__MAX_EPOCH": 1}
    tuned = words("tuned", TRAIN__CHECKPOINT_FILE_PATH=newest, **changes)
    result = train(load_config(None, tuned), World(), Stop())
    saved = read_training_checkpoint(newest)["model"]
    for name, value in result.model.state_dict().items():
        assert torch.equal(saved[name], value)  # the learning rate is 0
    assert result.progress.step == 4


def test_a_diverged_training_names_step_and_samples_and_saves_nothing(run, output):
    with pytest.raises(InputError) as error:
        run(SOLVER__BASE_LR=1e30, SOLVER__WARMUP_EPOCHS=0, SOLVER__CLIP_GRAD_L2NORM=0.0)
    message = str(error.value)
    assert "not finite in update" in message
    assert "train_" in message
    assert "SOLVER.BASE_LR" in message
    for path in checkpoint_files(checkpoints_folder(output)):
        assert all(v.isfinite().all() for v in read_training_checkpoint(path)["model"].values())


def test_undecodable_training_videos_are_counted(run, words, dataset, tmp_path, caplog):
    lists = tmp_path / "lists"
    lists.mkdir()
    folder = Path(dataset["DATA.PATH_TO_DATA_DIR"])
    (lists / "broken.mp4").write_bytes(b"no video")
    good = (folder / "train.csv").read_text()
    (lists / "train.csv").write_text(good + f"{lists}/broken.mp4 1\n{lists}/broken.mp4 2\n")
    run(
        SOLVER__MAX_EPOCH=1,
        TRAIN__EVAL_PERIOD=0,
        DATA__PATH_TO_DATA_DIR=lists,
        TRAIN__BATCH_SIZE=20,
    )
    assert log_lines(tmp_path / "run", "epoch")[0]["substituted"] == 2
    assert "broken.mp4" in caplog.text


def test_a_missing_validation_list_shows_before_training(run, words, dataset, tmp_path, output):
    lists = tmp_path / "lists"
    lists.mkdir()
    folder = Path(dataset["DATA.PATH_TO_DATA_DIR"])
    (lists / "train.csv").write_text((folder / "train.csv").read_text())
    with pytest.raises(InputError, match=r"val\.csv"):
        run(DATA__PATH_TO_DATA_DIR=lists)
    assert not output.exists()
    assert not run(DATA__PATH_TO_DATA_DIR=lists, TRAIN__EVAL_PERIOD=0, SOLVER__MAX_EPOCH=1).stopped
    assert json.loads((output / "log.jsonl").read_text().splitlines()[-1])["kind"] == "end"
