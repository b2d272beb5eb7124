"""Loader processes on a bad day: decoders that hang and crash, and processes that are killed."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
import torch

from mvit_video.data import loader as loaders
from mvit_video.data.dataset import UndecodableVideo
from mvit_video.data.loader import train_loader, video_loader
from mvit_video.data.readers import make_reader
from mvit_video.data.workers import default_num_workers
from mvit_video.errors import VideoError
from mvit_video.world import World
from tests.data.conftest import NUM_VIDEOS

SICK = 6  # the video whose decode goes wrong
KEYS = ("clips", "label", "index", "used")


def hang_in_c() -> None:
    """As a decoder that spins: in C, with the interpreter's lock held, deaf to every signal but SIGKILL."""
    ctypes.PyDLL(None).sleep(600)


def hang_without_the_lock() -> None:
    ctypes.CDLL(None).sleep(600)


def die_by(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)
    time.sleep(600)


def be_undecodable() -> None:
    raise VideoError("the sick one", "is damaged")


class SickReader:
    """PyAV's, but for one video."""

    name = "sick"

    def __init__(self, deed: Callable[[], None]) -> None:
        self._reader, self._deed = make_reader("pyav"), deed

    def read(self, path, frames, size=None):
        if Path(path).stem.endswith(f" {SICK}"):
            self._deed()
        return self._reader.read(path, frames, size)


@pytest.fixture
def sick(monkeypatch, make_config):
    """config(deed, KEY, value, ...): loaders read as usual, but decoding video SICK does something else."""

    def config(deed: Callable[[], None], *overrides: object):
        monkeypatch.setattr(loaders, "make_reader", lambda name: SickReader(deed))
        return make_config("DATA.DECODE_TIMEOUT", 1, *overrides)

    return config


@pytest.mark.parametrize(
    ("workers", "deed", "reason"),
    [
        (0, hang_without_the_lock, "abandoned after 1 s"),
        (1, hang_in_c, "abandoned after 1 s"),
        (3, hang_in_c, "abandoned after 1 s"),
        (2, partial(die_by, signal.SIGSEGV), r"crashes the decoder \(SIGSEGV\)"),
    ],
)
def test_a_video_that_hangs_or_crashes_is_replaced_in_training(sick, workers, deed, reason) -> None:
    """No other sample is lost, doubled or changed, as if the video were merely damaged."""
    batch = ("TRAIN.BATCH_SIZE", 2)
    with closing(train_loader(sick(be_undecodable, *batch), World())) as loader:
        expected = [list_epoch(loader, epoch) for epoch in (0, 1)]
    assert sum(int(b["substituted"].sum()) for epochs in expected for b in epochs) == 2
    cfg = sick(deed, *batch, "DATA_LOADER.NUM_WORKERS", workers)
    with closing(train_loader(cfg, World())) as loader:
        first = list_epoch(loader, 0)
        begin = time.monotonic()
        second = list_epoch(loader, 1)
        assert time.monotonic() - begin < 1  # it is not tried again
    for batches, wanted in zip((first, second), expected, strict=True):
        assert len(batches) == len(wanted)
        for a, b in zip(batches, wanted, strict=True):
            assert all(torch.equal(a[key], b[key]) for key in KEYS)
        told = {(v.index, v.reason) for b in batches for v in b["undecodable"]}
        assert {index for index, _ in told} == {SICK}
        ((_, said),) = told
        assert re.search(rf"video {SICK}\.mp4: {reason}", said)


def list_epoch(loader, epoch: int) -> list[dict]:
    loader.set_position(epoch)
    return list(loader)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("split", ["val", "test"])
def test_a_video_that_hangs_is_reported_and_never_replaced_in_tests(sick, split, workers) -> None:
    cfg = sick(hang_in_c if workers else hang_without_the_lock, "DATA_LOADER.NUM_WORKERS", workers)
    with closing(video_loader(cfg, split, World())) as loader:
        items = list(loader)
    assert [item.index for item in items] == list(range(NUM_VIDEOS))
    assert isinstance(items[SICK], UndecodableVideo)
    assert "video 6.mp4: abandoned after 1 s in the decoder (DATA.DECODE_TIMEOUT)" in (
        items[SICK].reason
    )
    assert sum(isinstance(item, UndecodableVideo) for item in items) == 1 + (split == "test")


def test_a_slow_decode_is_waited_for(sick) -> None:
    cfg = sick(partial(time.sleep, 2.5), "DATA.DECODE_TIMEOUT", 0, "DATA_LOADER.NUM_WORKERS", 1)
    with closing(video_loader(cfg, "val", World())) as loader:
        assert not any(isinstance(item, UndecodableVideo) for item in loader)


def test_a_worker_that_is_killed_is_reported_with_the_videos_it_and_others_decode(sick) -> None:
    cfg = sick(partial(die_by, signal.SIGKILL), "DATA_LOADER.NUM_WORKERS", 2)
    with (
        closing(video_loader(cfg, "val", World())) as loader,
        pytest.raises(
            RuntimeError,
            match=r"worker 0 was killed by SIGKILL while it decoded .*video 6\.mp4\..*memory",
        ),
    ):
        list(loader)
    assert not loader.workers


def test_a_death_between_two_batches_disturbs_nothing_before_the_next(make_config) -> None:
    cfg = make_config("DATA_LOADER.NUM_WORKERS", 1, "DATA_LOADER.PREFETCH_FACTOR", 1)
    with closing(train_loader(cfg, World())) as loader:
        loader.set_position(0)
        batches = iter(loader)
        next(batches)
        (worker,) = loader.workers
        time.sleep(0.5)
        os.kill(worker.pid, signal.SIGKILL)
        for _ in range(50):
            time.sleep(
                0.01
            )  # the training process does something else, and no error strikes it there
        with pytest.raises(RuntimeError, match=r"killed by SIGKILL between two videos"):
            for _ in range(3):
                next(batches)


def test_an_iteration_left_in_a_hang_does_not_stop_the_next(sick) -> None:
    cfg = sick(hang_in_c, "DATA_LOADER.NUM_WORKERS", 1, "TRAIN.BATCH_SIZE", 2)
    with closing(train_loader(cfg, World())) as loader:
        loader.set_position(0)
        next(iter(loader))
        assert len(list_epoch(loader, 1)) == NUM_VIDEOS // 2


def test_workers_share_the_cores_of_a_machine() -> None:
    cores = len(os.sched_getaffinity(0))
    assert 1 <= default_num_workers(1) <= min(cores, 8)
    assert default_num_workers(10_000) == 1
