"""Looking at every video of a list, in parallel, with what is known already left out."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from mvit_video.data.preparation.journal import Finding, Journal
from mvit_video.data.preparation.probe import Facts, probe
from mvit_video.data.preparation.reencode import reencode, temporary_name
from mvit_video.data.preparation.workers import Abandoned, run_jobs
from mvit_video.errors import InputError, VideoError


@dataclass(frozen=True)
class Examination:
    """How videos are looked at.

    Attributes:
        quick: decode only the first and the last frame.
        reencode: folder for copies (see reencode.py), whose facts are then the findings; None for no copies.
        num_workers: processes.
        timeout: seconds that one video may take before it is abandoned.
    """

    quick: bool = False
    reencode: Path | None = None
    num_workers: int = field(default_factory=lambda: _usable_cores())
    timeout: float = 300.0


def examine(
    paths: Sequence[str], root: Path, how: Examination, journal_file: Path, copies: dict[str, str]
) -> dict[str, Finding]:
    """Facts of each good video, reason of each bad one, by path.

    Args:
        paths: relative to `root`, each once.
        journal_file: holds what earlier runs found; kept up to date.
        copies: where the copy of each path lies under `how.reencode`; empty without.
    """
    journal = Journal(journal_file, {"quick": how.quick, "copies": how.reencode is not None})
    findings: dict[str, Finding] = {}
    jobs = []
    for path in paths:
        source = os.path.join(root, path)
        target = os.path.join(how.reencode, copies[path]) if how.reencode else ""
        known = journal.get(path, source)
        if known is not None and (isinstance(known, str) or not target or os.path.exists(target)):
            findings[path] = known
        else:
            jobs.append(_Job(path, source, target))
    bar = tqdm(total=len(paths), initial=len(findings), unit="video", smoothing=0.05)
    bad = sum(isinstance(finding, str) for finding in findings.values())
    try:
        outcomes = run_jobs(
            partial(_examine_one, quick=how.quick), jobs, how.num_workers, how.timeout
        )
        for job, outcome in outcomes:
            if isinstance(outcome, Abandoned):
                findings[job.path] = outcome.reason
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(temporary_name(job.target))
            else:
                finding = outcome.reason if isinstance(outcome, VideoError) else outcome
                findings[job.path] = finding
                journal.add(job.path, job.source, finding)
            bad += isinstance(findings[job.path], str)
            bar.set_postfix(bad=bad, refresh=False)
            bar.update()
    except OSError as error:
        raise InputError(
            f"{error.filename or how.reencode} cannot be written: {error.strerror}. What was found out is kept: mend "
            "that and give the same command again"
        ) from None
    finally:
        bar.close()
        journal.close()
    return findings


def copy_names(paths: Sequence[str]) -> dict[str, str]:
    """Where the copy of each path lies: the same path as .mp4, or with .mp4 added where two would meet."""
    plain = {path: str(PurePosixPath(path).with_suffix(".mp4")) for path in paths}
    counts: dict[str, int] = {}
    for name in plain.values():
        counts[name] = counts.get(name, 0) + 1
    return {path: name if counts[name] == 1 else f"{path}.mp4" for path, name in plain.items()}


@dataclass(frozen=True)
class _Job:
    path: str
    source: str
    target: str


def _examine_one(job: _Job, quick: bool) -> Facts:
    if not job.target:
        return probe(job.source, quick)
    reencode(job.source, job.target)
    return probe(job.target, quick)


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def facts_row(path: str, facts: Facts) -> dict[str, str | int | float]:
    """A line of a facts file."""
    return {"path": path, **asdict(facts)}
