"""Loaders on real files and real processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import closing
from pathlib import Path

import pytest
import torch

from mvit_video.data.dataset import UndecodableVideo
from mvit_video.data.loader import train_loader, video_loader
from mvit_video.errors import InputError
from mvit_video.world import World
from tests.data.conftest import BROKEN, NUM_VIDEOS


def epoch_of(loader, epoch: int, consumed: int = 0) -> list[dict]:
    loader.set_position(epoch, consumed)
    return list(loader)


def same(first: list[dict], second: list[dict]) -> bool:
    return len(first) == len(second) and all(
        torch.equal(a[key], b[key])
        for a, b in zip(first, second, strict=True)
        for key in ("clips", "label", "index", "substituted")
    )


def test_any_number_of_workers_gives_the_same_batches(make_config) -> None:
    runs = []
    for workers in (0, 1, 3):
        cfg = make_config("DATA_LOADER.NUM_WORKERS", workers, "AUG.NUM_SAMPLE", 2)
        with closing(train_loader(cfg, World())) as loader:
            runs.append([epoch_of(loader, 0), epoch_of(loader, 1)])
    assert all(same(run[epoch], runs[0][epoch]) for run in runs for epoch in (0, 1))
    first, second = runs[0]
    assert not same(first, second)
    batch = first[0]
    assert batch["clips"].shape == (8, 3, 4, 48, 48) and batch["clips"].dtype == torch.uint8
    assert batch["label"].tolist() == batch["index"].repeat_interleave(2).tolist()
    assert not batch["substituted"].any() and batch["undecodable"] == []


def test_workers_stay_for_the_next_epoch_and_leave_the_global_generator_alone(make_config) -> None:
    cfg = make_config("DATA_LOADER.NUM_WORKERS", 2)
    before = torch.get_rng_state()
    with closing(train_loader(cfg, World())) as loader:
        epoch_of(loader, 0)
        workers = {process.pid for process in multiprocessing.active_children()}
        epoch_of(loader, 1)
        assert {process.pid for process in multiprocessing.active_children()} == workers
        assert len(workers) >= 2
    assert torch.equal(torch.get_rng_state(), before)
    assert not workers & {process.pid for process in multiprocessing.active_children()}


def test_an_epoch_goes_on_from_a_position_also_after_a_break(make_config) -> None:
    with closing(train_loader(make_config("DATA_LOADER.NUM_WORKERS", 1), World())) as loader:
        whole = epoch_of(loader, 2)
        assert len(whole) == loader.order.steps_per_epoch == 2
        loader.set_position(5)
        next(iter(loader))  # left in the middle
        assert same(epoch_of(loader, 2, consumed=4), whole[1:])


def test_ranks_and_micro_batches_share_out_the_same_samples(make_config) -> None:
    with closing(train_loader(make_config(), World())) as loader:
        alone = epoch_of(loader, 0)
    shares = []
    for rank in range(2):
        cfg = make_config("SOLVER.ACCUMULATE_STEPS", 2)
        with closing(train_loader(cfg, World(rank, 2))) as loader:
            shares.append(epoch_of(loader, 0))
    clips = [micro["clips"] for pair in zip(*shares, strict=True) for micro in pair]
    assert torch.equal(torch.cat(clips), torch.cat([batch["clips"] for batch in alone]))


@pytest.mark.parametrize("ranks", [1, 2, 3, 11])
def test_test_videos_are_shared_out_without_padding(make_config, ranks: int) -> None:
    found = []
    for rank in range(ranks):
        with closing(video_loader(make_config(), "test", World(rank, ranks))) as loader:
            items = list(loader)
        assert [item.index for item in items] == list(range(rank, NUM_VIDEOS, ranks))
        found += [item.index for item in items]
    assert sorted(found) == list(range(NUM_VIDEOS))


def test_validation_takes_one_view_and_tests_take_all(make_config) -> None:
    cfg = make_config("TEST.NUM_ENSEMBLE_VIEWS", 3, "TEST.NUM_SPATIAL_CROPS", 3)
    with closing(video_loader(cfg, "val", World())) as loader:
        assert {item.num_views for item in loader} == {1}
    cfg = make_config(
        "DATA_LOADER.NUM_WORKERS", 2, "TEST.NUM_ENSEMBLE_VIEWS", 3, "TEST.NUM_SPATIAL_CROPS", 3
    )
    with closing(video_loader(cfg, "test", World())) as loader:
        items = list(loader)
    broken = items.pop(BROKEN)
    assert isinstance(broken, UndecodableVideo) and {item.num_views for item in items} == {9}


def test_a_wrong_prefix_ends_training_with_a_message(make_config, tmp_path: Path) -> None:
    cfg = make_config("DATA.PATH_PREFIX", tmp_path, "DATA_LOADER.NUM_WORKERS", 1)
    with (
        closing(train_loader(cfg, World())) as loader,
        pytest.raises(InputError, match=r"DATA\.PATH_PREFIX .* right\?$"),
    ):
        epoch_of(loader, 0)


def test_workers_hear_no_signal_and_end_with_the_loader(make_config) -> None:
    cfg = make_config("DATA_LOADER.NUM_WORKERS", 2)
    with closing(train_loader(cfg, World())) as loader:
        loader.set_position(0)
        batches = iter(loader)
        next(batches)
        for worker in loader.workers:
            for number in (signal.SIGUSR2, signal.SIGTERM, signal.SIGINT):
                os.kill(worker.pid, number)
        time.sleep(0.2)
        assert all(worker.is_alive() for worker in loader.workers)
        assert len(list(batches)) == 1
        workers = loader.workers
    assert not any(worker.is_alive() for worker in workers)


SCRIPT = """
import signal, sys, time
import torch
from mvit_video.config import load_config
from mvit_video.data.loader import train_loader
from mvit_video.world import World

