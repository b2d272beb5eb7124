"""The multi-view test: every video of the list scored once, in all its views, over any number of ranks or shards."""

from __future__ import annotations

import logging
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
from mvit_video.environment import write_environment
from mvit_video.errors import InputError
from mvit_video.evaluate.metrics import compute_metrics, summary, write_metrics
from mvit_video.evaluate.parts import Part, merge_files, origin_of, remove_parts
from mvit_video.evaluate.predictions import Predictions, concatenate, save
from mvit_video.evaluate.report import write_report
from mvit_video.evaluate.scoring import common_steps, score_views
from mvit_video.files import atomic_file
from mvit_video.models.cuda_graph import CudaGraphs
from mvit_video.progress import progress
from mvit_video.run_folder import CONFIG_FILE, METRICS_FILE, PREDICTIONS_FILE, TEST_FOLDER
from mvit_video.world import Stop, World

_log = logging.getLogger(__name__)


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

    Writes OUTPUT_DIR/test/predictions.npz (the same bytes for any number of ranks), metrics.json and config.yaml, and
    OUTPUT_DIR/report.html. Ends by printing the score and where the files lie. What a stopped test has scored is kept
    beside them, and the next goes on behind it if the weights, the list and the views are the same.

    Args:
        model: with the weights to test, on world.device.
        preprocessing: the model's own.
        stop: looked at before every TEST.BATCH_SIZE videos.

    Returns:
        The metrics, on every rank; None where the test was stopped.

    Raises:
        InputError: the list or the weights cannot be used.
    """
    folder = Path(cfg.OUTPUT_DIR) / TEST_FOLDER
    part = Part(folder, world.rank, world.size)
    if not _score_part(cfg, model, preprocessing, part, world, world, stop):
        return None
    world.barrier()
    metrics = None
    if world.is_main:
        metrics = _bring_together(cfg, world.size)
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

    The same videos, and the same bytes, as a rank of that many would write. Of a part that was stopped, or is there
    already, only what is missing is scored.

    Returns:
        The part's file in OUTPUT_DIR/test; None where the test was stopped.

    Raises:
        InputError: the list or the weights cannot be used.
    """
    share, alone = World(part, num_parts, device=device), World(device=device)
    written = Part(Path(cfg.OUTPUT_DIR) / TEST_FOLDER, part, num_parts)
    whole = _score_part(cfg, model, preprocessing, written, share, alone, stop)
    return written.path if whole else None


def merge_parts(cfg: CfgNode, num_parts: int) -> dict[str, Any]:
    """Brings together what `run_test_part` has written; returns the metrics.

    Raises:
        InputError: a part is missing, damaged, unfinished or of another test; all are left where they are.
    """
    return _bring_together(cfg, num_parts)


def _score_part(
    cfg: CfgNode,
    model: nn.Module,
    preprocessing: Preprocessing,
    part: Part,
    share: World,
    world: World,
    stop: Stop,
) -> bool:
    """Scores and saves what is still to be scored of a part. False if it was stopped on the way.

    Args:
        share: whose videos.
        world: who is at work, and agrees on a stop.
    """
    model.eval()
    videos = load_list(cfg, "test")
    origin = origin_of(cfg, model, preprocessing, videos)
    done = part.begun(origin)
    num_done = 0 if done is None else len(done.positions)
    if num_done:
        _log.info("%d of %s's videos are scored already", num_done, part.path.name)
    with closing(video_loader(cfg, "test", share, preprocessing, skip=num_done)) as loader:
        scored, whole = _score(cfg, model, preprocessing, loader, world, stop)
    predictions = _predictions(cfg, preprocessing, len(videos), origin, scored)
    if done is not None:
        predictions = concatenate([done, predictions])
    if whole or len(predictions.positions):
        save(predictions, part.path)
        if part.number == 0:
            write_environment(part.folder, share)
    return whole


def _score(
    cfg: CfgNode,
    model: nn.Module,
    preprocessing: Preprocessing,
    loader: Loader,
    world: World,
    stop: Stop,
) -> tuple[list[ScoredVideo | UndecodableVideo], bool]:
    """What became of the loader's videos; False with it if the ranks agreed to stop before the last."""
    forward = CudaGraphs(model) if cfg.TEST.CUDA_GRAPHS else model
    per_step = max(cfg.TEST.BATCH_SIZE // world.size, 1)
    items = progress(loader, len(loader), "test", shown=world.is_main)
    videos: list[ScoredVideo | UndecodableVideo] = []
    for _ in range(common_steps(len(loader), per_step, world)):
        if world.any(stop.requested):
            return videos, False
        for item in islice(items, per_step):
            if isinstance(item, UndecodableVideo):
                videos.append(item)
                continue
            views = item.views(world.device)
            scores = score_views(forward, views, preprocessing, cfg.TEST.PRECISION)
            videos.append(ScoredVideo(item.index, item.video_id, item.label, scores.numpy()))
    return videos, True


def _predictions(
    cfg: CfgNode,
    preprocessing: Preprocessing,
    num_videos: int,
    origin: str,
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
        origin=origin,
    )


def _bring_together(cfg: CfgNode, num_parts: int) -> dict[str, Any]:
    """Merges the parts of all ranks, computes the metrics, says what they are, and writes the report."""
    folder = Path(cfg.OUTPUT_DIR) / TEST_FOLDER
    predictions = merge_files(folder, num_parts)
    metrics = compute_metrics(predictions, cfg.DATA.ENSEMBLE_METHOD)
    save(predictions, folder / PREDICTIONS_FILE)
    write_metrics(metrics, folder / METRICS_FILE)
    with atomic_file(folder / CONFIG_FILE) as file:
        file.write(cfg.dump().encode())
    remove_parts(folder)
    files = {"scores per video and view": PREDICTIONS_FILE, "metrics": METRICS_FILE}
    where = [f"{name}: {folder / file}" for name, file in files.items()]
    try:
        where.append(f"report: {write_report(cfg.OUTPUT_DIR, cfg)}")
    except (InputError, OSError) as error:  # the scores are safe, whatever lies beside them
        _log.warning("there is no report: %s", error)
    print(f"test: {summary(metrics)}\n{', '.join(where)}", flush=True)
    return metrics
