"""A test in parts, each in a process of its own, is the test in one piece."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mvit_video.config import load_config
from mvit_video.errors import InputError
from mvit_video.evaluate.test import merge_parts, remove_parts, run_test, run_test_part
from mvit_video.launch.phases import model_to_test
from mvit_video.launch.stop import StopFlag
from mvit_video.world import World
from tests.tiny_run import TINY_RUN, overrides, write_dataset


@pytest.fixture
def make_cfg(tmp_path):
    keys = {**TINY_RUN, **write_dataset(tmp_path / "videos", num_train=3), "DATA.READER": "pyav"}
    keys |= {"TEST.RANDOM_WEIGHTS": True, "TRAIN.ENABLE": False}
    return lambda output: load_config(
        None, [*overrides(keys), "OUTPUT_DIR", str(tmp_path / output)]
    )


def test_merged_parts_are_the_bytes_of_the_whole_and_a_lost_one_is_named(make_cfg, tmp_path):
    whole, parts = make_cfg("whole"), make_cfg("parts")
    model, preprocessing = model_to_test(whole, World(), None)
    run_test(whole, model, preprocessing, World(), StopFlag())
    cpu = torch.device("cpu")
    for part in (2, 0):
        run_test_part(parts, model, preprocessing, part, 3, cpu, StopFlag())
    with pytest.raises(InputError, match=r"part 1 of 3 \(counted from 0\)"):
        merge_parts(parts, 3)
    run_test_part(parts, model, preprocessing, 1, 3, cpu, StopFlag())
    merge_parts(parts, 3)
    files = [Path(cfg.OUTPUT_DIR) / "test" / "predictions.npz" for cfg in (whole, parts)]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert len(list(files[1].parent.iterdir())) == 2  # predictions and metrics: the parts are gone


def test_a_stopped_part_writes_nothing_and_old_parts_can_be_removed(make_cfg):
    cfg = make_cfg("run")
    model, preprocessing = model_to_test(cfg, World(), None)
    stop = StopFlag()
    path = run_test_part(cfg, model, preprocessing, 0, 2, torch.device("cpu"), stop)
    assert path.exists()
    remove_parts(cfg)
    stop.requested = True
    assert run_test_part(cfg, model, preprocessing, 0, 2, torch.device("cpu"), stop) is None
    assert not path.exists()
