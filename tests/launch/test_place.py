"""From the environment to rank, world and device."""

from __future__ import annotations

import pytest
import torch

from mvit_video.config import load_config
from mvit_video.errors import InputError
from mvit_video.launch.place import (
    Place,
    joined,
    place_from_environment,
    processes_to_start,
    usable_cores,
)

TORCHRUN = {
    "RANK": "5",
    "WORLD_SIZE": "8",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "4",
    "MASTER_ADDR": "node0",
    "MASTER_PORT": "29500",
}


def test_torchrun_says_where_a_process_stands():
    assert place_from_environment(TORCHRUN) == Place(5, 8, 1, 4)


@pytest.mark.parametrize("environment", [{}, {"RANK": "0"}, {"MASTER_ADDR": "node0"}])
def test_without_torchrun_there_is_no_place(environment):
    assert place_from_environment(environment) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"LOCAL_RANK": None}, "not LOCAL_RANK"),
        ({"MASTER_PORT": None}, "not MASTER_PORT"),
        ({"RANK": "8"}, "contradict"),
        ({"LOCAL_RANK": "4"}, "contradict"),
        ({"LOCAL_WORLD_SIZE": "9"}, "contradict"),
        ({"RANK": "first"}, "whole numbers"),
    ],
)
def test_half_an_environment_is_an_error(change, message):
    changed = {**TORCHRUN, **change}
    with pytest.raises(InputError, match=message):
        place_from_environment(
            {name: value for name, value in changed.items() if value is not None}
        )


@pytest.mark.parametrize(
    ("num_gpus", "visible", "processes"), [(-1, 0, 1), (-1, 4, 4), (1, 4, 1), (3, 0, 3), (4, 4, 4)]
)
def test_a_process_per_gpu(monkeypatch, num_gpus, visible, processes):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: visible)
    assert processes_to_start(load_config(None, ["NUM_GPUS", str(num_gpus)])) == processes


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(InputError, match="NUM_GPUS is 4, but 2 are visible"):
        processes_to_start(load_config(None, ["NUM_GPUS", "4"]))


def test_several_machines_need_a_launcher():
    with pytest.raises(InputError, match="torchrun --nnodes 2"):
        processes_to_start(load_config(None, ["NUM_SHARDS", "2"]))


@pytest.mark.parametrize(
    ("asked", "local_size", "threads"), [(3, 1, 3), (0, 1, None), (0, 10_000, 1)]
)
def test_threads_are_asked_for_or_shared_out(asked, local_size, threads):
    before = torch.get_num_threads()
    try:
        place = Place(0, 1, 0, local_size)
        with joined(load_config(None, ["NUM_THREADS", str(asked)]), place) as world:
            assert torch.get_num_threads() == (threads or usable_cores())
            assert (world.rank, world.size) == (0, 1)
            assert world.device.type == ("cuda" if torch.cuda.is_available() else "cpu")
    finally:
        torch.set_num_threads(before)
