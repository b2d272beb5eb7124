"""Whole runs are timed as they are: the list is read, and ranks share the batch."""

from __future__ import annotations

import pytest

from mvit_video.benchmark.report import as_text
from mvit_video.benchmark.runs import benchmark_test, benchmark_training
from mvit_video.config import load_config
from tests.tiny_run import TINY_RUN, overrides, write_dataset


@pytest.fixture(scope="module")
def cfg(tmp_path_factory):
    dataset = write_dataset(tmp_path_factory.mktemp("videos"), num_train=12, num_test=4)
    keys = {"SOLVER.MAX_EPOCH": 3, "NUM_THREADS": 1, "DATA_LOADER.NUM_WORKERS": 0}
    return load_config(None, overrides({**TINY_RUN, **dataset, **keys}))


@pytest.mark.slow
def test_a_training_is_timed_on_one_and_on_two_processes(cfg):
    result = benchmark_training(cfg, processes=(1, 2), updates=2, rounds=1)
    assert list(result["candidates"]) == ["1 process", "2 processes"]
    for candidate in result["candidates"].values():
        assert candidate["clips_per_second"] > 0
        assert 0 < candidate["data_share"] < 1  # no workers: every batch is waited for
    assert result["ratios"]["2 processes"]["time"] > 0
    assert "waiting for data" in as_text(result)


def test_a_test_is_timed(cfg):
    result = benchmark_test(cfg, rounds=1)
    rates = result["candidates"]["test"]
    assert rates["clips_per_second"] == rates["videos_per_second"] * result["views"]
    assert result["videos"] == 4
