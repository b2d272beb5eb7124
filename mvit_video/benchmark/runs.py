"""Whole runs, data included: a training on one or several processes, and a multi-view test."""

from __future__ import annotations

import contextlib
import io
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch.distributed as dist
from fvcore.common.config import CfgNode

from mvit_video.benchmark.measure import begin, in_fresh_process, median_and_spread, ratio
from mvit_video.build import build_model
from mvit_video.data.preprocessing import Preprocessing
from mvit_video.evaluate.test import run_test
from mvit_video.launch.place import Place, joined
from mvit_video.train.log import LOG_FILE
from mvit_video.train.loop import train

_WARM_UP = 3  # updates, in which loader workers wake up and memory is found


class _StopAfter:
    """Asks a training to stop after so many updates: it looks once after each."""

    def __init__(self, updates: int) -> None:
        self._left = updates

    @property
    def requested(self) -> bool:
        self._left -= 1
        return self._left <= 0


def benchmark_training(
    cfg: CfgNode, processes: Sequence[int] = (1,), updates: int = 20, rounds: int = 3
) -> dict[str, Any]:
    """Times the updates of a real training on the config's list: reading, augmenting, forward, backward, optimiser.

    Args:
        cfg: of the training. The global batch stays what it is, however many processes share it.
        processes: numbers of processes on this machine to compare.
        updates: per round, after three to warm up.
        rounds: runs for each number of processes, taken in turn.

    Returns:
        Plain values: in `candidates`, for each number of processes, clips per second, the share of the time spent
        waiting for data, and of the device's matrix-product peak; in `ratios`, the time of the others over that of
        the first.

    Raises:
        InputError: the list, or a batch that does not divide over the processes.
    """
    _, described = begin(cfg, training=True)
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # as a spawned run does
    runs: dict[int, list[dict[str, float]]] = {size: [] for size in processes}
    for number in range(rounds):
        for size in processes if number % 2 == 0 else reversed(processes):
            runs[size].append(_train(cfg, size, updates))
    seconds = {size: [1 / run["clips_per_second"] for run in runs[size]] for size in processes}
    first, *others = processes
    return {
        **described,
        "updates": updates,
        "rounds": rounds,
        "candidates": {_name(size): _medians(runs[size]) for size in processes},
        "ratios": {_name(size): ratio(seconds[size], seconds[first]) for size in others},
    }


def _name(size: int) -> str:
    return f"{size} process" if size == 1 else f"{size} processes"


def _medians(runs: list[dict[str, float]]) -> dict[str, float]:
    medians = {name: median_and_spread([run[name] for run in runs])[0] for name in runs[0]}
    spread = median_and_spread([run["clips_per_second"] for run in runs])[1]
    return {**medians, "spread": spread}


def _train(cfg: CfgNode, size: int, updates: int) -> dict[str, float]:
    """What the log says of one run in `size` fresh processes."""
    with tempfile.TemporaryDirectory() as folder:
        run = _changed(cfg, "OUTPUT_DIR", folder, "LOG_PERIOD", 1, "TRAIN.EVAL_PERIOD", 0)
        store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        with ProcessPoolExecutor(size, multiprocessing.get_context("spawn")) as pool:
            ranks = [
                pool.submit(_train_rank, run, rank, size, store.port, updates)
                for rank in range(size)
            ]
            for rank in ranks:
                rank.result()
        lines = (Path(folder) / LOG_FILE).read_text(encoding="utf-8").splitlines()
    steps = [step for step in map(json.loads, lines) if step["kind"] == "step"][_WARM_UP:]
    result = {
        "clips_per_second": median_and_spread([step["clips_per_second"] for step in steps])[0],
        "data_share": sum(step["data_share"] for step in steps) / len(steps),
    }
    if "mfu" in steps[0]:
        result["share_of_matmul_peak"] = median_and_spread([step["mfu"] for step in steps])[0]
    return result


def _train_rank(cfg: CfgNode, rank: int, size: int, port: int, updates: int) -> None:
    store = dist.TCPStore("127.0.0.1", port, is_master=False)
    with joined(cfg, Place(rank, size, rank, size), store) as world:
        train(cfg, world, _StopAfter(updates + _WARM_UP))


def benchmark_test(cfg: CfgNode, rounds: int = 3) -> dict[str, Any]:
    """Times a real multi-view test of the config's list, from starting the loader to the written metrics.

    Args:
        cfg: of the test; the weights are random, which costs as much.
        rounds: tests, each in a fresh process.

    Returns:
        Plain values: in `candidates`, videos and views per second.

    Raises:
        InputError: the list.
    """
    _, described = begin(cfg, training=False)
    views = cfg.TEST.NUM_ENSEMBLE_VIEWS * cfg.TEST.NUM_SPATIAL_CROPS
    runs = [in_fresh_process(_test, cfg) for _ in range(rounds)]
    rate, spread = median_and_spread([videos / seconds for videos, seconds in runs])
    return {
        **described,
        "videos": runs[0][0],
        "views": views,
        "rounds": rounds,
        "candidates": {
            "test": {"videos_per_second": rate, "clips_per_second": rate * views, "spread": spread}
        },
        "ratios": {},
    }


def _test(cfg: CfgNode) -> tuple[int, float]:
    """Videos that were scored, and the seconds it took."""
    with tempfile.TemporaryDirectory() as folder, joined(cfg, Place(), None) as world:
        run = _changed(cfg, "OUTPUT_DIR", folder)
        model = build_model(run).to(world.device)
        never = SimpleNamespace(requested=False)
        start = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):
            metrics = run_test(run, model, Preprocessing.from_config(run), world, never)
        return metrics["num_scored"], time.perf_counter() - start


def _changed(cfg: CfgNode, *keys_and_values: Any) -> CfgNode:
    copy = cfg.clone()
    copy.defrost()
    copy.merge_from_list(list(keys_and_values))
    copy.freeze()
    return copy
