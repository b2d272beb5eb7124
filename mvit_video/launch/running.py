"""Whether jobs of an earlier submission are still at work where a new training would write."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from fvcore.common.config import CfgNode

from mvit_video.config.strict_yaml import parse_yaml
from mvit_video.errors import InputError

# Not COMPLETING: the job is over, and a node that hangs can hold it there for hours.
_UNDER_WAY = "PENDING,CONFIGURING,RUNNING,SUSPENDED"


def refuse_second_training(jobs: Path, configs: Sequence[CfgNode]) -> None:
    """Two trainings in one folder would write over each other's log and checkpoints.

    Args:
        jobs: folder that the folders of jobs lie in.
        configs: of the runs that are about to be submitted.

    Raises:
        InputError: a job on Slurm that was submitted to train in one of their OUTPUT_DIRs has not ended.
    """
    wanted = {Path(cfg.OUTPUT_DIR).absolute() for cfg in configs if cfg.TRAIN.ENABLE}
    for job in _jobs_under_way() if wanted and jobs.is_dir() else ():
        for path in (*jobs.glob(f"{job}/config*.yaml"), *jobs.glob(f"{job}_*/config*.yaml")):
            found = parse_yaml(path.read_text(), str(path))
            output = Path(found["OUTPUT_DIR"]).absolute()
            if found["TRAIN"]["ENABLE"] and output in wanted:
                raise InputError(
                    f"job {job} of an earlier submission, which has not ended, writes to {output} too. It goes on by "
                    f"itself after time limits and preemptions; scancel {job} first, or take another OUTPUT_DIR"
                )


def _jobs_under_way() -> list[str]:
    """The caller's jobs, an array once; none where Slurm cannot be asked: it will not take jobs either."""
    command = ["squeue", "--me", "--noheader", f"--states={_UNDER_WAY}", "--format=%F"]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        return []
    return sorted(set(done.stdout.split()))
