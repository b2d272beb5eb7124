"""Validation between epochs: one centre crop of one clip of every video, each exactly once over all ranks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from mvit_video.data.dataset import UndecodableVideo
from mvit_video.data.loader import Loader
from mvit_video.data.preprocessing import Preprocessing
from mvit_video.data.views import VideoViews
from mvit_video.evaluate.metrics import TOP_K, label_rank
from mvit_video.evaluate.scoring import autocast, common_steps
from mvit_video.world import Stop, World


class _Result(NamedTuple):
    """One video: its place in the list, loss, and how many classes came before the right one."""

    index: int
    loss: float
    rank: int


def validate(
    model: nn.Module,
    loader: Loader | Sequence[VideoViews | UndecodableVideo],
    preprocessing: Preprocessing,
    world: World,
    precision: str = "float32",
    batch_size: int = 8,
    stop: Stop | None = None,
) -> dict[str, Any] | None:
    """Loss and accuracy over the videos of all ranks, the same numbers on every rank.

    Args:
        model: is put into eval mode, and back into the mode it was in.
        loader: this rank's videos, with one view each (`data.loader.video_loader` of split "val").
        precision: number format of the forward pass.
        batch_size: videos in a forward pass of this rank.
        stop: looked at before every forward pass.

    Returns:
        {"loss": mean cross-entropy, "top1", "top5": percent, "num_scored", "undecodable": [{"video_id", "label",
        "reason"}, ...]}; the first three None where no video could be scored. None if the ranks agreed to stop.
    """
    training = model.training
    model.eval()
    results: list[_Result] = []
    lost: list[UndecodableVideo] = []
    remaining, asked = iter(loader), False
    for _ in range(common_steps(len(loader), batch_size, world)):
        asked = world.any(stop is not None and stop.requested)
        if asked:
            break
        items = list(islice(remaining, batch_size))
        lost += (item for item in items if isinstance(item, UndecodableVideo))
        results += _score(
            [i for i in items if isinstance(i, VideoViews)], model, preprocessing, world, precision
        )
    model.train(training)
    if asked:
        return None
    shares = world.gather_objects((results, lost))
    return world.broadcast_object(_summarise(shares) if world.is_main else None)


def _score(
    videos: list[VideoViews],
    model: nn.Module,
    preprocessing: Preprocessing,
    world: World,
    precision: str,
) -> Iterator[_Result]:
    if not videos:
        return
    label = torch.tensor([video.label for video in videos], device=world.device)
    with torch.inference_mode():
        clips = torch.cat([video.views(world.device) for video in videos])
        with autocast(world.device, precision):
            logits = model(preprocessing.normalise(clips))
        loss = F.cross_entropy(logits.float(), label, reduction="none").cpu()
    ranks = label_rank(logits.float().cpu().numpy(), label.cpu().numpy())
    for video, *result in zip(videos, loss.tolist(), ranks.tolist(), strict=True):
        yield _Result(video.index, *result)


def _summarise(shares: list[tuple[list[_Result], list[UndecodableVideo]]]) -> dict[str, Any]:
    """The shares of all ranks in list order, so that sums do not depend on who scored what."""
    results = sorted(result for share, _ in shares for result in share)
    lost = sorted((video for _, share in shares for video in share), key=lambda video: video.index)
    number = len(results)
    return {
        "loss": math.fsum(r.loss for r in results) / number if number else None,
        "top1": 100.0 * sum(r.rank < 1 for r in results) / number if number else None,
        "top5": 100.0 * sum(r.rank < TOP_K for r in results) / number if number else None,
        "num_scored": number,
        "undecodable": [
            {"video_id": v.video_id, "label": v.label, "reason": v.reason} for v in lost
        ],
    }
