"""What a submission leaves on disk before its jobs start: the config, the command, the state of the code, the code.

    JOBS/submitted-DATE-TIME/  config.yaml (one per job of a sweep), command.txt, git.txt, git.diff, code/
    JOBS/JOB/                  links to these, and what submitit and the job write

Jobs run from code/, so later edits in the checkout do not reach them.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence, Set
from datetime import datetime
from pathlib import Path

from mvit_video.errors import InputError

_PACKAGE = Path(__file__).resolve().parent.parent
_ROOT = _PACKAGE.parent  # the checkout, or site-packages
_FOLDERS = (
    "configs",
    "data_lists",
    "tools",
)  # beside the package in a checkout, inside it when installed
_UNIQUE_TRIES = 1000
_UNCLAIMED = re.compile(r"[0-9a-f]{32}\.pkl|\.submission_file_[0-9a-f]{32}\.sh")


def jobs_folder(job_dir: str) -> Path:
    """The folder that all job folders of `job_dir`, such as "output/jobs/%j", lie in."""
    return Path(job_dir.split("%j")[0]).absolute()


def stage(jobs: Path, configs: Sequence[str], command: Sequence[str]) -> Path:
    """A new folder that holds what a submission leaves.

    Raises:
        InputError: it cannot be written.
    """
    folder = None
    try:
        folder = _new_folder(jobs, datetime.now())
        _record(folder, configs, command)
    except OSError as error:
        if folder:
            shutil.rmtree(folder, ignore_errors=True)
        raise InputError(
            f"the jobs' files cannot be written to {jobs}: {error}. OUTPUT_DIR and --job-dir say where they go"
        ) from error
    return folder


def remove_unclaimed(jobs: Path, before: Set[Path]) -> None:
    """Removes what submitit has prepared since `before` for jobs that were then refused."""
    for path in unclaimed(jobs) - before:
        path.unlink(missing_ok=True)


def unclaimed(jobs: Path) -> set[Path]:
    """Files that submitit will move to a job's folder once the job has an id."""
    return {path for path in jobs.iterdir() if _UNCLAIMED.fullmatch(path.name)}


def _new_folder(jobs: Path, now: datetime) -> Path:
    """An empty folder for a submission, named after the time."""
    for number in range(_UNIQUE_TRIES):
        suffix = f"-{number}" if number else ""
        folder = jobs / f"submitted-{now:%Y%m%d-%H%M%S}{suffix}"
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            continue
    raise FileExistsError(f"{jobs} is full of submissions")


def _record(folder: Path, configs: Sequence[str], command: Sequence[str]) -> None:
    """Fills the folder of a submission."""
    for number, config in enumerate(configs):
        name = "config.yaml" if len(configs) == 1 else f"config-{number}.yaml"
        (folder / name).write_text(config)
    (folder / "command.txt").write_text(f"cd {shlex.quote(os.getcwd())}\n{shlex.join(command)}\n")
    (folder / "git.txt").write_text(
        _git("log", "-1", "--format=commit %H%n%cI %s") + _git("status", "--short")
    )
    (folder / "git.diff").write_text(_git("diff", "HEAD"))
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
    shutil.copytree(_PACKAGE, folder / "code" / _PACKAGE.name, ignore=ignored)
    for name in _FOLDERS:
        if (_ROOT / "setup.py").exists() and (_ROOT / name).is_dir():
            shutil.copytree(_ROOT / name, folder / "code" / name, ignore=ignored)


def link(folder: Path, job_folder: Path) -> None:
    """Shows a submission's files in the folder of one of its jobs."""
    if job_folder == folder.parent:
        return
    job_folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        name = job_folder / path.name
        if not name.is_symlink():
            name.symlink_to(os.path.relpath(path, job_folder))


def _git(*words: str) -> str:
    """What git says about the code, or that it does not know it."""
    command = ["git", "-C", str(_ROOT), *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    except FileNotFoundError:
        return "there is no git here\n"
    return done.stdout if done.returncode == 0 else f"no git checkout: {done.stderr}"