def main():
    loader = train_loader(load_config(None, sys.argv[2:]), World())
    loader.set_position(0)
    batches = iter(loader)
    print(next(batches)["index"].tolist(), flush=True)
    if sys.argv[1] == "wait":
        time.sleep(60)

if __name__ == "__main__":
    torch.multiprocessing.set_start_method("spawn" if sys.argv[1] == "spawn" else "fork")
    main()
"""


def script(cfg, mode: str, tmp_path: Path) -> subprocess.Popen:
    """A process of its own (session) that takes one batch, in a folder that is not the repository."""
    keys = ["DATA.PATH_TO_DATA_DIR", "DATA.PATH_PREFIX", "DATA.READER", "DATA.NUM_FRAMES"]
    keys += ["DATA.TRAIN_JITTER_SCALES", "DATA.TRAIN_CROP_SIZE", "DATA.TEST_CROP_SIZE"]
    keys += ["TRAIN.BATCH_SIZE"]
    words = [str(word) for key in keys for word in (key, cfg[key.split(".")[0]][key.split(".")[1]])]
    (tmp_path / "script.py").write_text(textwrap.dedent(SCRIPT))
    command = [sys.executable, "script.py", mode, *words, "DATA_LOADER.NUM_WORKERS", "2"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    return subprocess.Popen(
        command, cwd=tmp_path, env=environment, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


@pytest.mark.parametrize("mode", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_a_process_that_forgets_to_close_its_loader_ends_at_once(
    make_config, tmp_path: Path, mode: str
) -> None:
    process = script(make_config(), mode, tmp_path)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0 and err == ""
    with closing(train_loader(make_config(), World())) as loader:
        assert out.strip() == str(epoch_of(loader, 0)[0]["index"].tolist())


def test_ctrl_c_ends_all_processes_and_prints_one_traceback(make_config, tmp_path: Path) -> None:
    process = script(make_config(), "wait", tmp_path)
    process.stdout.readline()
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert err.count("Traceback") == 1 and err.strip().endswith("KeyboardInterrupt")
    with pytest.raises(ProcessLookupError):  # nobody of the session is left
        os.killpg(process.pid, 0)
