"""Chance belongs to the sample: every random choice is a function of the run's seed and of what is chosen for.

Philox is a counter-based generator: the words of its counter name the place (epoch, sample, draw), so streams need
no hashing, never overlap, and cost the same wherever one starts. Nothing here reads or sets a global random state.
"""

from __future__ import annotations

import numpy as np

FRAMES, SUBSTITUTE, CLIP = 0, 1, 2  # draws of one sample; its k-th clip has CLIP + k

_SAMPLE_STREAM, _ORDER_STREAM, _SHUFFLE_STREAM, _MIX_STREAM, _REORDER_STREAM = 0, 1, 2, 3, 4
_WORD = 2**64 - 1


def sample_rng(seed: int, epoch: int, index: int, draw: int) -> np.random.Generator:
    """Generator of one kind of choice (FRAMES, SUBSTITUTE, CLIP + k) about training sample `index` in `epoch`."""
    return _generator(seed, _SAMPLE_STREAM, epoch, index, draw)


def epoch_order(seed: int, epoch: int, num_samples: int) -> np.ndarray:
    """The order of an epoch: a permutation of range(num_samples), int64."""
    return _generator(seed, _ORDER_STREAM, epoch).permutation(num_samples)


def reshuffled(order: np.ndarray, seed: int, epoch: int, number: int) -> np.ndarray:
    """`order`, a part of an epoch's, in the order of the `number`-th time that the run went back in this epoch."""
    return _generator(seed, _REORDER_STREAM, epoch, number).permutation(order)


def shuffle_rng(seed: int, index: int) -> np.random.Generator:
    """Generator that shuffles the frames of test video `index` (TEST.SHUFFLE_FRAMES)."""
    return _generator(seed, _SHUFFLE_STREAM, 0, index)


def mix_rng(seed: int, step: int) -> np.random.Generator:
    """Generator of how the update after `step` updates mixes the clips of its whole batch; all ranks draw alike."""
    return _generator(seed, _MIX_STREAM, 0, step)


def _generator(
    seed: int, stream: int, epoch: int, index: int = 0, draw: int = 0
) -> np.random.Generator:
    key = np.array([seed & _WORD, stream], dtype=np.uint64)
    # Philox counts the blocks it has drawn in the first word.
    counter = np.array([0, draw, index, epoch], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))
