"""Files that hang or crash a decoder cost a worker process, and nothing else."""

from __future__ import annotations

import multiprocessing
import time

import pytest

from mvit_video.data.preparation.workers import Abandoned, run_jobs
from mvit_video.errors import VideoError
from tests.data.preparation.jobs import work


def test_every_job_has_its_outcome_whatever_happens_to_the_workers() -> None:
    good = [f"good {k}" for k in range(12)]
    jobs = [*good[:4], "hang", "crash", *good[4:8], "bad", "leave", *good[8:]]
    begin = time.monotonic()
    outcomes = dict(run_jobs(work, jobs, num_workers=2, timeout=6.0))
    assert set(outcomes) == set(jobs)
    assert all(outcomes[job] == job.upper() for job in good)
    assert outcomes["hang"] == Abandoned("abandoned after 6 s without an end")
    assert outcomes["crash"] == Abandoned("the decoder crashed (SIGSEGV)")
    assert outcomes["leave"] == Abandoned("the decoder crashed (exit code 3)")
    assert isinstance(outcomes["bad"], VideoError) and outcomes["bad"].reason == "is bad"
    assert time.monotonic() - begin < 40
    assert not multiprocessing.active_children()


def test_a_disk_that_is_full_ends_it_and_the_workers() -> None:
    with pytest.raises(OSError, match="No space left"):
        list(run_jobs(work, ["a", "b", "full disk", "c"], num_workers=2, timeout=30.0))
    assert not multiprocessing.active_children()


def test_workers_end_when_nobody_wants_more_outcomes() -> None:
    outcomes = run_jobs(work, (f"job {k}" for k in range(100)), num_workers=2, timeout=30.0)
    next(outcomes)
    outcomes.close()
    assert not multiprocessing.active_children()


def test_no_jobs_start_no_workers() -> None:
    assert list(run_jobs(work, [], num_workers=2, timeout=1.0)) == []
