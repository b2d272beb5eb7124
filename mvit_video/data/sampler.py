"""The order of training: which samples make up which update, on which rank.

An epoch is one permutation of all samples, drawn from (seed, epoch). Update s takes the B samples at s * B,
whatever the number of ranks; the ranks share them out among themselves. A position in an epoch is therefore a
number of samples, and a run can go on from it with another number of ranks and see the same remaining updates.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch.utils.data import Sampler

from mvit_video.data.seeding import epoch_order
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

    @property
    def steps_per_epoch(self) -> int:
        """Updates of a whole epoch."""
        return self.num_samples // self.batch_size

    def set_position(self, epoch: int, consumed_samples: int = 0) -> None:
        """The next iteration runs from here: `consumed_samples` of the epoch are behind, counted over all ranks."""
        self._epoch, self._consumed = epoch, consumed_samples

    def __len__(self) -> int:
        """Micro-batches from the position to the end of the epoch."""
        return (self.num_samples - self._consumed) // self.batch_size * self.accumulate_steps

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        epoch, consumed = self._epoch, self._consumed
        order = (
            epoch_order(self._seed, epoch, self.num_samples)
            if self._shuffle
            else range(self.num_samples)
        )
        part = self.batch_size // self.accumulate_steps
        last_start = self.num_samples - self.batch_size
        for update in range(consumed, last_start + 1, self.batch_size):
            for start in range(update, update + self.batch_size, part):
                share = order[start : start + part][self._world.rank :: self._world.size]
                yield [(epoch, int(index)) for index in share]
