"""What is measured beside the training: its speed, alone and as a share of the device's; memory; the time left."""

from __future__ import annotations

import contextlib
import resource
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple

import torch
from fvcore.common.config import CfgNode
from torch import nn

from mvit_video.models.cost import TRAINING_STEP, count_multiply_adds, matmul_job

_PEAK_TRIES = 3


class Speed(NamedTuple):
    """Of one rank, between two readings.

    Attributes:
        clips_per_second: trained.
        data_seconds: spent waiting for data.
        data_share: of the time, 0 ... 1, that was.
    """

    clips_per_second: float
    data_seconds: float
    data_share: float


class Throughput:
    """Clips and seconds since the last reading."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Forgets what was measured; after a pause that is no training."""
        self._begin, self._clips, self._waited = time.monotonic(), 0, 0.0

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Around what waits for data."""
        begin = time.monotonic()
        try:
            yield
        finally:
            self._waited += time.monotonic() - begin

    def add(self, clips: int) -> None:
        """Clips that an update of this rank took."""
        self._clips += clips

    def read(self) -> Speed:
        """The speed since the last reading."""
        elapsed = max(time.monotonic() - self._begin, 1e-9)
        reading = Speed(self._clips / elapsed, self._waited, self._waited / elapsed)
        self.restart()
        return reading


class Pace:
    """Time that is left, at the pace of this process so far: validations and checkpoints included."""

    def __init__(self, step: int, total_steps: int) -> None:
        self._total = total_steps
        self.restart(step)

    def restart(self, step: int) -> None:
        """Begins to measure at `step`; after the run has gone back."""
        self._begin, self._first = time.monotonic(), step

    def seconds_left(self, step: int) -> float | None:
        """None before the first update."""
        if step == self._first:
            return None
        pace = (time.monotonic() - self._begin) / (step - self._first)
        return round(pace * (self._total - step), 1)


def full_speed(model: nn.Module, cfg: CfgNode, device: torch.device) -> tuple[float | None, str]:
    """Training clips per second if this device did nothing but the model's multiply-adds, at its matrix product's pace.

    What a training reaches of that is its model FLOP/s utilisation (MFU, arXiv 2204.02311): the model counts in its
    published form, a training step three times its forward pass, and recomputed activations do not count.

    Returns:
        Clips per second and ""; None and why it cannot be said.
    """
    if cfg.TRAIN.LINEAR_PROBE:
        return None, "only the head is trained, which is no fixed share of the model"
    side = cfg.DATA.TRAIN_CROP_SIZE
    try:
        work = count_multiply_adds(model, (1, 3, cfg.DATA.NUM_FRAMES, side, side))
    except (NotImplementedError, RuntimeError) as error:
        return None, f"the model's multiply-adds cannot be counted: {error}"
    return matmul_peak(device, getattr(torch, cfg.TRAIN.PRECISION)) / (TRAINING_STEP * work), ""


def matmul_peak(device: torch.device, dtype: torch.dtype) -> float:
    """Multiply-adds per second of a large matrix product: the best of three, in milliseconds."""
    # On a CPU a size that takes as long whatever the number of threads.
    side = None if device.type == "cuda" else int(512 * torch.get_num_threads() ** (1 / 3))
    product, work = matmul_job(device, dtype, side)
    best = float("inf")
    for number in range(_PEAK_TRIES + 1):
        begin = time.perf_counter()
        product()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if number:  # the first one warms up
            best = min(best, time.perf_counter() - begin)
    return work / best


def peak_memory_mib(device: torch.device) -> float:
    """Most memory in use so far, in MiB: of the GPU, else of this process."""
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)
