"""Runs on two nodes: the bits of one machine, also when tasks and nodes die.

Loader workers are alive in all of them: Slurm signals every process of a step.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from tests.conftest import REPOSITORY
from tests.slurm.cluster import environment, logs, task_of
from tests.slurm.training import STEPS, TWO_BY_TWO, assert_same_bits, wait_for_start

RUN_NET = str(REPOSITORY / "tools" / "run_net.py")


def test_two_nodes_train_and_test_like_one_machine(cluster, training, undisturbed, tmp_path):
    train, test = cluster.submit(*training("run"), *TWO_BY_TWO).jobs
    run = tmp_path / "run"
    second = cluster.submit(*training("run"), *TWO_BY_TWO, expect=2)
    assert f"which has not ended, writes to {run} too" in second.err
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


def test_a_killed_task_ends_the_others_and_the_job_goes_on(
    cluster, training, undisturbed, tmp_path
):
    told = cluster.submit(*training("run"), *TWO_BY_TWO, "--train")
    (job,), run = told.jobs, tmp_path / "run"
    wait_for_start(cluster, run, 1)
    os.kill(task_of(job, 3), signal.SIGKILL)
    assert cluster.wait(job) == "COMPLETED", logs(run / "jobs", job)
    assert_same_bits(run, undisturbed)
    log = logs(run / "jobs", job)
    assert "task 3: Killed" in log
    assert "requeue 1 of at most 3" in log
    assert cluster.restarts(job) == 1


def test_a_node_that_dies_is_noticed_and_the_job_goes_on(cluster, training, undisturbed, tmp_path):
    told = cluster.submit(*training("run"), *TWO_BY_TWO, "--train")
    (job,), run = told.jobs, tmp_path / "run"
    wait_for_start(cluster, run, 1)
    with cluster.node_down(2):
        os.kill(task_of(job, 3), signal.SIGSTOP)  # a node that is gone says nothing to its peers
        cluster.wait_until(lambda: cluster.state(job) == "PENDING", f"{job} to be requeued")
    assert cluster.wait(job) == "COMPLETED", logs(run / "jobs", job)
    assert cluster.restarts(job) == 1
    assert "DUE TO NODE FAILURE" in logs(run / "jobs", job)
    assert_same_bits(run, undisturbed)
