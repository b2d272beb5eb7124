"""Told to stop at any moment, by whomever: the job saves, comes back by itself if it should, and ends with the bits of
the undisturbed run.

Loader workers are alive in all of them: Slurm signals every process of a step.
"""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

from tests.run_processes import has_been_sent, held, last_step, log_lines
from tests.slurm.cluster import call, logs, task_of
from tests.slurm.training import (
    ONE_BY_TWO,
    STEPS,
    TWO_BY_TWO,
    assert_same_bits,
    between_epochs,
    validating,
    wait_for_start,
    within_an_epoch,
)

STOPPED = 75


def test_stopped_at_four_moments_it_comes_back_each_time(cluster, training, undisturbed, tmp_path):
    # With a limit of 5 minutes submitit takes each signal for a time-out, and counts them.
    told = cluster.submit(*training("run"), *TWO_BY_TWO, "--train", "--timeout=5")
    (job,), run = told.jobs, tmp_path / "run"

    def everybody() -> None:
        call("scancel", "--signal=USR2", job)  # as Slurm does before the limit

    def one_rank() -> None:
        os.kill(task_of(job, 3), signal.SIGUSR2)

    moments = (
        (lambda: within_an_epoch(run, 1), everybody),
        (lambda: between_epochs(run), everybody),
        (lambda: within_an_epoch(run, 3), one_rank),
        (lambda: validating(run, logs(run / "jobs", job)), everybody),
    )
    for number, (moment, tell) in enumerate(moments, 1):
        wait_for_start(cluster, run, number, steps=1)
        with held(task_of(job, 0), moment):
            tell()
        stopped = lambda n=number: len(log_lines(run, "stop")) == n  # noqa: E731
        cluster.wait_until(stopped, f"stop {number}")
    assert cluster.wait(job) == "COMPLETED", logs(run / "jobs", job)
    assert_same_bits(run, undisturbed)
    assert cluster.restarts(job) == len(moments)
    log = logs(run / "jobs", job)
    for number in range(1, len(moments) + 1):
        assert f"requeued {number} times so far" in log
        assert f"Requeued job {job} ({30 - number} remaining timeouts)" in log
    assert re.search(r"the validation after \d+ updates is still to come", log)
    assert list(Path(told.folder).glob("failures-*")) == []


def test_the_time_limit_is_kept_and_counted_and_the_same_command_goes_on(
    cluster, training, undisturbed, tmp_path
):
    command = (*training("run"), *TWO_BY_TWO[:-1], "--signal-delay=15", "--train", "--timeout=1")
    told = cluster.submit(*command, "--max-timeouts=1")
    (job,), run = told.jobs, tmp_path / "run"
    wait_for_start(cluster, run, 1)
    task = task_of(job, 3)
    with held(task, lambda: within_an_epoch(run, 5)):  # the others wait for it, until Slurm signals
        cluster.wait_until(lambda: has_been_sent(task, signal.SIGUSR2), "the limit", 60)
    wait_for_start(cluster, run, 2)
    restarts = cluster.restarts(job)
    call("scancel", "--signal=USR2", job)
    assert cluster.wait(job) == "FAILED"
    assert cluster.exit_code(job) == STOPPED
    assert cluster.restarts(job) == restarts
    log = logs(run / "jobs", job)
    assert f"Requeued job {job} (0 remaining timeouts)" in log
    assert "timed-out too many times" in log and "--max-timeouts" in log
    assert f"job {job} has ended with exit code 75: no requeue" in log
    assert len(log_lines(run, "stop")) == 2
    (again,) = cluster.submit(*command, "--timeout=5").jobs
    assert cluster.wait(again) == "COMPLETED", logs(run / "jobs", again)
    assert_same_bits(run, undisturbed)


def test_preempted_it_comes_back(cluster, training, undisturbed, tmp_path):
    partition = ("--partition=scavenge", "--timeout=60")
    told = cluster.submit(*training("run"), *TWO_BY_TWO, "--train", *partition)
    (job,), run = told.jobs, tmp_path / "run"
    wait_for_start(cluster, run, 1)
    call("srun", "--partition=priority", "--nodes=2", "--exclusive", "true")
    assert cluster.wait(job) == "COMPLETED", logs(run / "jobs", job)
    assert_same_bits(run, undisturbed)
    log = logs(run / "jobs", job)
    assert "this job is preempted" in log
    assert "stopped after saving" not in log  # no rank took it for the end
    assert "(30 remaining timeouts)" in log
    assert len(log_lines(run, "stop")) == 1


def test_preempted_by_a_cluster_that_only_terminates_it_comes_back(
    cluster, training, undisturbed, tmp_path
):
    command = (*training("run"), *TWO_BY_TWO, "--train", "--partition=scavenge", "--timeout=60")
    told = cluster.submit(*command, SUBMITIT_PREEMPT_SIGNAL="TERM")
    (job,), run = told.jobs, tmp_path / "run"
    wait_for_start(cluster, run, 1)
    call("srun", "--partition=priority", "--nodes=2", "--exclusive", "true")
    assert cluster.wait(job) == "COMPLETED", logs(run / "jobs", job)
    assert_same_bits(run, undisturbed)
    assert f"job {job} is preempted and has saved: requeue" in logs(run / "jobs", job)
    assert cluster.restarts(job) == len(log_lines(run, "stop")) == 1


def test_a_test_that_is_stopped_comes_back(cluster, words, config, tmp_path):
    run = tmp_path / "run"
    keys = [*words("run", SOLVER__MAX_EPOCH=1, TEST__NUM_ENSEMBLE_VIEWS=20)]
    train, test = cluster.submit("--cfg", config, *keys, *ONE_BY_TWO).jobs
    assert cluster.wait(train) == "COMPLETED", logs(run / "jobs", train)
    testing = lambda: "testing" in logs(run / "jobs", test)  # noqa: E731
    cluster.wait_until(testing, "the test", poll=0.05)
    with held(task_of(test, 0), testing):
        call("scancel", "--signal=USR2", test)
    assert cluster.wait(test) == "COMPLETED", logs(run / "jobs", test)
    assert cluster.restarts(test) == 1
    assert (run / "test" / "metrics.json").exists()


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
    assert last_step(run) == STEPS
    assert [x["step"] for x in log_lines(run, "step")] == list(range(1, STEPS + 1))
