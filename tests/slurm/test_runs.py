"""Runs on two nodes: the bits of one machine, whatever befalls the job.

Loader workers are alive in all of them: Slurm signals every process of a step.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.run_processes import last_step, log_lines
from tests.slurm.cluster import Cluster, call, environment, logs
from tests.train.test_resume import differences, final_state

RUN_NET = str(REPOSITORY / "tools" / "run_net.py")
EPOCHS, STEPS = 10, 60
TWO_BY_TWO = ("--nodes=2", "--tasks-per-node=2", "--cpus-per-task=2", "--signal-delay=60")
ONE_BY_TWO = ("--nodes=1", *TWO_BY_TWO[1:])


@pytest.fixture
def training(words, config) -> Callable[..., list[str]]:
    """The command line of the training that all tests here do."""

    def make(output: str, **changes: object) -> list[str]:
        keys = {"SOLVER__MAX_EPOCH": EPOCHS, "TRAIN__BATCH_SIZE": 4, "NUM_THREADS": 1, **changes}
        return ["--cfg", config, *words(output, **keys)]

    return make


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory, keys, config) -> Path:
    """Its output on one machine: torchrun with 4 processes."""
    output = tmp_path_factory.mktemp("torchrun")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=4"]
    words = keys(str(output), SOLVER__MAX_EPOCH=EPOCHS, TRAIN__BATCH_SIZE=4, NUM_THREADS=1)
    done = subprocess.run(
        [*torchrun, RUN_NET, "--cfg", config, *words, "TEST.ENABLE", "False"],
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return output


def assert_same_bits(output: Path, undisturbed: Path) -> None:
    assert not differences(final_state(undisturbed), final_state(output))
    steps = [[(x["step"], x["loss"]) for x in log_lines(o, "step")] for o in (output, undisturbed)]
    assert steps[0] == steps[1]
    assert [step for step, _ in steps[0]] == list(range(1, STEPS + 1))


def wait_for_start(cluster: Cluster, output: Path, number: int, steps: int = 4) -> None:
    """Until the run has started `number` times and done a few steps more than before."""

    def under_way() -> bool:
        starts = log_lines(output, "start", "resume")
        return len(starts) >= number and last_step(output) >= starts[-1]["step"] + steps

    cluster.wait_until(under_way, f"start {number} of {output}", poll=0.05)


def test_two_nodes_train_and_test_like_one_machine(cluster, training, undisturbed, tmp_path):
    told = cluster.submit(*training("run"), *TWO_BY_TWO)
    train, test = told.jobs
    run = tmp_path / "run"
    assert cluster.wait(test) == "COMPLETED", logs(run / "jobs", train)
    assert cluster.state(train) == "COMPLETED"
    assert_same_bits(run, undisturbed)
    assert "starts on node1, node2 with 4 tasks" in logs(run / "jobs", train)
    # One process, without Slurm, tests the same weights.
    weights = str(run / "checkpoints" / f"step_{STEPS:08d}.pt")
    words = training("alone", TRAIN__ENABLE=False, TEST__CHECKPOINT_FILE_PATH=weights)
    alone = subprocess.run(
        [sys.executable, RUN_NET, *words],
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert alone.returncode == 0, alone.stderr
    files = [tmp_path / name / "test" / "predictions.npz" for name in ("run", "alone")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_told_to_stop_three_times_it_is_requeued_and_ends_with_the_same_bits(
    cluster, training, undisturbed, tmp_path
):
    # With a limit of 5 minutes submitit takes each signal for a time-out, and counts them.
    told = cluster.submit(*training("run"), *TWO_BY_TWO, "--train", "--timeout=5")
    (job,), run = told.jobs, tmp_path / "run"
    for number in (1, 2, 3):
        wait_for_start(cluster, run, number)
        call("scancel", "--signal=USR2", job)  # as Slurm does before the limit
        stopped = lambda n=number: len(log_lines(run, "stop")) == n  # noqa: E731
        cluster.wait_until(stopped, f"stop {number}")
    assert cluster.wait(job) == "COMPLETED", logs(run / "jobs", job)
    assert_same_bits(run, undisturbed)
    assert cluster.restarts(job) == 3
    log = logs(run / "jobs", job)
    for number in (1, 2, 3):
        assert f"requeued {number} times so far" in log
        assert f"Requeued job {job} ({30 - number} remaining timeouts)" in log
    moments = {line["epoch"] for line in log_lines(run, "stop")}
    assert len(moments) == 3 and any(epoch % 1 for epoch in moments)
    assert list(Path(told.folder).glob("failures-*")) == []


def test_preempted_it_comes_back_and_ends_with_the_same_bits(
    cluster, training, undisturbed, tmp_path
):
    partition = ("--partition=scavenge", "--timeout=60")
    told = cluster.submit(*training("run"), *TWO_BY_TWO, "--train", *partition)
    (job,), run = told.jobs, tmp_path / "run"
    wait_for_start(cluster, run, 1)
    call("srun", "--partition=priority", "--nodes=2", "--exclusive", "true")
    assert cluster.wait(job) == "COMPLETED", logs(run / "jobs", job)
    assert_same_bits(run, undisturbed)
    log = logs(run / "jobs", job)
    assert "this job is preempted" in log
    assert "(30 remaining timeouts)" in log
    assert len(log_lines(run, "stop")) == 1


def task_of(job: str, rank: int) -> int:
    """Process id of a task. All nodes are on this machine."""
    for environ in Path("/proc").glob("[0-9]*/environ"):
        try:
            variables = environ.read_bytes().split(b"\0")
            command = environ.with_name("cmdline").read_bytes()
            parent = environ.with_name("stat").read_text().rsplit(")", 1)[1].split()[1]
            above = Path(f"/proc/{parent}/comm").read_text()
        except OSError:
            continue
        wanted = {f"SLURM_JOB_ID={job}".encode(), f"SLURM_PROCID={rank}".encode()}
        if b"submitit" in command and wanted <= set(variables) and "slurmstepd" in above:
            return int(environ.parent.name)
    raise AssertionError(f"job {job} has no task {rank}")


def test_a_killed_task_ends_the_others_and_the_job_goes_on(
    cluster, training, undisturbed, tmp_path
):
    told = cluster.submit(*training("run"), *TWO_BY_TWO, "--train")
    (job,), run = told.jobs, tmp_path / "run"
    wait_for_start(cluster, run, 1)
    os.kill(task_of(job, 3), 9)
    assert cluster.wait(job) == "COMPLETED", logs(run / "jobs", job)
    assert_same_bits(run, undisturbed)
    log = logs(run / "jobs", job)
    assert "task 3: Killed" in log
    assert "requeue 1 of at most 3" in log
    assert cluster.restarts(job) == 1


def test_scancel_saves_and_ends_it_and_half_the_nodes_go_on(cluster, training, tmp_path):
    told = cluster.submit(*training("run", TRAIN__CHECKPOINT_STEPS=0), *TWO_BY_TWO)
    (train, test), run = told.jobs, tmp_path / "run"
    wait_for_start(cluster, run, 1)
    call("scancel", train)
    assert cluster.wait(train) == "CANCELLED"
    cluster.wait_until(lambda: bool(log_lines(run, "stop")), "the last checkpoint", 20)
    stopped = log_lines(run, "stop")[-1]["step"]
    assert 4 <= stopped < STEPS
    assert (run / "checkpoints" / f"step_{stopped:08d}.pt").exists()
    assert cluster.wait(test) == "CANCELLED"  # what waits for it will never come
    assert cluster.restarts(train) == 0
    # The same command with one node: each process takes two micro-batches where it took one.
    told = cluster.submit(*training("run", TRAIN__CHECKPOINT_STEPS=0), *ONE_BY_TWO, "--train")
    (again,) = told.jobs
    assert cluster.wait(again) == "COMPLETED", logs(run / "jobs", again)
    assert "SOLVER.ACCUMULATE_STEPS was 1 and is now 2" in logs(run / "jobs", again)
    assert [x["step"] for x in log_lines(run, "step")] == list(range(1, STEPS + 1))


def test_a_node_that_dies_is_noticed_and_the_job_goes_on(cluster, training, undisturbed, tmp_path):
    told = cluster.submit(*training("run", SOLVER__MAX_EPOCH=EPOCHS), *TWO_BY_TWO, "--train")
    (job,), run = told.jobs, tmp_path / "run"
    wait_for_start(cluster, run, 1)
    with cluster.node_down(2):
        os.kill(task_of(job, 3), 19)  # SIGSTOP: a node that is gone says nothing to its peers
        cluster.wait_until(lambda: cluster.state(job) == "PENDING", f"{job} to be requeued")
    assert cluster.wait(job) == "COMPLETED", logs(run / "jobs", job)
    assert cluster.restarts(job) == 1
    assert "DUE TO NODE FAILURE" in logs(run / "jobs", job)
    assert_same_bits(run, undisturbed)
