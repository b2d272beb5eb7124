"""Augmenting training clips: the whole recipe on tensors, and frame by frame with Pillow."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from fvcore.common.config import CfgNode
from torch import Tensor

from mvit_video.benchmark.measure import alternate, begin, median_and_spread, ratio
from mvit_video.data.augmentation import ClipChoices, augment, augmentation_from_config
from mvit_video.data.preprocessing import Preprocessing
from mvit_video.data.seeding import CLIP, sample_rng
from mvit_video.errors import InputError

AGAINST = ("pillow", "pillow_crop")
OURS = "mvit_video"
_CLIPS = 16  # a round: enough for the operations to come about as often as they do in a training

Normalise = Callable[[Tensor], Tensor]
Way = Callable[[Tensor, ClipChoices, Normalise], Tensor]


def benchmark_augmentation(
    cfg: CfgNode, against: Sequence[str] = (), rounds: int = 7
) -> dict[str, Any]:
    """Times drawing and applying the config's augmentation, clip by clip, from uint8 to normalised float.

    pillow: each frame through Pillow and back before it is cropped, as published: a 4 : 3 frame of the config's short
    side. pillow_crop: the cropped frame, as ours. Both with the same choices, and with our erasing and normalisation.

    Args:
        cfg: with AUG.ENABLE; threads as in `benchmark_model`. With NUM_THREADS 1, time is CPU time.
        against: names of AGAINST.

    Raises:
        InputError: no augmentation, or what the comparison needs is not here.
    """
    if not cfg.AUG.ENABLE:
        raise InputError("AUG.ENABLE is False: there is nothing to measure")
    device, described = begin(cfg, training=False)
    size, short = (
        cfg.DATA.TRAIN_CROP_SIZE,
        max(cfg.DATA.TRAIN_JITTER_SCALES[0], cfg.DATA.TRAIN_CROP_SIZE),
    )
    crop = _clip(cfg.DATA.NUM_FRAMES, size, size).to(device)
    normalise = Preprocessing.from_config(cfg).normalise
    ways: dict[str, tuple[Way, Tensor]] = {OURS: (_ours, crop)}
    for name in against:
        whole = _clip(cfg.DATA.NUM_FRAMES, short, short * 4 // 3)
        ways[name] = (
            partial(_frame_by_frame, _pillow(), size),
            crop.cpu() if name == "pillow_crop" else whole,
        )
    jobs = {name: partial(_round, way, clip, cfg, normalise) for name, (way, clip) in ways.items()}
    seconds = alternate(jobs, rounds, device)
    candidates = {}
    for name in ways:
        median, spread = median_and_spread(seconds[name])
        candidates[name] = {"ms_per_clip": 1000 * median / _CLIPS, "spread": spread}
    return {
        **described,
        "clip": tuple(crop.shape),
        "rounds": rounds,
        "candidates": candidates,
        "ratios": {name: ratio(seconds[name], seconds[OURS]) for name in list(ways)[1:]},
    }


def _clip(frames: int, height: int, width: int) -> Tensor:
    """(3, T, H, W) uint8: soft colours."""
    small = np.random.default_rng(0).integers(0, 256, (3, frames, 14, 14), dtype=np.uint8)
    return F.interpolate(torch.from_numpy(small), (height, width), mode="bilinear")


def _round(way: Way, clip: Tensor, cfg: CfgNode, normalise: Normalise) -> None:
    augmentation, size = augmentation_from_config(cfg), cfg.DATA.TRAIN_CROP_SIZE
    for index in range(_CLIPS):
        choices = augmentation.draw(sample_rng(0, 0, index, CLIP), size, size)
        way(clip, choices, normalise)


def _ours(clip: Tensor, choices: ClipChoices, normalise: Normalise) -> Tensor:
    return augment(clip[None], [choices], normalise)


def _frame_by_frame(
    pillow: Any, size: int, clip: Tensor, choices: ClipChoices, normalise: Normalise
) -> Tensor:
    frames = []
    for frame in clip.permute(1, 2, 3, 0).contiguous().numpy():
        picture = pillow.Image.fromarray(frame)
        for name, value in choices.operations:
            picture = pillow.pillow(picture, name, value, choices.interpolation)
        frames.append(np.asarray(picture)[:size, :size])
    changed = torch.from_numpy(np.stack(frames)).permute(3, 0, 1, 2)
    erasing_only = ClipChoices(
        (), boxes=choices.boxes, fill=choices.fill, noise_key=choices.noise_key
    )
    return augment(changed[None], [erasing_only], normalise)


def _pillow() -> Any:
    try:
        return importlib.import_module("tests.reference.pillow_operations")
    except ModuleNotFoundError as error:
        raise InputError(
            f"--against needs {error.name}, from a checkout with tests/reference"
        ) from None
