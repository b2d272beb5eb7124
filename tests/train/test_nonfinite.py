"""Finite or stop: what follows an update that is not finite, for each policy, over ranks, kills and resumes."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch

from mvit_video.config import load_config
from mvit_video.errors import InputError
from mvit_video.train.checkpoint import (
    checkpoint_files,
    checkpoints_folder,
    differences,
    read_training_checkpoint,
)
from mvit_video.train.inputs import TrainInputs
from mvit_video.train.loop import Trainer, train
from mvit_video.train.nonfinite import FOLDER, read_report
from mvit_video.train.replay import replay
from mvit_video.world import World
from tests.run_processes import Run, log_lines
from tests.train.poison import poison, sample_of
from tests.train.test_resume import final_state
from tests.train.test_training import Stop

BAD = 5  # the second update of the second epoch; there are checkpoints after 3, 4 and 6 updates


@pytest.fixture
def poisoned(monkeypatch):
    """poisoned(sample, step, ...) poisons this process for the time of a test."""
    monkeypatch.setattr(TrainInputs, "prepare", TrainInputs.prepare)  # to be put back afterwards
    return poison


def in_this_process(words: list[str]) -> Path:
    cfg = load_config(None, words)
    train(cfg, World(), Stop())
    return Path(cfg.OUTPUT_DIR)


def report_of(output: Path, step: int) -> dict:
    return read_report(output / FOLDER / f"step_{step:08d}.pt")


def samples_seen(monkeypatch) -> list[tuple[int, int, int]]:
    """Grows by (step, epoch, sample) with each update of this process."""
    seen: list[tuple[int, int, int]] = []
    update = Trainer._update

    def noted(self, parts):
        where = (self.progress.step, self.progress.epoch)
        seen.extend((*where, index) for part in parts for index in part["index"].tolist())
        return update(self, parts)

    monkeypatch.setattr(Trainer, "_update", noted)
    return seen


def test_raise_names_the_videos_and_keeps_what_it_takes_to_replay(words, poisoned, tmp_path):
    sample = sample_of(BAD)
    poisoned(sample)
    # The sample is met in the first epoch too, unless that leaves it out.
    with pytest.raises(InputError) as error:
        in_this_process(words())
    (file,) = (tmp_path / "run" / FOLDER).iterdir()
    report = read_report(file)
    message = str(error.value)
    assert f"not finite in update {report['step']}, counted from 0" in message
    assert f"{sample} (train_{sample}.mp4)" in message
    assert f"python tools/replay.py {file}" in message
    (parts,) = report["ranks"]
    (part,) = parts
    assert sample in part["index"] and len(part["choices"]) == 4
    assert f"train_{sample}.mp4" in part["video_id"]
    assert set(part["mix"]) == {"share", "box"}
    assert all(value.isfinite().all() for value in report["model"].values())


def test_a_skip_leaves_the_update_out_and_tells(words, poisoned, tmp_path):
    poisoned(sample_of(BAD), BAD)
    output = in_this_process(words(TRAIN__NONFINITE="skip"))
    (skip,) = log_lines(output, "skip")
    assert skip["step"] == BAD + 1 and Path(skip["file"]).exists()
    steps = log_lines(output, "step")
    assert [line["step"] for line in steps] == list(range(1, 13))
    assert [line["loss"] is None for line in steps] == [step == BAD for step in range(12)]
    assert [line["skipped"] for line in steps] == [0] * BAD + [1] * (12 - BAD)
    epochs = log_lines(output, "epoch")
    assert [line["skipped"] for line in epochs] == [0, 1, 1]
    assert all(line["train_loss"] > 0 for line in epochs)
    state = final_state(output)
    assert state["progress"]["skipped"] == state["progress"]["nonfinite"] == 1
    assert all(int(entry["step"]) == 11 for entry in state["optimizer"]["state"].values())


def test_a_rollback_takes_the_rest_of_the_epoch_in_another_order(words, poisoned, monkeypatch):
    poisoned(sample_of(BAD), BAD)
    seen = samples_seen(monkeypatch)
    output = in_this_process(words(TRAIN__NONFINITE="rollback"))
    (back,) = log_lines(output, "rollback")
    assert (back["step"], back["from_step"]) == (4, BAD)
    assert back["checkpoint"] == "step_00000004.pt"
    assert [line["step"] for line in log_lines(output, "step")] == list(range(1, 13))
    progress = final_state(output)["progress"]
    assert progress["reshuffled"] == [[1, 0]] and progress["skipped"] == 0
    # Two updates were taken back; what the weights have seen of the epoch is each sample once, in another order.
    abandoned, final = seen[16:24], seen[:16] + seen[24:]
    second = [index for _, epoch, index in final if epoch == 1]
    assert len(set(second)) == len(second) == 16
    assert second[:8] != [index for *_, index in abandoned]
    assert [step for step, *_ in final] == [step for step in range(12) for _ in range(4)]


def test_a_rollback_in_the_first_updates_goes_back_to_the_beginning(words, poisoned):
    poisoned(sample_of(1), 1)
    output = in_this_process(words(TRAIN__NONFINITE="rollback"))
    (back,) = log_lines(output, "rollback")
    assert (back["step"], back["checkpoint"]) == (0, "step_00000000.pt")
    assert final_state(output)["progress"]["reshuffled"] == [[0, 0]]


def test_a_rollback_with_loader_workers_asks_them_anew(words, poisoned):
    poisoned(sample_of(BAD), BAD)
    changes = {"TRAIN__NONFINITE": "rollback", "TRAIN__EVAL_PERIOD": 0}
    alone = in_this_process(words("alone", **changes))
    helped = in_this_process(words("helped", **changes, DATA_LOADER__NUM_WORKERS=2))
    assert not differences(final_state(alone), final_state(helped))


@pytest.mark.parametrize("policy", ["skip", "rollback"])
def test_more_than_the_limit_stops_the_run(words, poisoned, policy):
    for step in range(12):
        poisoned(sample_of(BAD), step)
    changes = {"TRAIN__NONFINITE": policy, "TRAIN__NONFINITE_LIMIT": 1}
    with pytest.raises(InputError, match=r"more often than TRAIN\.NONFINITE_LIMIT 1 allows"):
        in_this_process(words(**changes))


def test_a_run_that_raised_goes_on_with_another_policy(words, poisoned):
    poisoned(sample_of(BAD), BAD)
    with pytest.raises(InputError, match="not finite"):
        in_this_process(words())
    output = in_this_process(words(TRAIN__NONFINITE="skip"))
    assert final_state(output)["progress"]["step"] == 12


@pytest.mark.parametrize("policy", [pytest.param("skip", marks=pytest.mark.slow), "rollback"])
def test_killed_and_resumed_after_it_ends_with_the_same_bits(words, policy):
    """Two ranks, and a poisoned sample on the second."""
    before = partial(poison, sample_of(BAD, rank=1, ranks=2), BAD)
    changes = {"TRAIN__NONFINITE": policy}
    whole, killed = words("whole", **changes), words("killed", **changes)
    undisturbed = Run(whole, 2, before)
    assert set(undisturbed.wait()) == {0}, undisturbed.told()
    Run(killed, 2, before).kill_at_step(BAD + 2)
    rest = Run(killed, 2, before)
    assert set(rest.wait()) == {0}, rest.told()
    assert not differences(final_state(undisturbed.output), final_state(rest.output))
    assert len(log_lines(rest.output, "start", "resume")) == 2
    assert len(log_lines(rest.output, "skip", "rollback")) == 1
    told = [[line["loss"] for line in log_lines(o, "step")] for o in (whole_of(whole), rest.output)]
    assert told[0] == told[1] and len(told[0]) == 12
    first, second = report_of(rest.output, BAD)["ranks"]
    assert torch.tensor(first[0]["loss"]).isfinite()
    assert not torch.tensor(second[0]["loss"]).isfinite()


def whole_of(words: list[str]) -> Path:
    return Path(words[words.index("OUTPUT_DIR") + 1])


def test_a_replay_finds_the_clip(words, poisoned, tmp_path):
    sample = sample_of(BAD)
    poisoned(sample, BAD)
    output = in_this_process(words(TRAIN__NONFINITE="skip"))
    report = report_of(output, BAD)
    cfg = load_config(output / "config.yaml")
    (part,) = replay(report, cfg, "", torch.device("cpu"))
    row = report["ranks"][0][0]["index"].index(sample)
    assert part.same_choices
    assert part.first.what == "the clips, once augmented and mixed"
    assert part.first.clips == [row] and part.video_ids[row] == f"train_{sample}.mp4"
    assert [loss != loss for loss in part.losses] == [i == row for i in range(4)]


def test_a_replay_has_the_losses_of_the_run(words, poisoned):
    """Over two ranks, dropout included: the report's numbers come out of one process again."""
    before = partial(poison, sample_of(BAD, rank=1, ranks=2), BAD)
    run = Run(words(TRAIN__NONFINITE="raise"), 2, before)
    assert set(run.wait()) == {2}, run.told()
    report = report_of(run.output, BAD)
    losses = [parts[0]["loss"] for parts in report["ranks"]]
    report["ranks"][1][0]["loss"] = 0.0  # then no loss is bad, and all micro-batches are looked at
    cfg = load_config(run.output / "config.yaml")
    parts = list(replay(report, cfg, "", torch.device("cpu")))
    assert all(
        part.same_choices and part.first is None for part in parts
    )  # nothing is poisoned here
    assert sum(parts[0].losses) / 2 == pytest.approx(losses[0], rel=1e-6)


def test_a_replay_finds_the_layer(words, monkeypatch):
    output = in_this_process(words("tame", SOLVER__MAX_EPOCH=1))
    saved = read_training_checkpoint(checkpoint_files(checkpoints_folder(output))[-1])["model"]
    saved["blocks.1.mlp.fc1.weight"] *= 1e30
    saved["blocks.1.mlp.fc2.weight"] *= 1e30
    wild = output / "wild.pt"
    torch.save(saved, wild)
    with pytest.raises(InputError, match="not finite in update 0,"):
        in_this_process(words("wild", TRAIN__CHECKPOINT_FILE_PATH=wild))
    report = report_of(whole_of(words("wild")), 0)
    cfg = load_config(None, words("wild"))
    (part,) = replay(report, cfg, "", torch.device("cpu"))
    assert part.first.what.startswith("output of blocks.1.mlp")
    assert part.first.clips == [0, 1, 2, 3]
    tame = str(checkpoint_files(checkpoints_folder(output))[-1])
    (part,) = replay(report, cfg, tame, torch.device("cpu"))
    assert part.first is None
