"""Where a run stands, and what of it is logged at the end of the epoch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from mvit_video.world import World


@dataclass
class Progress:
    """Position of a run, counted over all ranks.

    Attributes:
        epoch: epochs finished, their validation included.
        samples: videos of the current epoch that are behind. A whole epoch's worth: only its validation is
        still to come.
        step: updates done.
        best: {"top1", "epoch", "step"} of the best validation, None before the first.
    """

    epoch: int = 0
    samples: int = 0
    step: int = 0
    best: dict[str, float] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Progress:
        """The inverse of to_dict; other entries are ignored."""
        return cls(*(values[name] for name in ("epoch", "samples", "step", "best")))


class EpochSums:
    """What this rank adds up over an epoch. Sums stay on the device until somebody asks."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.clear()

    def clear(self) -> None:
        """Starts an epoch."""
        self._loss = torch.zeros((), dtype=torch.float64, device=self._device)
        self._updates = 0
        self._substituted = 0

    def add(self, loss: Tensor, substituted: int) -> None:
        """One update: its mean loss on this rank, and how many videos stood in for undecodable ones."""
        self._loss += loss.detach()
        self._updates += 1
        self._substituted += substituted

    def gather(self, world: World) -> list[list[float]]:
        """[loss, updates, substituted] of each rank, on every rank."""
        own = [self._loss.item(), self._updates, self._substituted]
        return world.broadcast_object(world.gather_objects(own))

    def restore(self, gathered: list[list[float]], world: World) -> None:
        """Goes on from what `gather` gave. With another number of ranks the first one takes it all."""
        own = [0.0, 0, 0]
        if len(gathered) == world.size:
            own = gathered[world.rank]
        elif world.is_main:
            own = [sum(column) for column in zip(*gathered, strict=True)]
        self._loss.fill_(own[0])
        self._updates, self._substituted = int(own[1]), int(own[2])


def epoch_means(gathered: list[list[float]]) -> tuple[float, int]:
    """Mean loss over the updates of all ranks, and the number of substituted videos, from `EpochSums.gather`."""
    loss, updates, substituted = (sum(column) for column in zip(*gathered, strict=True))
    return loss / max(updates, 1), int(substituted)
