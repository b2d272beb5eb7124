"""Loader processes: batches of training clips, and test videos one by one.

What a sample is does not depend on the number of workers. A worker lives as long as the loader, runs torch on one
thread (DataLoader sees to that), and hears no signal: Slurm sends SIGUSR2 and SIGTERM to every process of a job
step, a terminal sends Ctrl-C to every process in front, but only the training process may answer. Workers end when
the loader is closed or its process is gone.
"""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing
import os
import signal
import weakref
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypedDict

import torch
from fvcore.common.config import CfgNode
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mvit_video.data.augmentation import (
    ClipChoices,
    augmentation_from_config,
    mirrored_labels,
)
from mvit_video.data.dataset import (
    TestVideos,
    TrainClips,
    TrainSample,
    UndecodableVideo,
)
from mvit_video.data.lists import ListFile, Split, load_list
from mvit_video.data.preprocessing import Preprocessing
from mvit_video.data.readers import make_reader
from mvit_video.data.sampler import EpochBatches
from mvit_video.data.spatial import TrainCrop
from mvit_video.errors import InputError
from mvit_video.processes import die_with_parent
from mvit_video.world import World

_MAX_WORKERS = 8


class TrainBatch(TypedDict):
    """Training clips of one rank. B videos give B * S clips, the S = AUG.NUM_SAMPLE clips of a video side by side.

    clips: (B * S, 3, T, H, W) uint8.
    choices: B * S, what is to be done to each clip on the device.
    label: (B * S,) int64.
    index: (B,) int64, the samples that the sampler asked for.
    used: (B,) int64, the samples shown.
    substituted: (B,) bool, where that is another one, which stands in for an undecodable one.
    undecodable: the videos that failed.
    """

    clips: Tensor
    choices: list[ClipChoices]
    label: Tensor
    index: Tensor
    used: Tensor
    substituted: Tensor
    undecodable: list[UndecodableVideo]


class Loader:
    """Iterates a DataLoader again and again with the same workers.

    Raises, while iterating:
        InputError: the list is hopeless (see TrainClips).
        RuntimeError: a worker died; the message says what may have killed it.
    """

    def __init__(self, loader: DataLoader) -> None:
        self._loader = loader
        self._batches: Any = None  # DataLoader's iterator, which owns the workers

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Any]:
        batches = self._start()
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                return
            except RuntimeError as error:
                if "DataLoader worker" in str(error):
                    raise RuntimeError(_WORKER_DIED.format(error)) from error
                raise
            if isinstance(batch, InputError):
                raise batch
            yield batch

    def _start(self) -> Iterator[Any]:
        if self._batches or self._loader.num_workers == 0:
            return iter(self._loader)
        with _signals_blocked():
            self._batches = iter(self._loader)
        # Registered after DataLoader's own exit hook and so run before it: that one waits for workers to heed SIGTERM.
        atexit.register(_close, weakref.ref(self))
        return self._batches

    @property
    def workers(self) -> list[multiprocessing.Process]:
        """The loader processes; none before the first iteration."""
        return self._batches._workers if self._batches else []

    def close(self) -> None:
        """Ends the workers, also one that hangs in a decoder. Iterating again would start new ones."""
        workers = self.workers
        if workers:
            # Dropping every reference would do the same, but an iteration that was left half-way holds one.
            self._batches._shutdown_workers()
        self._batches = self._loader._iterator = None
        for worker in workers:
            if worker.is_alive():
                worker.kill()
                worker.join()

    def __del__(self) -> None:
        self.close()


def _close(reference: weakref.ref[Loader]) -> None:
    loader = reference()
    if loader is not None:
        loader.close()


class TrainLoader(Loader):
    """Micro-batches (TrainBatch) of an epoch; `accumulate_steps` consecutive ones make an update.

    Attributes:
        order: the sampler, with steps_per_epoch, batch_size, accumulate_steps.
        videos: the training list.
    """

    def __init__(self, loader: DataLoader, order: EpochBatches) -> None:
        super().__init__(loader)
        self.order = order
        self._clips: TrainClips = loader.dataset
        self.videos: ListFile = self._clips.videos

    def set_position(
        self, epoch: int, consumed_samples: int = 0, reshuffled_at: Sequence[int] = ()
    ) -> None:
        """Where the next iteration begins; see EpochBatches.set_position."""
        self.order.set_position(epoch, consumed_samples, reshuffled_at)

    def load(self, epoch: int, indices: Sequence[int]) -> TrainBatch:
        """A micro-batch of these samples, whenever the order asks for them, loaded in this process."""
        batch = _train_batch([self._clips[epoch, index] for index in indices])
        if isinstance(batch, InputError):
            raise batch
        return batch


def train_loader(cfg: CfgNode, world: World) -> TrainLoader:
    """The training clips of this rank. Raises InputError for a list or a batch size that cannot work."""
    data = cfg.DATA
    videos = load_list(cfg, "train")
    order = EpochBatches(
        len(videos), cfg.TRAIN.BATCH_SIZE, world, cfg.RNG_SEED, cfg.SOLVER.ACCUMULATE_STEPS
    )
    crop = TrainCrop(
        size=data.TRAIN_CROP_SIZE,
        short_sides=tuple(data.TRAIN_JITTER_SCALES),
        area=tuple(data.TRAIN_JITTER_SCALES_RELATIVE) or None,
        aspect=tuple(data.TRAIN_JITTER_ASPECT_RELATIVE),
        flip=data.RANDOM_FLIP,
        inverse=data.INV_UNIFORM_SAMPLE,
    )
    preprocessing = Preprocessing.from_config(cfg)
    clips = TrainClips(
        videos,
        preprocessing,
        crop,
        make_reader(data.READER),
        cfg.RNG_SEED,
        cfg.AUG.NUM_SAMPLE,
        augmentation_from_config(cfg),
        _mirrored(preprocessing.class_names) if data.FLIP_SWAPS_LABELS else None,
    )
    loader = DataLoader(
        clips, batch_sampler=order, collate_fn=_train_batch, **_worker_settings(cfg, world)
    )
    return TrainLoader(loader, order)


