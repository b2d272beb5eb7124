"""Where a run stands, and what of it is logged at the end of the epoch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
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
        skipped: updates among `step` that were left out (update.Updater).
        nonfinite: updates that were not finite and after which the run went on, skipped or rolled back.
        reshuffled: [epoch, samples] of each position that the run was rolled back to; from there on the rest of that
            epoch has another order.
    """

    epoch: int = 0
    samples: int = 0
    step: int = 0
    best: dict[str, float] | None = None
    skipped: int = 0
    nonfinite: int = 0
    reshuffled: list[list[int]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Plain types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Progress:
        """The inverse of to_dict; other entries are ignored."""
        return cls(**{f.name: values[f.name] for f in fields(cls) if f.name in values})

    def rolled_back(self, saved: Progress) -> Progress:
        """`saved`, an earlier position, after the run has gone back to it from here."""
        place = [saved.epoch, saved.samples]
        earlier = [other for other in self.reshuffled if other <= place]
        return replace(saved, nonfinite=self.nonfinite, reshuffled=[*earlier, place])

    def reshuffled_in_epoch(self) -> list[int]:
        """Positions in the current epoch that the run was rolled back to."""
        return [samples for epoch, samples in self.reshuffled if epoch == self.epoch]


class EpochSums:
    """What this rank adds up over an epoch. Sums of losses stay on the device until somebody asks.

    Attributes:
        substituted: videos on this rank that stood in for undecodable ones.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.clear()

    def clear(self) -> None:
        """Starts an epoch."""
        self._loss = torch.zeros((), dtype=torch.float64, device=self._device)
        self._updates = torch.zeros((), dtype=torch.int64, device=self._device)
        self.substituted = 0

    def add(self, loss: Tensor, finite: Tensor, substituted: int) -> None:
        """One update: its mean loss, which counts if it is finite; how many videos stood in for undecodable ones."""
        self._loss += torch.where(finite, loss, 0.0)
        self._updates += finite
        self.substituted += substituted

    def gather(self, world: World) -> list[list[float]]:
        """[loss, updates, substituted] of each rank, on every rank."""
        own = [self._loss.item(), self._updates.item(), self.substituted]
        return world.broadcast_object(world.gather_objects(own))

    def restore(self, gathered: list[list[float]], world: World) -> None:
        """Goes on from what `gather` gave. With another number of ranks the first one takes it all."""
        own = [0.0, 0, 0]
        if len(gathered) == world.size:
            own = gathered[world.rank]
        elif world.is_main:
            own = [sum(column) for column in zip(*gathered, strict=True)]
        self._loss.fill_(own[0])
        self._updates.fill_(own[1])
        self.substituted = int(own[2])


def epoch_means(gathered: list[list[float]]) -> tuple[float, int]:
    """Mean loss over the updates, NaN if none was finite, and the number of substituted videos, from `gather`."""
    loss, updates, substituted = (sum(column) for column in zip(*gathered, strict=True))
    return loss / updates if updates else float("nan"), int(substituted)
