"""The same global batch on another number of processes."""

from __future__ import annotations

import logging

from fvcore.common.config import CfgNode

from mvit_video.config.strict_yaml import parse_yaml
from mvit_video.errors import InputError
from mvit_video.train.agreement import on_main
from mvit_video.train.checkpoint import (
    checkpoints_folder,
    find_newest_checkpoint,
    open_training_checkpoint,
)
from mvit_video.world import World

_log = logging.getLogger(__name__)


def steps_to_accumulate(cfg: CfgNode, size: int) -> int:
    """SOLVER.ACCUMULATE_STEPS with which a training goes on in `size` processes: a process never gets more videos at a
    time than it had so far. As `cfg` has it where that holds, and for a training that begins.

    Raises:
        InputError: TRAIN.BATCH_SIZE cannot be had with that number of processes; or no checkpoint can be read.
    """
    asked, batch = cfg.SOLVER.ACCUMULATE_STEPS, cfg.TRAIN.BATCH_SIZE
    newest = find_newest_checkpoint(checkpoints_folder(cfg.OUTPUT_DIR))
    if newest is None:
        return asked
    saved, _ = open_training_checkpoint(newest)
    then, before = parse_yaml(saved["config"], str(newest)), saved["world_size"]
    if batch != then["TRAIN"]["BATCH_SIZE"]:
        return asked  # another training: the trainer refuses it, and says what differs
    largest = batch // (before * then["SOLVER"]["ACCUMULATE_STEPS"])
    fitting = [
        n for n in range(1, batch + 1) if batch % (size * n) == 0 and batch // (size * n) <= largest
    ]
    if not fitting:
        raise InputError(
            f"the training in {cfg.OUTPUT_DIR} ran on {before} processes with {largest} videos each at a time; its "
            f"TRAIN.BATCH_SIZE {batch} cannot be had on {size} processes: it counts videos per update over all "
            "ranks, and their number must divide it"
        )
    return asked if asked in fitting else fitting[0]


def with_global_batch(cfg: CfgNode, world: World) -> CfgNode:
    """The config of a training that may go on with another number of ranks. Raises InputError on every rank."""
    steps = on_main(world, lambda: steps_to_accumulate(cfg, world.size))
    if steps == cfg.SOLVER.ACCUMULATE_STEPS:
        return cfg
    _log.info(
        "SOLVER.ACCUMULATE_STEPS is %d, so that none of the %d ranks has more videos at a time than so far",
        steps,
        world.size,
    )
    cfg = cfg.clone()
    cfg.defrost()
    cfg.SOLVER.ACCUMULATE_STEPS = steps
    cfg.freeze()
    return cfg


def check_ranks(cfg: CfgNode, size: int) -> None:
    """Whether a batch divides evenly among the processes and micro-batches. Raises InputError."""
    if not cfg.TRAIN.ENABLE:
        return
    parts = size * cfg.SOLVER.ACCUMULATE_STEPS
    if cfg.TRAIN.BATCH_SIZE % parts:
        raise InputError(
            f"TRAIN.BATCH_SIZE {cfg.TRAIN.BATCH_SIZE}, the videos per update over all ranks, does not divide "
            f"evenly among {size} processes with SOLVER.ACCUMULATE_STEPS {cfg.SOLVER.ACCUMULATE_STEPS}; "
            f"make it a multiple of {parts}"
        )
