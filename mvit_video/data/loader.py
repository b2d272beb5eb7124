"""Batches of training clips, and test videos one by one. What a sample is does not depend on the number of workers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict

import torch
from fvcore.common.config import CfgNode
from torch import Tensor

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
from mvit_video.data.lists import Split, load_list
from mvit_video.data.preprocessing import Preprocessing
from mvit_video.data.readers import Reader, make_reader
from mvit_video.data.sampler import EpochBatches
from mvit_video.data.spatial import TrainCrop
from mvit_video.data.watch import TimedReader, Watch
from mvit_video.data.workers import Loader, item_loader, settings_from_config
from mvit_video.errors import InputError
from mvit_video.world import World


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


class TrainLoader(Loader):
    """Micro-batches (TrainBatch) of an epoch; `accumulate_steps` consecutive ones make an update.

    Attributes:
        order: the sampler, with steps_per_epoch, batch_size, accumulate_steps.
        videos: the training list.
    """

    def __init__(self, clips: TrainClips, order: EpochBatches, **settings: Any) -> None:
        super().__init__(clips, batch_sampler=order, collate_fn=_train_batch, **settings)
        self.order = order
        self._clips, self.videos = clips, clips.videos

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


def train_loader(cfg: CfgNode, world: World, reader: Reader | None = None) -> TrainLoader:
    """The training clips of this rank, read by DATA.READER or by the reader given.

    Raises:
        InputError: a list or a batch size that cannot work.
    """
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
    settings = settings_from_config(cfg, world)
    reader, watch = _watched(reader or make_reader(cfg.DATA.READER), cfg, settings["num_workers"])
    clips = TrainClips(
        videos,
        preprocessing,
        crop,
        reader,
        cfg.RNG_SEED,
        cfg.AUG.NUM_SAMPLE,
        augmentation_from_config(cfg),
        _mirrored(preprocessing.class_names) if data.FLIP_SWAPS_LABELS else None,
        watch,
    )
    return TrainLoader(clips, order, **settings)


def video_loader(
    cfg: CfgNode,
    split: Split,
    world: World,
    preprocessing: Preprocessing | None = None,
    skip: int = 0,
    reader: Reader | None = None,
) -> Loader:
    """This rank's share of the validation or test videos, one VideoViews or UndecodableVideo at a time, in list order.

    The share is every world.size-th video from world.rank on, without padding: it may be one shorter than another
    rank's, or empty. Validation takes one centre crop of one clip; a test TEST.NUM_ENSEMBLE_VIEWS x
    TEST.NUM_SPATIAL_CROPS views.

    Args:
        preprocessing: the checkpoint's, where there is one; the config's otherwise.
        skip: videos of the share that are left out at its beginning.
        reader: None for DATA.READER.
    """
    test = split == "test"
    settings = settings_from_config(cfg, world)
    reader, watch = _watched(reader or make_reader(cfg.DATA.READER), cfg, settings["num_workers"])
    videos = TestVideos(
        load_list(cfg, split),
        preprocessing or Preprocessing.from_config(cfg),
        reader,
        num_views=cfg.TEST.NUM_ENSEMBLE_VIEWS if test else 1,
        num_crops=cfg.TEST.NUM_SPATIAL_CROPS if test else 1,
        shuffle_seed=cfg.RNG_SEED if test and cfg.TEST.SHUFFLE_FRAMES else None,
        watch=watch,
    )
    share = range(world.rank, len(videos), world.size)[skip:]
    return item_loader(videos, share, **settings)


def _watched(reader: Reader, cfg: CfgNode, num_workers: int) -> tuple[Reader, Watch]:
    """The reader of a loader, and what bounds the time of a decode."""
    timeout = cfg.DATA.DECODE_TIMEOUT
    if timeout and not num_workers:
        reader = TimedReader(reader, timeout)
    return reader, Watch(num_workers, timeout)


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
