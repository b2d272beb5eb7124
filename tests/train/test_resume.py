"""A run that is killed and started again ends with the bits of the run that is not."""

from __future__ import annotations

import random
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from mvit_video.train.checkpoint import (
    checkpoint_files,
    checkpoints_folder,
    differences,
    read_training_checkpoint,
)
from tests.run_processes import Run, last_step, log_lines


def final_state(output: Path) -> dict[str, Any]:
    """All that must have the same bits: weights, averaged weights, optimiser, position, sums of the log."""
    saved = read_training_checkpoint(checkpoint_files(checkpoints_folder(output))[-1])
    return {key: saved[key] for key in ("model", "ema", "optimizer", "scaler", "progress")}


def run_through(words: list[str], ranks: int = 1) -> Path:
    run = Run(words, ranks)
    assert set(run.wait()) == {0}, run.told()
    return run.output


def kill_at(words: list[str], step: int, ranks: int = 1) -> None:
    Run(words, ranks).kill_at_step(step, delay=random.uniform(0, 0.1))


@pytest.mark.parametrize("ranks", [1, 2, pytest.param(4, marks=pytest.mark.slow)])
def test_killed_and_resumed_ends_with_the_same_bits(words, ranks):
    undisturbed = run_through(words("undisturbed"), ranks)
    for steps in (range(4, 8), range(8, 12)):  # there is a checkpoint behind each
        kill_at(words("killed"), random.choice(steps), ranks)
    killed = run_through(words("killed"), ranks)
    assert not differences(final_state(undisturbed), final_state(killed))
    assert len(log_lines(killed, "start", "resume")) == 3
    # The log tells every step once, and the same of each.
    told = [
        [
            (line["step"], line["loss"], line["lr"], line["grad_norm"])
            for line in log_lines(o, "step")
        ]
        for o in (undisturbed, killed)
    ]
    assert told[0] == told[1]
    assert [step for step, *_ in told[0]] == list(range(1, 13))
    assert [line["epoch"] for line in log_lines(killed, "epoch")] == [1, 2, 3]
    assert (
        log_lines(killed, "epoch")[-1]["train_loss"]
        == log_lines(undisturbed, "epoch")[-1]["train_loss"]
    )


def test_resumed_with_workers_and_micro_batches_ends_with_the_same_bits(words):
    changes = {
        "SOLVER__ACCUMULATE_STEPS": 2,
        "MODEL__ACT_CHECKPOINT": True,
        "TRAIN__EVAL_PERIOD": 0,
    }
    undisturbed = run_through(words("undisturbed", **changes))
    kill_at(words("killed", **changes, DATA_LOADER__NUM_WORKERS=2), 5)
    killed = run_through(words("killed", **changes, DATA_LOADER__NUM_WORKERS=1))
    assert not differences(final_state(undisturbed), final_state(killed))


@pytest.mark.parametrize(
    "changes", [{"SOLVER__OPTIMIZING_METHOD": "sgd"}, {"TRAIN__PRECISION": "float16"}]
)
def test_other_state_is_kept_too(words, changes):
    undisturbed = run_through(words("undisturbed", **changes))
    kill_at(words("killed", **changes), 5)
    assert not differences(
        final_state(undisturbed), final_state(run_through(words("killed", **changes)))
    )


@pytest.mark.parametrize("ranks", [1, 2])
def test_sigterm_saves_the_step_and_exits_with_75(words, ranks):
    undisturbed = run_through(words("undisturbed"), ranks)
    changes = {
        "TRAIN__CHECKPOINT_STEPS": 0,
        "TRAIN__CHECKPOINT_PERIOD": 100,
        "TRAIN__EVAL_PERIOD": 0,
    }
    run = Run(words("stopped", **changes), ranks)
    run.wait_for_step(2)
    run.send(signal.SIGTERM, ranks - 1)  # one rank hears of it, all stop
    assert set(run.wait()) == {75}, run.told()
    stopped_at = log_lines(run.output, "stop")[-1]["step"]
    assert stopped_at == last_step(run.output) < 12
    files = checkpoint_files(checkpoints_folder(run.output))
    assert [file.name for file in files] == [f"step_{stopped_at:08d}.pt"]
    stopped = run_through(words("stopped", **changes), ranks)
    a, b = final_state(undisturbed), final_state(stopped)
    del a["progress"], b["progress"]  # only one of them was validated
    assert not differences(a, b)


def test_another_number_of_ranks_sees_the_same_samples(words):
    # Without dropout the number of ranks changes the rounding only, if samples, augmentations and mixup are the same.
    changes = {"MODEL__DROPOUT_RATE": 0.0, "MVIT__DROPPATH_RATE": 0.0, "MIXUP__MODE": "elem"}
    undisturbed = run_through(words("undisturbed", **changes), 2)
    kill_at(words("killed", **changes), 6, ranks=2)
    killed = run_through(words("killed", **changes), 1)
    a, b = final_state(undisturbed)["model"], final_state(killed)["model"]
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-3, atol=1e-4)
    assert "trained by 2 ranks so far, by 1" in (killed / "stderr.txt").read_text()
