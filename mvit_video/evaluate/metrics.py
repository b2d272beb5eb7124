"""Scores of a test, computed from its predictions and nothing else.

All functions are pure. Accuracies are percent. Equal scores rank by class number, so that no result depends on a sort.
"""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np

from mvit_video.evaluate.predictions import Predictions
from mvit_video.files import atomic_file

TOP_K = 5


def compute_metrics(predictions: Predictions, ensemble: str = "sum") -> dict[str, Any]:
    """All scores of a test.

    Args:
        predictions: the whole file, or a part of it.
        ensemble: how the views of a video are combined, as `fuse_views`.

    Returns:
        Plain values, ready for JSON; accuracies in percent, None where no video was scored:
        top1, top5 over the scored videos (top5 is 100 below six classes); mean_class_accuracy, the mean of the top-1 of
        each class that has scored videos; top1_all, with undecodable videos counted wrong; num_scored, num_undecodable;
        ensemble; by_views, as `score_by_views`; per_class, one entry per class with videos; undecodable, with reasons.
    """
    rank = label_rank(fuse_views(predictions.scores, ensemble), predictions.label)
    num_all = len(rank) + len(predictions.undecodable)
    per_class = _per_class(predictions, rank)
    return {
        "top1": _percent(rank < 1),
        "top5": _percent(rank < TOP_K),
        "mean_class_accuracy": _mean([c["top1"] for c in per_class if c["num_scored"]]),
        "top1_all": 100.0 * int((rank < 1).sum()) / num_all if num_all else None,
        "num_scored": len(rank),
        "num_undecodable": len(predictions.undecodable),
        "ensemble": ensemble,
        "by_views": score_by_views(predictions, ensemble),
        "per_class": per_class,
        "undecodable": [
            {"video_id": video.video_id, "label": video.label, "reason": video.reason}
            for video in predictions.undecodable
        ],
    }


def fuse_views(scores: np.ndarray, ensemble: str = "sum") -> np.ndarray:
    """One score per video and class: mean ("sum", which ranks the same) or maximum ("max") over its views.

    Args:
        scores: (N, V, C).

    Returns:
        (N, C) float64; the sum of float32 values in float64 is exact enough not to depend on their order.
    """
    if ensemble == "max":
        return scores.max(axis=1).astype(np.float64)
    return scores.mean(axis=1, dtype=np.float64)


def label_rank(scores: np.ndarray, label: np.ndarray) -> np.ndarray:
    """How many classes come before the right one: (N, C), (N,) -> (N,). Below k, the video is right in the top k."""
    own = np.take_along_axis(scores, label[:, None], axis=1)
    tied_before = (scores == own) & (np.arange(scores.shape[1]) < label[:, None])
    return ((scores > own) | tied_before).sum(axis=1)


def score_by_views(predictions: Predictions, ensemble: str = "sum") -> dict[str, dict[str, Any]]:
    """What fewer views would have scored, from the same pass.

    Of T temporal views, k are those that lie evenly over the video with its first and last view among them (the middle
    one for k = 1): wherever k - 1 divides T - 1, these are the clips that a test with k views takes. Of S spatial crops
    either all count or the centre one, which in a test with several crops is cut from frames scaled to the crop's size.

    Returns:
        {"5x1": {"top1", "top5", "temporal_views", "spatial_crops"}, ...} from one view to all of them.
    """
    temporal, spatial = np.unique(predictions.view[:, 0]), np.unique(predictions.view[:, 1])
    found = {}
    for crops in {1: spatial[[len(spatial) // 2]], len(spatial): spatial}.values():
        for wanted in range(1, len(temporal) + 1):
            clips = temporal[spread_views(len(temporal), wanted)]
            chosen = np.isin(predictions.view[:, 0], clips) & np.isin(predictions.view[:, 1], crops)
            rank = label_rank(
                fuse_views(predictions.scores[:, chosen], ensemble), predictions.label
            )
            found[f"{wanted}x{len(crops)}"] = {
                "top1": _percent(rank < 1),
                "top5": _percent(rank < TOP_K),
                "temporal_views": clips.tolist(),
                "spatial_crops": crops.tolist(),
            }
    return found


def spread_views(available: int, wanted: int) -> list[int]:
    """`wanted` of the numbers 0 ... available - 1, evenly spread, ends included; the middle one if one is wanted."""
    if wanted == 1:
        return [(available - 1) // 2]
    gaps = wanted - 1
    return [(2 * i * (available - 1) + gaps) // (2 * gaps) for i in range(wanted)]


def write_metrics(metrics: dict[str, Any], path: str | os.PathLike[str]) -> None:
    """Writes metrics.json in one piece."""
    with atomic_file(path) as file:
        file.write((json.dumps(metrics, indent=2, allow_nan=False) + "\n").encode("utf-8"))


def summary(metrics: dict[str, Any]) -> str:
    """The score in one line, with the number of videos it rests on."""
    if not metrics["num_scored"]:
        return f"no video could be scored, {metrics['num_undecodable']} undecodable"
    line = (
        f"top-1 {metrics['top1']:.2f} %  top-5 {metrics['top5']:.2f} %  mean class accuracy "
        f"{metrics['mean_class_accuracy']:.2f} %  ({metrics['num_scored']} videos scored, "
        f"{metrics['num_undecodable']} undecodable"
    )
    if metrics["num_undecodable"]:
        line += f"; top-1 with those counted wrong {metrics['top1_all']:.2f} %"
    return line + ")"


def _per_class(predictions: Predictions, rank: np.ndarray) -> list[dict[str, Any]]:
    lost = np.array([video.label for video in predictions.undecodable], dtype=np.int64)
    entries = []
    for label in np.union1d(predictions.label, lost).tolist():
        own = rank[predictions.label == label]
        entries.append(
            {
                "label": label,
                "name": predictions.class_names[label] if predictions.class_names else str(label),
                "top1": _percent(own < 1),
                "top5": _percent(own < TOP_K),
                "num_scored": len(own),
                "num_undecodable": int((lost == label).sum()),
            }
        )
    return entries


def _percent(right: np.ndarray) -> float | None:
    return 100.0 * int(right.sum()) / len(right) if len(right) else None


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