def video_loader(
    cfg: CfgNode,
    split: Split,
    world: World,
    preprocessing: Preprocessing | None = None,
    skip: int = 0,
) -> Loader:
    """This rank's share of the validation or test videos, one VideoViews or UndecodableVideo at a time, in list order.

    The share is every world.size-th video from world.rank on, without padding: it may be one shorter than another
    rank's, or empty. Validation takes one centre crop of one clip; a test TEST.NUM_ENSEMBLE_VIEWS x
    TEST.NUM_SPATIAL_CROPS views.

    Args:
        preprocessing: the checkpoint's, where there is one; the config's otherwise.
        skip: videos of the share that are left out at its beginning.
    """
    test = split == "test"
    videos = TestVideos(
        load_list(cfg, split),
        preprocessing or Preprocessing.from_config(cfg),
        make_reader(cfg.DATA.READER),
        num_views=cfg.TEST.NUM_ENSEMBLE_VIEWS if test else 1,
        num_crops=cfg.TEST.NUM_SPATIAL_CROPS if test else 1,
        shuffle_seed=cfg.RNG_SEED if test and cfg.TEST.SHUFFLE_FRAMES else None,
    )
    share = range(world.rank, len(videos), world.size)[skip:]
    return item_loader(videos, share, **_worker_settings(cfg, world))


def item_loader(items: Dataset[Any], order: Iterable[int], **settings: Any) -> Loader:
    """A loader of single items in this order, as they are; `settings` are those of `worker_settings`."""
    return Loader(DataLoader(items, sampler=order, batch_size=None, collate_fn=_itself, **settings))


def _mirrored(class_names: tuple[str, ...]) -> tuple[int, ...]:
    if not class_names:
        raise InputError(
            "DATA.FLIP_SWAPS_LABELS needs class names: put classes.txt (one a line) into DATA.PATH_TO_DATA_DIR"
        )
    return mirrored_labels(class_names)


def _train_batch(samples: list[TrainSample | InputError]) -> TrainBatch | InputError:
    for sample in samples:
        if isinstance(sample, InputError):
            return sample
    return TrainBatch(
        clips=torch.cat([sample["clip"] for sample in samples]),
        choices=[choices for sample in samples for choices in sample["choices"]],
        label=torch.tensor([label for sample in samples for label in sample["clip_labels"]]),
        index=torch.tensor([s["index"] for s in samples]),
        used=torch.tensor([s["used"] for s in samples]),
        substituted=torch.tensor([s["used"] != s["index"] for s in samples]),
        undecodable=[video for sample in samples for video in sample["undecodable"]],
    )


def _itself(item: Any) -> Any:
    return item


def _begin_worker(_: int) -> None:
    # The parent of a worker from a fork server is the server, which ends with the run.
    if multiprocessing.get_start_method() != "forkserver":
        die_with_parent(multiprocessing.parent_process().pid)


def _worker_settings(cfg: CfgNode, world: World) -> dict[str, Any]:
    settings = cfg.DATA_LOADER
    num_workers = settings.NUM_WORKERS
    if num_workers < 0:
        num_workers = default_num_workers(max(world.size // cfg.NUM_SHARDS, 1))
    pin_memory = settings.PIN_MEMORY and world.device.type == "cuda"
    return worker_settings(num_workers, settings.PREFETCH_FACTOR, pin_memory)


def worker_settings(
    num_workers: int, prefetch_factor: int = 2, pin_memory: bool = False
) -> dict[str, Any]:
    """What a DataLoader is told about its workers."""
    return {
        "num_workers": num_workers,
        "prefetch_factor": prefetch_factor if num_workers else None,
        "persistent_workers": num_workers > 0,
        "pin_memory": pin_memory,
        "worker_init_fn": _begin_worker,
        "generator": torch.Generator(),  # else every iterator would draw from the global one
    }


def default_num_workers(local_ranks: int) -> int:
    """Workers for one of `local_ranks` processes on this machine: its share of the cores it may use, 1 to 8."""
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    return min(max(int(min(cores, _cgroup_cores()) / local_ranks), 1), _MAX_WORKERS)


def _cgroup_cores() -> float:
    """Cores that a container's CPU quota allows (cgroup v2, `docker run --cpus`)."""
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return int(quota) / int(period)  # "max" is no quota
    return float("inf")


@contextlib.contextmanager
def _signals_blocked() -> Iterator[None]:
    """Processes started in here never see these signals, whatever the start method; this one sees them afterwards."""
    blocked = {signal.SIGINT, signal.SIGTERM, signal.SIGUSR2}
    old = signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)


_WORKER_DIED = (
    "a loader worker died: {}. The usual cause is memory: lower DATA_LOADER.NUM_WORKERS or PREFETCH_FACTOR, "
    "or give /dev/shm more room (docker run --shm-size)"
)
