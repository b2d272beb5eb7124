"""The multi-view test: every video of the list scored once, in all its views, over any number of ranks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from fvcore.common.config import CfgNode
from torch import nn

from mvit_video.data.dataset import UndecodableVideo
from mvit_video.data.lists import load_list
from mvit_video.data.loader import Loader, video_loader
from mvit_video.data.preprocessing import Preprocessing
from mvit_video.errors import InputError
from mvit_video.evaluate.metrics import compute_metrics, summary, write_metrics
from mvit_video.evaluate.predictions import Predictions, load, merge, save
from mvit_video.evaluate.scoring import score_views
from mvit_video.progress import progress
from mvit_video.world import Stop, World

FOLDER = "test"
PREDICTIONS_FILE = "predictions.npz"
METRICS_FILE = "metrics.json"


class ScoredVideo(NamedTuple):
    """A row of the predictions; scores (V, C) float32."""

    index: int
    video_id: str
    label: int
    scores: np.ndarray


def run_test(
    cfg: CfgNode, model: nn.Module, preprocessing: Preprocessing, world: World, stop: Stop
) -> dict[str, Any] | None:
    """Tests a model on this rank's share of the test list, then brings the shares of all ranks together.

    Writes OUTPUT_DIR/test/predictions.npz (the same bytes for any number of ranks) and metrics.json. Ends by printing
    the score and where the files lie.

    Args:
        model: with the weights to test, on world.device.
        preprocessing: the model's own.
        stop: looked at before every TEST.BATCH_SIZE videos.

    Returns:
        The metrics, on every rank; None where the test was stopped, having written nothing.

    Raises:
        InputError: the list or the weights cannot be used.
    """
    model.eval()
    with closing(video_loader(cfg, "test", world, preprocessing)) as loader:
        num_videos = _sum_over_ranks(len(loader), world)
        videos = _score_share(cfg, model, preprocessing, loader, num_videos, world, stop)
    if videos is None:
        return None
    folder = Path(cfg.OUTPUT_DIR) / FOLDER
    save(
        _predictions(cfg, preprocessing, num_videos, videos), _part(folder, world.rank, world.size)
    )
    world.barrier()
    metrics = None
    if world.is_main:
        metrics = _bring_together(folder, world.size, cfg.DATA.ENSEMBLE_METHOD)
    return world.broadcast_object(metrics)


def run_test_part(
    cfg: CfgNode,
    model: nn.Module,
    preprocessing: Preprocessing,
    part: int,
    num_parts: int,
    device: torch.device,
    stop: Stop,
) -> Path | None:
    """Tests a model on every `num_parts`-th video from `part` on, in this process alone.

    The same videos, and the same bytes, as a rank of that many would write.

    Returns:
        The part's file in OUTPUT_DIR/test; None where the test was stopped, having written nothing.

    Raises:
        InputError: the list or the weights cannot be used.
    """
    model.eval()
    share, alone = World(part, num_parts, device=device), World(device=device)
    with closing(video_loader(cfg, "test", share, preprocessing)) as loader:
        videos = _score_share(cfg, model, preprocessing, loader, len(loader), alone, stop)
    if videos is None:
        return None
    num_videos = len(load_list(cfg, "test"))
    path = _part(Path(cfg.OUTPUT_DIR) / FOLDER, part, num_parts)
    save(_predictions(cfg, preprocessing, num_videos, videos), path)
    return path


def merge_parts(cfg: CfgNode, num_parts: int) -> dict[str, Any]:
    """Brings together what `run_test_part` has written; returns the metrics.

    Raises:
        InputError: a part is not there, or damaged; the others are left where they are.
    """
    folder = Path(cfg.OUTPUT_DIR) / FOLDER
    missing = [i for i in range(num_parts) if not _part(folder, i, num_parts).exists()]
    if missing:
        raise InputError(
            f"part {', '.join(map(str, missing))} of {num_parts} (counted from 0) is not in {folder}"
        )
    return _bring_together(folder, num_parts, cfg.DATA.ENSEMBLE_METHOD)


def remove_parts(cfg: CfgNode) -> None:
    """Removes what an earlier test in parts has left, so that nothing of it is merged with a new one."""
    for path in (Path(cfg.OUTPUT_DIR) / FOLDER).glob("predictions-*-of-*.npz"):
        path.unlink()


def _score_share(
    cfg: CfgNode,
    model: nn.Module,
    preprocessing: Preprocessing,
    loader: Loader,
    num_videos: int,
    world: World,
    stop: Stop,
) -> list[ScoredVideo | UndecodableVideo] | None:
    """What became of each video of the loader; None if the ranks agreed to stop on the way."""
    per_step = max(cfg.TEST.BATCH_SIZE // world.size, 1)
    largest_share = math.ceil(num_videos / world.size)
    items = progress(loader, len(loader), "test", shown=world.is_main)
    videos: list[ScoredVideo | UndecodableVideo] = []
    for _ in range(0, largest_share, per_step):  # as many agreements on every rank
        if world.any(stop.requested):
            return None
        for item in islice(items, per_step):
            if isinstance(item, UndecodableVideo):
                videos.append(item)
                continue
            views = item.views(world.device)
            scores = score_views(model, views, preprocessing, cfg.TEST.PRECISION)
            videos.append(ScoredVideo(item.index, item.video_id, item.label, scores.numpy()))
    return videos


def _predictions(
    cfg: CfgNode,
    preprocessing: Preprocessing,
    num_videos: int,
    videos: Sequence[ScoredVideo | UndecodableVideo],
) -> Predictions:
    """One rank's part of the predictions file."""
    clips, crops = cfg.TEST.NUM_ENSEMBLE_VIEWS, cfg.TEST.NUM_SPATIAL_CROPS
    scored = [video for video in videos if isinstance(video, ScoredVideo)]
    scores = np.empty((len(scored), clips * crops, cfg.MODEL.NUM_CLASSES), dtype=np.float32)
    for row, video in zip(scores, scored, strict=True):
        row[:] = video.scores
    return Predictions(
        video_id=tuple(video.video_id for video in scored),
        index=np.array([video.index for video in scored], dtype=np.int64),
        label=np.array([video.label for video in scored], dtype=np.int64),
        scores=scores,
        view=np.indices((clips, crops)).reshape(2, -1).T,
        num_videos=num_videos,
        undecodable=tuple(video for video in videos if isinstance(video, UndecodableVideo)),
        class_names=preprocessing.class_names,
    )


def _bring_together(folder: Path, num_parts: int, ensemble: str) -> dict[str, Any]:
    """Merges the parts of all ranks, computes the metrics, says what they are."""
    parts = [_part(folder, rank, num_parts) for rank in range(num_parts)]
    predictions = merge([load(part) for part in parts])
    metrics = compute_metrics(predictions, ensemble)
    save(predictions, folder / PREDICTIONS_FILE)
    write_metrics(metrics, folder / METRICS_FILE)
    for part in parts:
        part.unlink()
    print(f"test: {summary(metrics)}")
    print(
        f"scores per video and view: {folder / PREDICTIONS_FILE}, metrics: {folder / METRICS_FILE}",
        flush=True,
    )
    return metrics


def _part(folder: Path, rank: int, size: int) -> Path:
    return folder / f"predictions-{rank:05d}-of-{size:05d}.npz"


def _sum_over_ranks(value: int, world: World) -> int:
    return int(world.all_reduce_sum(torch.tensor(value, device=world.device)))
