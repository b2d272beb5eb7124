"""Checkpoint files: whole or absent, damaged ones passed over, old ones rotated away."""

from __future__ import annotations

import os
import random

import pytest
import torch

from mvit_video.errors import InputError
from mvit_video.train.checkpoint import (
    BEST,
    FORMAT,
    checkpoint_files,
    differences,
    find_newest_checkpoint,
    keep_as_best,
    read_training_checkpoint,
    remove_leftovers,
    save_checkpoint,
)


def state(step: int) -> dict:
    return {
        "model": {"weight": torch.full((64, 64), float(step))},
        "ema": None,
        "optimizer": {"state": {0: {"step": torch.tensor(float(step))}}, "param_groups": []},
        "scaler": {},
        "progress": {"step": step},
        "config": "RNG_SEED: 0\n",
        "preprocessing": {"mean": [0.45]},
        "world_size": 1,
        "train_list": "",
    }


def names(folder) -> list[str]:
    return [path.name for path in checkpoint_files(folder)]


def test_what_was_saved_is_read(tmp_path):
    path = save_checkpoint(tmp_path, state(7), 7, keep=3)
    saved = read_training_checkpoint(path)
    assert saved["format"] == FORMAT
    assert torch.equal(saved["model"]["weight"], torch.full((64, 64), 7.0))
    assert saved["progress"] == {"step": 7}


def test_the_newest_are_kept_and_the_best_beside_them(tmp_path):
    for step in (8, 9, 10, 11, 100_000_000):
        path = save_checkpoint(tmp_path, state(step), step, keep=2)
        if step == 9:
            keep_as_best(path)
    assert names(tmp_path) == ["step_00000011.pt", "step_100000000.pt"]
    assert read_training_checkpoint(tmp_path / BEST)["progress"]["step"] == 9


def test_a_better_one_takes_the_place_of_the_best(tmp_path):
    for step in (1, 2):
        keep_as_best(save_checkpoint(tmp_path, state(step), step, keep=1))
    assert read_training_checkpoint(tmp_path / BEST)["progress"]["step"] == 2
    assert sorted(os.listdir(tmp_path)) == [BEST, "step_00000002.pt"]


def test_the_best_is_copied_where_there_are_no_hard_links(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    keep_as_best(save_checkpoint(tmp_path, state(3), 3, keep=1))
    assert read_training_checkpoint(tmp_path / BEST)["progress"]["step"] == 3


def truncated(content: bytes) -> bytes:
    return content[: len(content) // 2]


def garbage(content: bytes) -> bytes:
    return random.Random(0).randbytes(len(content))


def empty(content: bytes) -> bytes:
    return b""


def one_bit_flipped(content: bytes) -> bytes:
    place = content.index(torch.full((64, 64), 2.0).numpy().tobytes())
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def web_page(content: bytes) -> bytes:
    return b"<!doctype html><title>quota exceeded</title>"


@pytest.mark.parametrize("damage", [truncated, garbage, empty, one_bit_flipped, web_page])
def test_a_damaged_newest_is_passed_over_with_a_warning(tmp_path, caplog, damage):
    save_checkpoint(tmp_path, state(1), 1, keep=3)
    newest = save_checkpoint(tmp_path, state(2), 2, keep=3)
    newest.write_bytes(damage(newest.read_bytes()))
    assert find_newest_checkpoint(tmp_path).name == "step_00000001.pt"
    assert "passing over step_00000002.pt" in caplog.text


@pytest.mark.parametrize(
    "content", [{"model": {}}, [1, 2], {"format": 99, **state(2)}, {"format": 1, "model": {}}]
)
def test_another_format_is_passed_over(tmp_path, caplog, content):
    save_checkpoint(tmp_path, state(1), 1, keep=3)
    torch.save(content, tmp_path / "step_00000002.pt")
    assert find_newest_checkpoint(tmp_path).name == "step_00000001.pt"
    assert "passing over" in caplog.text


def test_no_checkpoints_is_none_but_only_damaged_ones_is_an_error(tmp_path):
    assert find_newest_checkpoint(tmp_path) is None
    assert find_newest_checkpoint(tmp_path / "nowhere") is None
    (tmp_path / "step_00000001.pt").write_bytes(b"")
    with pytest.raises(InputError, match="none of the 1 checkpoints"):
        find_newest_checkpoint(tmp_path)


def test_a_file_that_would_run_code_is_not_read(tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "trap"),)

    torch.save({"format": FORMAT, **state(1), "ema": Trap()}, tmp_path / "step_00000001.pt")
    with pytest.raises(InputError):
        read_training_checkpoint(tmp_path / "step_00000001.pt")
    assert not (tmp_path / "trap").exists()


def test_a_failed_write_leaves_what_was_there(tmp_path):
    save_checkpoint(tmp_path, state(1), 1, keep=3)
    with pytest.raises(AttributeError):
        save_checkpoint(tmp_path, {**state(1), "ema": lambda: None}, 1, keep=3)
    assert os.listdir(tmp_path) == ["step_00000001.pt"]
    assert read_training_checkpoint(tmp_path / "step_00000001.pt")["progress"]["step"] == 1


def test_a_full_disk_is_told_and_harms_nothing(tmp_path, monkeypatch):
    save_checkpoint(tmp_path, state(1), 1, keep=3)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="No space left on device"):
        save_checkpoint(tmp_path, state(2), 2, keep=3)
    assert os.listdir(tmp_path) == ["step_00000001.pt"]


def test_leftovers_of_a_killed_run_are_removed(tmp_path):
    path = save_checkpoint(tmp_path, state(1), 1, keep=3)
    (tmp_path / ".step_00000002.pt.tmp").write_bytes(b"half")
    remove_leftovers(tmp_path)
    assert os.listdir(tmp_path) == [path.name]
    remove_leftovers(tmp_path / "nowhere")


def test_a_difference_of_one_bit_is_found_by_name():
    a, b = state(1), state(1)
    assert differences(a, b) == []
    b["model"]["weight"][3, 5] = torch.nextafter(torch.tensor(1.0), torch.tensor(2.0))
    b["optimizer"]["state"][0]["step"] = torch.tensor(1.0, dtype=torch.float64)
    assert differences(a, b) == ["model.weight", "optimizer.state.0.step"]
    del b["model"]["weight"]
    assert "model" in differences(a, b)
