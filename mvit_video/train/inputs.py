"""From a micro-batch of the loader to what the model and the loss take."""

from __future__ import annotations

import logging

from fvcore.common.config import CfgNode
from torch import Tensor

from mvit_video.data.augmentation import (
    Mix,
    augment,
    mix_clips,
    mix_labels,
    mixup_from_config,
)
from mvit_video.data.loader import TrainBatch
from mvit_video.data.preprocessing import Preprocessing
from mvit_video.data.seeding import mix_rng
from mvit_video.data.transfer import to_device
from mvit_video.world import World

_log = logging.getLogger(__name__)


class TrainInputs:
    """Augments and mixes the clips of one rank. `world` is who that is; nothing is communicated."""

    def __init__(self, cfg: CfgNode, preprocessing: Preprocessing, world: World) -> None:
        self._seed, self._world = cfg.RNG_SEED, world
        self._mixup, self._num_classes = mixup_from_config(cfg), cfg.MODEL.NUM_CLASSES
        self._clips_per_video = cfg.AUG.NUM_SAMPLE
        self._normalise = preprocessing.normalise
        share = cfg.TRAIN.BATCH_SIZE // (world.size * cfg.SOLVER.ACCUMULATE_STEPS)
        if self._mixup is not None and share % 2 and world.is_main:
            _log.warning(
                "MIXUP pairs neighbours among the %d videos of a rank's micro-batch: one stays unmixed; an even number "
                "mixes all",
                share,
            )

    def prepare(
        self, batch: TrainBatch, step: int, part: int = 0, num_parts: int = 1
    ) -> tuple[Tensor, Tensor]:
        """Clips (B, 3, T, H, W) float, and labels (B,) or shares of labels (B, classes) where clips are mixed.

        Args:
            batch: a micro-batch of B clips.
            step: updates done before this one.
            part, num_parts: which micro-batch of the update it is.
        """
        device, count = self._world.device, self._clips_per_video
        clips = augment(to_device(batch["clips"], device), batch["choices"], self._normalise)
        label = to_device(batch["label"], device)
        mix = self.mix(len(clips), clips.shape[-1], step, part, num_parts)
        if mix is None:
            return clips, label
        return mix_clips(clips, mix, count), mix_labels(label, self._num_classes, mix, count)

    def mix(
        self, num_clips: int, side: int, step: int, part: int = 0, num_parts: int = 1
    ) -> Mix | None:
        """How the `num_clips` square clips of a micro-batch are mixed: its part of what is drawn for the batch."""
        if self._mixup is None:
            return None
        total = num_clips * self._world.size * num_parts
        whole = self._mixup.draw(mix_rng(self._seed, step), total, side, side)
        return whole.part((part * self._world.size + self._world.rank) * num_clips, num_clips)
