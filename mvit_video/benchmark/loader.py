"""Training clips from files: how many a second the loader delivers, with this reader and with others."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from contextlib import ExitStack, closing
from typing import Any

import torch
from fvcore.common.config import CfgNode

from mvit_video.benchmark.measure import alternate, median_and_spread, peak_resident_mib, ratio
from mvit_video.data.loader import TrainLoader, train_loader
from mvit_video.data.readers import READERS
from mvit_video.world import World

AGAINST = READERS


def benchmark_loader(
    cfg: CfgNode, against: Sequence[str] = (), batches: int = 8, rounds: int = 7
) -> dict[str, Any]:
    """Times the end of a training epoch, in alternation with the same clips through other readers.

    A round reads the last `batches` updates of the epoch with workers that are awake but idle: filling the pipeline
    counts, and nothing is read ahead for a later round.

    Args:
        cfg: names the list, the batch, the reader and the workers.
        against: other readers, names of AGAINST.

    Returns:
        Plain values, as `benchmark_model`. Memory is that of the largest process that decodes.
    """
    ours = cfg.DATA.READER
    readers = list(dict.fromkeys((ours, *against)))
    with ExitStack() as stack:
        loaders = {
            reader: stack.enter_context(closing(train_loader(_with_reader(cfg, reader), World())))
            for reader in readers
        }
        workers = {reader: _start_workers(loader) for reader, loader in loaders.items()}
        jobs = {reader: lambda loader=loaders[reader]: _read(loader, batches) for reader in readers}
        seconds = alternate(jobs, rounds, torch.device("cpu"))
        memory = {
            reader: max(map(peak_resident_mib, pids), default=peak_resident_mib())
            for reader, pids in workers.items()
        }
        clips = _num_clips(cfg, loaders[ours], batches)
    candidates = {}
    for reader in readers:
        median, spread = median_and_spread(seconds[reader])
        candidates[reader] = {
            "clips_per_second": clips / median,
            "ms_per_clip": 1000 * median / clips,
            "spread": spread,
            "peak_memory_mib": memory[reader],
        }
    return {
        "clips_per_round": clips,
        "rounds": rounds,
        "workers": len(workers[ours]),
        "candidates": candidates,
        "ratios": {
            reader: {
                **ratio(seconds[reader], seconds[ours]),
                "peak_memory": memory[reader] / memory[ours],
            }
            for reader in readers[1:]
        },
    }


def _with_reader(cfg: CfgNode, reader: str) -> CfgNode:
    cfg = cfg.clone()
    cfg.defrost()
    cfg.DATA.READER = reader
    return cfg


def _start_workers(loader: TrainLoader) -> list[int]:
    """Process ids of the loader's workers, which the first iteration starts."""
    before = set(multiprocessing.active_children())
    _read(loader, 1)
    return [child.pid for child in multiprocessing.active_children() if child not in before]


def _read(loader: TrainLoader, batches: int) -> None:
    """The last updates of an epoch."""
    order = loader.order
    first = max(order.steps_per_epoch - batches, 0)
    loader.set_position(epoch=0, consumed_samples=first * order.batch_size)
    for _ in loader:
        pass


def _num_clips(cfg: CfgNode, loader: TrainLoader, batches: int) -> int:
    return min(batches, loader.order.steps_per_epoch) * cfg.TRAIN.BATCH_SIZE * cfg.AUG.NUM_SAMPLE
