"""What is measured beside the training: its speed, and whether its numbers are finite."""

from __future__ import annotations

import contextlib
import resource
import sys
import time
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor


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

    def read(self) -> tuple[float, float]:
        """Clips per second of this rank and seconds spent waiting for data, since the last reading."""
        elapsed = max(time.monotonic() - self._begin, 1e-9)
        reading = self._clips / elapsed, self._waited
        self.restart()
        return reading


class BadUpdate(NamedTuple):
    """An update with a loss or gradient that is not finite: updates before it, and its samples on this rank."""

    step: int
    samples: list[int]


class FiniteWatch:
    """Looks at each update's `finite` flag. On a GPU one update late, so that nobody waits for the device."""

    def __init__(self, device: torch.device) -> None:
        self._lag = 1 if device.type == "cuda" else 0
        self._flags: deque[tuple[Tensor, BadUpdate]] = deque()

    def add(self, finite: Tensor, step: int, samples: list[int]) -> None:
        """The flag of an update, and what to say if it is not set."""
        self._flags.append((finite, BadUpdate(step, samples)))

    def first_bad(self, all_of_them: bool = False) -> BadUpdate | None:
        """The first update that went wrong; the newest ones are looked at only if `all_of_them` are."""
        while len(self._flags) > (0 if all_of_them else self._lag):
            finite, update = self._flags.popleft()
            if not finite:
                return update
        return None


def peak_memory_mib(device: torch.device) -> float:
    """Most memory in use so far, in MiB: of the GPU, else of this process."""
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)
