"""From what Slurm says to a task to its place, and to where the ranks meet."""

from __future__ import annotations

import socket
import threading
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st

from mvit_video.errors import InputError
from mvit_video.launch.meeting import RanksMissing, meeting_store, roll_call
from mvit_video.launch.place import Place, device_of, place_from_environment
from mvit_video.launch.slurm import expand_counts, expand_hosts, meeting_port

STEP = {
    "SLURM_JOB_ID": "77",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NUM_TASKS": "7",
    "SLURM_STEP_TASKS_PER_NODE": "3(x2),1",
    "SLURM_STEP_NODELIST": "gpu[08-10]",
    "SLURM_PROCID": "4",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
    "SLURM_CPUS_PER_TASK": "10",
}


def test_slurm_says_where_a_task_stands():
    assert place_from_environment(STEP) == Place(4, 7, 1, 3, ("gpu08", meeting_port(STEP)), 10)


def test_a_batch_script_and_a_lone_task_are_no_rank_of_several():
    script = {"SLURM_JOB_ID": "77", "SLURM_PROCID": "0", "SLURM_NTASKS": "4"}
    assert place_from_environment(script) is None
    assert place_from_environment({**STEP, "SLURM_STEP_NUM_TASKS": "1"}) is None


def test_torchrun_inside_a_step_is_asked_first():
    torchrun = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}
    address = {"MASTER_ADDR": "gpu08", "MASTER_PORT": "29500"}
    assert place_from_environment({**STEP, **torchrun, **address}) == Place(5, 8, 1, 4)


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("node1", ["node1"]),
        ("a,b-2", ["a", "b-2"]),
        ("gpu[08-10,12],big", ["gpu08", "gpu09", "gpu10", "gpu12", "big"]),
        ("r[1-2]n[0-1].lan", ["r1n0.lan", "r1n1.lan", "r2n0.lan", "r2n1.lan"]),
    ],
)
def test_host_lists_are_expanded(text, hosts):
    assert expand_hosts(text) == hosts


@given(st.lists(st.tuples(st.integers(1, 16), st.integers(1, 40)), min_size=1))
def test_counts_are_expanded(runs):
    text = ",".join(f"{count}(x{times})" if times > 1 else f"{count}" for count, times in runs)
    assert expand_counts(text) == [count for count, times in runs for _ in range(times)]


def test_counts_of_another_form_are_an_error():
    with pytest.raises(InputError, match="not like"):
        expand_counts("2(x3),many")


def test_a_requeued_job_meets_at_another_port():
    ports = {meeting_port({**STEP, "SLURM_RESTART_COUNT": str(n)}) for n in range(20)}
    assert len(ports) > 15
    assert all(12_000 <= port < 32_000 for port in ports)


@pytest.mark.parametrize(
    ("place", "visible", "device"),
    [
        (Place(3, 16, 3, 8), 8, "cuda:3"),  # all are shown
        (Place(3, 16, 3, 8), 1, "cuda:0"),  # only its own
        (Place(), 4, "cuda:0"),
        (Place(3, 16, 3, 8), 0, "cpu"),
    ],
)
def test_the_gpu_of_a_rank(monkeypatch, place, visible, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: visible > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: visible)
    assert device_of(place) == torch.device(device)


@pytest.mark.parametrize(
    ("place", "visible", "message"),
    [
        (Place(3, 16, 3, 8), 4, "8 ranks on this machine, but 4 GPUs"),
        (Place(1, 2, 0, 1, ("node1", 12345)), 8, "start one task per GPU"),
    ],
)
def test_shared_and_idle_gpus_are_errors(monkeypatch, place, visible, message):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: visible)
    with pytest.raises(InputError, match=message):
        device_of(place)


def test_ranks_that_do_not_come_are_named_to_all_that_do():
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    told: dict[int, str] = {}

    def come(rank: int) -> None:
        client = dist.TCPStore("127.0.0.1", store.port, is_master=False)
        try:
            roll_call(client, rank, 4, timedelta(seconds=1))
        except RanksMissing as error:
            told[rank] = str(error)

    threads = [threading.Thread(target=come, args=(rank,)) for rank in (0, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told.keys() == {0, 2}
    for message in told.values():
        assert "rank 1, 3 of 4 did not come within 1 s" in message
        assert socket.gethostname() in message


def test_all_ranks_are_let_through():
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    threads = [
        threading.Thread(
            target=roll_call,
            args=(dist.TCPStore("127.0.0.1", store.port), rank, 3, timedelta(seconds=20)),
        )
        for rank in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.check([f"here/{rank}" for rank in range(3)])


def test_a_rank_0_that_does_not_answer_is_told():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = ("127.0.0.1", unused.getsockname()[1])
    with pytest.raises(RanksMissing, match=f"rank 0 did not answer .* at 127.0.0.1:{address[1]}"):
        meeting_store(1, 2, address, timedelta(seconds=1))


def test_rank_0_that_cannot_listen_is_told():
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        address = ("127.0.0.1", taken.getsockname()[1])
        with pytest.raises(RanksMissing, match="rank 0 cannot listen"):
            meeting_store(0, 2, address, timedelta(seconds=1))
