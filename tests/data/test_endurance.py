"""Long runs over long lists: the memory of a loader process neither grows with videos opened nor with videos listed."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from fvcore.common.config import CfgNode

from mvit_video.data.lists import load_list
from mvit_video.data.loader import TrainLoader, train_loader
from mvit_video.world import World
from tests.data.conftest import NUM_VIDEOS

pytestmark = pytest.mark.slow

LOOK_EVERY = 1000  # videos
MIB = 2**20


def memory_of(pid: int, kind: str) -> float:
    """MiB of a process. Anonymous: all but files; Private_Dirty: those pages that it shares with nobody."""
    file = Path(f"/proc/{pid}/smaps_rollup")
    if not file.exists():
        pytest.skip("memory is told by /proc/PID/smaps_rollup, which Linux has")
    return int(re.search(rf"^{kind}:\s+(\d+) kB", file.read_text(), re.M)[1]) / 1024


@pytest.fixture
def list_of(make_config, data_set, tmp_path):
    """config(number, KEY, value, ...): a training list of that many videos, every tenth of them broken."""

    def config(number: int, *overrides: object) -> CfgNode:
        padding = "./" * 20  # a path as long as those of Kinetics
        names = [f"video {k}.mp4" for k in range(NUM_VIDEOS - 1)] + ["broken.mp4"]
        (tmp_path / "train.csv").write_text(
            "".join(f"{padding}{names[k % NUM_VIDEOS]} {k % 400}\n" for k in range(number))
        )
        keys = ("DATA.PATH_TO_DATA_DIR", tmp_path, "DATA_LOADER.NUM_WORKERS", 1)
        return make_config(*keys, "TRAIN.BATCH_SIZE", 20, *overrides)

    return config


def endless(loader: TrainLoader) -> Iterator[dict]:
    epoch = 0
    while True:
        loader.set_position(epoch)
        yield from loader
        epoch += 1


@pytest.mark.parametrize(("reader", "videos"), [("auto", 20_000), ("decord", 4_000)])
def test_memory_does_not_grow_with_the_videos_opened(list_of, reader: str, videos: int) -> None:
    with closing(train_loader(list_of(1000, "DATA.READER", reader), World())) as loader:
        memory, opened = [], 0
        for batch in endless(loader):
            opened += len(batch["index"]) + len(batch["undecodable"])
            if opened >= LOOK_EVERY * (len(memory) + 1):
                memory.append(memory_of(loader.workers[0].pid, "Anonymous"))
            if opened >= videos:
                break
    # What the allocator keeps goes up and down by some MiB. A frame, packet or decoder that is kept per video would be
    # a hundred times that.
    half = len(memory) // 2
    assert max(memory[half:]) < max(memory[:half]) + 8, memory


def test_a_list_of_a_million_videos_costs_a_worker_nothing_and_starts_in_seconds(list_of) -> None:
    memory = {}
    for number in (1_000, 1_000_000):
        cfg = list_of(number)
        begin = time.monotonic()
        with closing(train_loader(cfg, World())) as loader:
            loader.set_position(0)
            next(iter(loader))
            assert time.monotonic() - begin < 30  # 3 on a quiet machine
            memory[number] = memory_of(loader.workers[0].pid, "Private_Dirty")
    assert memory[1_000_000] < memory[1_000] + 8, memory
    videos = load_list(cfg, "train")
    assert len(videos.names) + videos.ends.nbytes + videos.labels.nbytes < 80 * MIB
