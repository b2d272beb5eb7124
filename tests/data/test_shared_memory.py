"""Batches that cannot be handed over: a message, and nobody waits for ever."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import torch
from torch.utils.data import Dataset

from mvit_video.data.watch import Watch
from mvit_video.data.workers import item_loader, worker_settings
from tests.conftest import REPOSITORY

IN_SMALL_SHARED_MEMORY = ("unshare", "--map-root-user", "--mount", "sh", "-c")
MOUNT = 'mount -t tmpfs -o size=1m tmpfs /dev/shm && exec "$@"'

SCRIPT = """
import sys
from contextlib import closing
from mvit_video.config import load_config
from mvit_video.data.loader import train_loader, video_loader
from mvit_video.errors import InputError
from mvit_video.world import World

cfg = load_config(None, sys.argv[1:])
for loader in (train_loader(cfg, World()), video_loader(cfg, "val", World())):
    with closing(loader):
        try:
            print(len(list(loader)), "batches")
        except InputError as error:
            print(error)
"""


@pytest.fixture(scope="module")
def in_small_shared_memory() -> tuple[str, ...]:
    """What a command begins with to find 1 MiB in /dev/shm."""
    begin = (*IN_SMALL_SHARED_MEMORY, MOUNT, "sh")
    try:
        subprocess.run([*begin, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"this user may not mount a file system of its own: {error}")
    return begin


def test_too_little_shared_memory_is_said(in_small_shared_memory, data_set: Path) -> None:
    keys = ["DATA.PATH_TO_DATA_DIR", data_set, "DATA.PATH_PREFIX", data_set, "DATA.READER", "pyav"]
    keys += ["DATA_LOADER.NUM_WORKERS", 2, "TRAIN.BATCH_SIZE", 2]
    done = subprocess.run(
        [*in_small_shared_memory, sys.executable, "-c", SCRIPT, *map(str, keys)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    training, test = done.stdout.splitlines()
    assert done.stderr == ""
    for told, size in ((training, "4.594 MiB"), (test, "2.")):
        assert told.startswith(f"no shared memory for a batch of {size}")
        assert "of 1 MiB. Give it more room (docker run --shm-size" in told


class Strange(Dataset):
    """Items that cannot be pickled."""

    watch = Watch(1)

    def name(self, index: int) -> str:
        return f"{index}.mp4"

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> dict:
        return {"tensor": torch.zeros(2), "cause": lambda: None}


def test_a_batch_that_cannot_be_handed_over_ends_its_worker_and_is_not_waited_for() -> None:
    with (
        closing(item_loader(Strange(), range(2), **worker_settings(1))) as loader,
        pytest.raises(RuntimeError, match=r"worker 0 was gone \(exit code 1\) between two videos"),
    ):
        list(loader)
