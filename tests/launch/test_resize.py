"""The same global batch on another number of processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from mvit_video.config import load_config
from mvit_video.errors import InputError
from mvit_video.launch.resize import check_ranks, steps_to_accumulate
from mvit_video.train.checkpoint import checkpoints_folder, save_checkpoint


def config(output: Path, batch: int = 32, accumulate: int = 1):
    keys = {"OUTPUT_DIR": output, "TRAIN.BATCH_SIZE": batch, "SOLVER.ACCUMULATE_STEPS": accumulate}
    return load_config(None, [str(word) for pair in keys.items() for word in pair])


def begun(output: Path, processes: int, accumulate: int = 1) -> None:
    """As a training on that many processes leaves it."""
    state = dict.fromkeys(("model", "ema", "optimizer", "scaler", "progress", "preprocessing"))
    state |= {"world_size": processes, "config": config(output, accumulate=accumulate).dump()}
    save_checkpoint(checkpoints_folder(output), state, 1, 1)


@pytest.mark.parametrize(
    ("before", "now", "accumulate"), [(8, 8, 1), (8, 4, 2), (8, 2, 4), (8, 16, 1)]
)
def test_fewer_processes_keep_the_global_batch(tmp_path, before, now, accumulate):
    begun(tmp_path, before)
    assert steps_to_accumulate(config(tmp_path), now) == accumulate
    check_ranks(config(tmp_path, accumulate=accumulate), now)


def test_the_same_command_again_has_no_more_videos_at_a_time(tmp_path):
    begun(tmp_path, processes=4, accumulate=2)  # it had begun on 8
    assert steps_to_accumulate(config(tmp_path), 4) == 2
    assert steps_to_accumulate(config(tmp_path), 2) == 4
    assert steps_to_accumulate(config(tmp_path), 8) == 1


def test_more_and_smaller_micro_batches_may_be_asked_for(tmp_path):
    begun(tmp_path, processes=4)
    assert steps_to_accumulate(config(tmp_path, accumulate=4), 4) == 4


def test_a_training_that_begins_has_what_it_asks_for(tmp_path):
    assert steps_to_accumulate(config(tmp_path, accumulate=2), 3) == 2


def test_a_batch_that_cannot_be_had_is_refused(tmp_path):
    begun(tmp_path, processes=8)
    with pytest.raises(InputError, match="BATCH_SIZE 32 cannot be had on 3 processes"):
        steps_to_accumulate(config(tmp_path), 3)


def test_another_batch_is_left_to_the_trainer_to_refuse(tmp_path):
    begun(tmp_path, processes=8)
    assert steps_to_accumulate(config(tmp_path, batch=7), 7) == 1
