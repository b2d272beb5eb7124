"""A run, in as many processes as it takes.

here         one process: one GPU, or the CPU
spawned      NUM_GPUS above 1: this process starts one per GPU (on a machine without GPUs, that many on the CPU)
torchrun     it has started this process as one rank of several
srun         Slurm has started this process as one task of a step
"""

from __future__ import annotations

import contextlib
import os

from fvcore.common.config import CfgNode

from mvit_video.launch.place import Place, place_from_environment, processes_to_start
from mvit_video.launch.preflight import check_run
from mvit_video.launch.rank import run_rank
from mvit_video.launch.spawn import spawn
from mvit_video.launch.stop import StopFlag
from mvit_video.processes import die_with_parent


def run(cfg: CfgNode, stop: StopFlag | None = None) -> int:
    """Trains and tests as `cfg` says, in this process or in those it starts.

    Args:
        stop: that already listens; None to listen for as long as the run lasts.

    Returns:
        The exit code: 0 done, 1 some test videos could not be decoded, 75 stopped after saving.

    Raises:
        InputError: what the user can put right, whichever process found it.
        RankFailed: a process that this one started has failed otherwise.
    """
    place = place_from_environment(os.environ)
    check_run(cfg)
    with contextlib.nullcontext(stop) if stop else StopFlag() as stop:
        if place is None and (size := processes_to_start(cfg)) > 1:
            return spawn(cfg, size, stop)
        if "TORCHELASTIC_RUN_ID" in os.environ:
            die_with_parent(os.getppid())
        return run_rank(cfg, place or Place(), stop)
