"""The same global batch on another number of processes."""

from __future__ import annotations

from pathlib import Path

from fvcore.common.config import CfgNode

from mvit_video.config.loading import parse_config
from mvit_video.errors import InputError
from mvit_video.run_folder import CONFIG_FILE
from mvit_video.train.checkpoint import checkpoint_files, checkpoints_folder


def keep_global_batch(cfg: CfgNode, size: int) -> None:
    """Changes SOLVER.ACCUMULATE_STEPS of a training that goes on with `size` processes instead of another number.

    So that a process has no more videos at a time than before. Nothing is changed for a training that begins.

    Raises:
        InputError: TRAIN.BATCH_SIZE cannot be had with that number of processes.
    """
    file = Path(cfg.OUTPUT_DIR) / CONFIG_FILE
    if not (
        cfg.TRAIN.ENABLE and file.exists() and checkpoint_files(checkpoints_folder(cfg.OUTPUT_DIR))
    ):
        return
    then = parse_config(file.read_text(), str(file))
    before = then.NUM_SHARDS * then.NUM_GPUS
    if before < 1 or before == size or cfg.SOLVER.ACCUMULATE_STEPS != then.SOLVER.ACCUMULATE_STEPS:
        return
    largest = then.TRAIN.BATCH_SIZE // (before * then.SOLVER.ACCUMULATE_STEPS)
    batch = cfg.TRAIN.BATCH_SIZE
    fitting = [
        n for n in range(1, batch + 1) if batch % (size * n) == 0 and batch // (size * n) <= largest
    ]
    if not fitting:
        raise InputError(
            f"the training in {cfg.OUTPUT_DIR} ran on {before} processes with {largest} videos each at a time; its "
            f"TRAIN.BATCH_SIZE {batch} cannot be had on {size} processes: it counts videos per update over all "
            "ranks, and their number must divide it"
        )
    if fitting[0] != cfg.SOLVER.ACCUMULATE_STEPS:
        cfg.SOLVER.ACCUMULATE_STEPS = fitting[0]


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
