"""Wrong input ends a job for good, wherever it is found; what Slurm refuses, and who does not come, is told."""

from __future__ import annotations

from pathlib import Path

import pytest
import submitit
import torch

from mvit_video.launch.batch import Request, submit_slurm
from mvit_video.launch.job import Job
from tests.conftest import REPOSITORY
from tests.slurm.cluster import Cluster, logs
from tests.slurm.jobs import OneRankHangs, WrongOnOneRank

WRONG_INPUT = 2


def submit(cluster: Cluster, folder: Path, job: Job, max_failures: int) -> submitit.Job:
    """Two tasks on each of two nodes."""
    (folder / "code").symlink_to(REPOSITORY)
    request = Request(name="wrong", nodes=2, tasks_per_node=2, timeout=5, max_failures=max_failures)
    (submitted,) = submit_slurm(request, str(folder / "jobs" / "%j"), folder, "", [job])
    cluster.jobs.append(submitted.job_id)
    return submitted


def test_a_rank_that_does_not_come_is_named(cluster, tmp_path):
    job = OneRankHangs(folder=str(tmp_path), gpus=0, rank=3)
    submitted = submit(cluster, tmp_path, job, max_failures=0)
    assert cluster.wait(submitted.job_id) == "FAILED"
    log = logs(tmp_path / "jobs", submitted.job_id)
    assert "rank 3 of 4 did not come within 5 s. Those that came are on node1, node2." in log
    assert "after 0 requeues: given up" in log


@pytest.mark.parametrize("rank", [0, 3])
def test_wrong_input_on_one_rank_is_never_requeued(cluster, tmp_path, rank):
    job = WrongOnOneRank(folder=str(tmp_path), gpus=0, rank=rank)
    submitted = submit(cluster, tmp_path, job, max_failures=3)
    assert cluster.wait(submitted.job_id) == "FAILED"
    assert cluster.exit_code(submitted.job_id) == WRONG_INPUT
    assert cluster.restarts(submitted.job_id) == 0
    told = submitted.paths.stdout.read_text()  # rank 0's log, which is the batch script's too
    assert f"rank {rank}: error: there is no list here" in told
    assert "has ended with exit code 2: no requeue" in told


@pytest.mark.skipif(torch.backends.cuda.is_built(), reason="this torch is built for GPUs")
def test_gpus_that_torch_cannot_use_are_an_error(cluster, words, config, tmp_path):
    keys = words("run", SOLVER__MAX_EPOCH=1)
    asked = ("--gpus-per-node=2", "--cpus-per-task=1", "--train")
    (job,) = cluster.submit("--cfg", config, *keys, *asked).jobs
    assert cluster.wait(job) == "FAILED"
    assert cluster.exit_code(job) == WRONG_INPUT
    assert cluster.restarts(job) == 0
    assert "is a build for CPUs" in logs(tmp_path / "run" / "jobs", job)


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ("--partition=nowhere", "Slurm refused the job: invalid partition specified: nowhere"),
        ("--nodes=8", "Slurm refused the job: "),
        ("--mem-gb=4000", "Slurm refused the job: "),
        ("--cpus-per-task=99", "Slurm refused the job: "),
    ],
)
def test_what_slurm_refuses_is_told_plainly(cluster, words, config, tmp_path, option, reason):
    keys = words("run", SOLVER__MAX_EPOCH=1)
    told = cluster.submit("--cfg", config, *keys, "--train", option, expect=2)
    assert f"\nerror: {reason}" in told.err  # after what sbatch itself says
    assert "Traceback" not in told.err
    assert told.jobs == []
    assert list((tmp_path / "run" / "jobs").iterdir()) == []
