"""The order of training: which samples make up which update, on which rank.

An epoch is one permutation of all samples, drawn from (seed, epoch). Update s takes the B samples at s * B,
whatever the number of ranks; each rank takes a run of neighbours among them, so that neighbours, which mixup pairs,
meet on one rank for any number of ranks that gives each an even share. A position in an epoch is a number of samples,
and a run can go on from it with another number of ranks and see the same remaining updates.

A run that goes back to a checkpoint shuffles what is left of that epoch anew: the epoch still holds each sample once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

from mvit_video.data.seeding import epoch_order, reshuffled
from mvit_video.errors import InputError
from mvit_video.world import World


class EpochBatches(Sampler[list[tuple[int, int]]]):
    """This rank's micro-batches of (epoch, sample index), from a position in an epoch to its end.

    One update is `accumulate_steps` consecutive micro-batches on every rank, `batch_size` samples in all. The last
    samples of an epoch that do not fill an update are left out (other ones each epoch).

    Args:
        num_samples: length of the training list.
        batch_size: samples per update over all ranks.
        seed: of the run.
        shuffle: False for list order.

    Raises:
        InputError: a batch that does not divide among ranks and micro-batches, or a list shorter than one batch.
    """

    def __init__(
        self,
        num_samples: int,
        batch_size: int,
        world: World,
        seed: int,
        accumulate_steps: int = 1,
        shuffle: bool = True,
    ) -> None:
        if batch_size % (world.size * accumulate_steps):
            raise InputError(
                f"TRAIN.BATCH_SIZE {batch_size}, the videos per update over all ranks, does not divide evenly among "
                f"{world.size} ranks" + f" x SOLVER.ACCUMULATE_STEPS {accumulate_steps}; "
                f"make it a multiple of {world.size * accumulate_steps}"
            )
        if num_samples < batch_size:
            raise InputError(
                f"the training list has {num_samples} videos, fewer than one update takes; set TRAIN.BATCH_SIZE, "
                f"the videos per update over all ranks, to at most {num_samples} (it is {batch_size})"
            )
        self.num_samples = num_samples
        self.batch_size = batch_size
        self.accumulate_steps = accumulate_steps
        self._world = world
        self._seed = seed
        self._shuffle = shuffle
        self._epoch = 0
        self._consumed = 0
        self._reshuffled_at: Sequence[int] = ()

    @property
    def steps_per_epoch(self) -> int:
        """Updates of a whole epoch."""
        return self.num_samples // self.batch_size

    def set_position(
        self, epoch: int, consumed_samples: int = 0, reshuffled_at: Sequence[int] = ()
    ) -> None:
        """The next iteration runs from here.

        Args:
            consumed_samples: of the epoch that are behind, counted over all ranks.
            reshuffled_at: positions in the epoch, in the order in which the run went back to them, from which on the
                samples were shuffled anew.
        """
        self._epoch, self._consumed = epoch, consumed_samples
        self._reshuffled_at = tuple(reshuffled_at)

    def __len__(self) -> int:
        """Micro-batches from the position to the end of the epoch."""
        return (self.num_samples - self._consumed) // self.batch_size * self.accumulate_steps

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        epoch, consumed = self._epoch, self._consumed
        order = (
            epoch_order(self._seed, epoch, self.num_samples)
            if self._shuffle
            else np.arange(self.num_samples)
        )
        for number, place in enumerate(self._reshuffled_at):
            order[place:] = reshuffled(order[place:], self._seed, epoch, number)
        part = self.batch_size // self.accumulate_steps
        share = part // self._world.size
        last_start = self.num_samples - self.batch_size
        for update in range(consumed, last_start + 1, self.batch_size):
            for start in range(update, update + self.batch_size, part):
                own = start + self._world.rank * share
                yield [(epoch, int(index)) for index in order[own : own + share]]
