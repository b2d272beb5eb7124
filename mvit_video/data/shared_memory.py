"""The way of a batch from a loader process to the training process: shared memory, which is files in /dev/shm."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor
from torch.utils.data import get_worker_info

from mvit_video.errors import InputError

_FOLDER = "/dev/shm"


class InSharedMemory:
    """A collate function whose batch, in a worker, lies in shared memory when it is returned.

    DataLoader would put it there on a thread that prints what goes wrong and forgets the batch, for which the training
    process would then wait for ever. Here, no room is a value: an InputError in place of the batch.
    """

    def __init__(self, collate: Callable[[Any], Any]) -> None:
        self._collate = collate

    def __call__(self, items: Any) -> Any:
        batch = self._collate(items)
        worker = get_worker_info()
        if worker is None or isinstance(batch, InputError):
            return batch
        tensors = list(_tensors(batch))
        try:
            for tensor in tensors:
                tensor.share_memory_()
        except (RuntimeError, OSError) as error:
            return _no_room(sum(tensor.nbytes for tensor in tensors), worker.num_workers, error)
        return batch


def _tensors(batch: Any) -> Iterator[Tensor]:
    """Of a tensor, a dictionary, or a dataclass."""
    if isinstance(batch, Tensor):
        yield batch
        return
    values = batch.values() if isinstance(batch, dict) else vars(batch).values()
    yield from (value for value in values if isinstance(value, Tensor))


def _no_room(size: int, num_workers: int, error: Exception) -> InputError:
    try:
        usage = shutil.disk_usage(_FOLDER)
        there = f"{_FOLDER} has {_mib(usage.free)} left of {_mib(usage.total)}"
    except OSError:
        there = "there is none left"
    return InputError(
        f"no shared memory for a batch of {_mib(size)}, on its way from one of {num_workers} workers: {there}. "
        f"Give it more room (docker run --shm-size 8g, or --ipc host; {_FOLDER} is memory, used only as far as it is "
        "filled), or lower DATA_LOADER.NUM_WORKERS, DATA_LOADER.PREFETCH_FACTOR or TRAIN.BATCH_SIZE: room is needed "
        f"for NUM_WORKERS x PREFETCH_FACTOR + 1 batches of each rank on this machine. ({error})"
    )


def _mib(size: int) -> str:
    return f"{size / 2**20:.4g} MiB"
