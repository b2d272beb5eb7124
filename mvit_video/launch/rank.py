"""One process of a run."""

from __future__ import annotations

import logging
import sys

import torch.distributed as dist
from fvcore.common.config import CfgNode

from mvit_video.launch.place import Place, joined
from mvit_video.launch.stop import StopFlag


def run_rank(cfg: CfgNode, place: Place, stop: StopFlag, store: dist.Store | None = None) -> int:
    """What one process of a run does from beginning to end; returns the run's exit code.

    Args:
        store: where the ranks meet; None for the one that the environment names.
    """
    from mvit_video.launch.phases import STOPPED, run_phases

    log_to_stderr(place.rank)
    with joined(cfg, place, store) as world:
        code = run_phases(cfg, world, stop)
        if code == STOPPED:
            stop.requeue = world.any(stop.requeue)  # a signal may have reached some ranks only
        return code


def log_to_stderr(rank: int) -> None:
    """Rank 0 tells how it goes, the others only what is wrong. What a caller has set up stays."""
    logger = logging.getLogger("mvit_video")
    if logger.handlers:
        return
    handler = logging.StreamHandler(sys.stderr)
    name = f" rank {rank}" if rank else ""
    handler.setFormatter(logging.Formatter(f"%(asctime)s{name} %(message)s", "%H:%M:%S"))
    logger.addHandler(handler)
    logger.setLevel(logging.WARNING if rank else logging.INFO)
