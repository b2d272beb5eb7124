"""A training sample that turns to NaN, for runs in this process and in others."""

from __future__ import annotations

from typing import Any

from mvit_video.data.sampler import EpochBatches
from mvit_video.train.inputs import TrainInputs
from mvit_video.world import World

VIDEOS, BATCH = 18, 4  # of the runs in tests/train


def sample_of(step: int, rank: int = 0, ranks: int = 1) -> int:
    """The first sample that a rank takes in an update of a run that never goes back."""
    steps_per_epoch = VIDEOS // BATCH
    order = EpochBatches(VIDEOS, BATCH, World(rank, ranks), seed=0)
    order.set_position(step // steps_per_epoch, step % steps_per_epoch * BATCH)
    return next(iter(order))[0][1]


def poison(sample: int, *steps: int) -> None:
    """From here on a pixel of a sample is NaN in this process, in the updates after `steps` updates or in all."""
    original = TrainInputs.prepare

    def prepare(self: TrainInputs, batch: Any, step: int, *place: int) -> Any:
        clips, target = original(self, batch, step, *place)
        if not steps or step in steps:
            clips[batch["index"] == sample, 0, 0, 0, 0] = float("nan")
        return clips, target

    TrainInputs.prepare = prepare
