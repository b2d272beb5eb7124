"""From the files of a run to what its report shows."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from fvcore.common.config import CfgNode

from mvit_video.config import get_cfg, load_config
from mvit_video.data.lists import load_list
from mvit_video.data.readers import make_reader
from mvit_video.errors import InputError, VideoError
from mvit_video.evaluate.metrics import compute_metrics, fuse_views
from mvit_video.evaluate.predictions import Predictions
from mvit_video.evaluate.report import findings
from mvit_video.evaluate.report.chart import NO_COLOUR, Chart, Point, Series, draw
from mvit_video.evaluate.report.findings import ScoredVideo, wilson_interval
from mvit_video.evaluate.report.render import shown
from mvit_video.evaluate.report.run_log import read_json_lines
from mvit_video.evaluate.report.thumbnails import film_strip
from mvit_video.run_folder import (
    BAD_VIDEOS_FILE,
    CONFIG_FILE,
    ENVIRONMENT_FILE,
    METRICS_FILE,
    TEST_FOLDER,
)

PAIRS, VIDEOS = 15, 6  # how many are shown
_MOST_CLASSES_IN_MATRIX = 2000
_DIAGONAL = (Point(0, 0, 0, 0), Point(100, 100, 100, 100))
_log = logging.getLogger(__name__)


def test_contents(predictions: Predictions, ensemble: str, cfg: CfgNode | None) -> dict[str, Any]:
    """What the report shows of a test.

    Args:
        ensemble: how views are combined, as `fuse_views`.
        cfg: of the test, to find its videos for pictures; None for a report without.
    """
    metrics = compute_metrics(predictions, ensemble)
    scores = fuse_views(predictions.scores, ensemble)
    num_classes = scores.shape[1]
    predicted = scores.argmax(axis=1)
    confusions = findings.count_confusions(predictions.label, predicted, num_classes)
    best, worst = findings.best_and_worst(predictions, scores, VIDEOS)
    pictures, no_pictures = film_strips(cfg, [*best, *worst])
    return {
        "metrics": metrics,
        "names": class_names(predictions),
        "num_views": len(predictions.view),
        "interval": _interval(metrics["top1"], metrics["num_scored"]),
        "views": _views(metrics),
        "charts": _charts(metrics, scores, predictions.label, ensemble),
        "classes": sorted(
            findings.score_classes(metrics["per_class"], confusions, num_classes),
            key=_hardest_first,
        ),
        "pairs": findings.most_confused(confusions, PAIRS),
        "matrix": _matrix(confusions, predictions)
        if num_classes <= _MOST_CLASSES_IN_MATRIX
        else None,
        "totals": np.bincount(predictions.label, minlength=num_classes).tolist(),
        "best": best,
        "worst": worst,
        "pictures": pictures,
        "no_pictures": no_pictures,
    }


def class_names(predictions: Predictions) -> list[str]:
    """What each class is called on the page."""
    if predictions.class_names:
        return [shown(name) for name in predictions.class_names]
    return [f"class {label}" for label in range(predictions.scores.shape[2])]


def film_strips(cfg: CfgNode | None, videos: Sequence[ScoredVideo]) -> tuple[dict[int, str], str]:
    """{list index: JPEG data URI} of those videos that can be read from here; and why there is none, or ""."""
    if cfg is None:
        return {}, "there is no config that says where the videos are"
    try:
        listed, reader = load_list(cfg, "test"), make_reader(cfg.DATA.READER)
    except InputError as error:
        return {}, str(error)
    strips, reason = {}, ""
    for video in videos:
        if video.index >= len(listed) or listed.video_id(video.index) != video.video_id:
            return {}, f"{listed.source} is another list than the one that was tested"
        try:
            strips[video.index] = film_strip(reader, listed.path(video.index))
        except VideoError as error:
            reason = str(error)
    return strips, "" if strips else reason


def read_config(output_dir: Path) -> tuple[CfgNode | None, str]:
    """The config of the test, else of the training; None if it cannot be read. And its text, "" if there is none."""
    for path in (output_dir / TEST_FOLDER / CONFIG_FILE, output_dir / CONFIG_FILE):
        if path.is_file():
            try:
                return load_config(path), path.read_text(encoding="utf-8", errors="replace")
            except InputError as error:
                _log.warning("the report does without pictures: %s", error)
                return None, path.read_text(encoding="utf-8", errors="replace")
    return None, ""


def changed_keys(cfg: CfgNode | None) -> list[tuple[str, str]]:
    """The keys of a config that are not at their defaults."""
    return [] if cfg is None else list(_differences(cfg, get_cfg()))


def _differences(cfg: CfgNode, default: CfgNode, prefix: str = "") -> Any:
    for key, value in cfg.items():
        if isinstance(value, CfgNode):
            yield from _differences(value, default[key], f"{prefix}{key}.")
        elif value != default[key]:
            yield f"{prefix}{key}", str(value)


def read_environments(output_dir: Path) -> list[tuple[str, dict[str, str]]]:
    """What training and test ran on, where it was recorded: ("Training", {"torch": ..., ...}); one where they agree."""
    folders = {"Training": output_dir, "Test": output_dir / TEST_FOLDER}
    found = {
        phase: {
            str(key): str(value) for key, value in _read_json(folder / ENVIRONMENT_FILE).items()
        }
        for phase, folder in folders.items()
    }
    without_time = [{**values, "started": ""} for values in found.values()]
    if without_time[0] == without_time[1]:
        found = {"Training and test": found["Training"]}
    return [(phase, values) for phase, values in found.items() if values]


def read_bad_videos(output_dir: Path) -> list[dict[str, str]]:
    """The training videos that could not be decoded: path and reason."""
    path = output_dir / BAD_VIDEOS_FILE
    lines = read_json_lines(path) if path.is_file() else []
    keys = {"video_id": "path", "reason": "reason"}
    return [{name: str(line.get(key, "")) for name, key in keys.items()} for line in lines]


def tested_ensemble(output_dir: Path, cfg: CfgNode | None) -> str:
    """How the test combined views: as its metrics say, else its config."""
    stored = _read_json(output_dir / TEST_FOLDER / METRICS_FILE).get("ensemble")
    if stored in ("sum", "max"):
        return stored
    return cfg.DATA.ENSEMBLE_METHOD if cfg is not None else "sum"


def _read_json(path: Path) -> dict[str, Any]:
    """An object; {} for a file that is not there, or something else."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def _views(metrics: dict[str, Any]) -> list[dict[str, Any]]:
    """The scores by number of views, each with its interval."""
    return [
        {
            "name": name,
            "clips": len(score["temporal_views"]),
            "crops": len(score["spatial_crops"]),
            **score,
            "interval": _interval(score["top1"], metrics["num_scored"]),
        }
        for name, score in metrics["by_views"].items()
    ]


def _charts(
    metrics: dict[str, Any], scores: np.ndarray, label: np.ndarray, ensemble: str
) -> list[Chart]:
    if not len(scores):
        return []
    charts = []
    views = _views(metrics)
    if max(view["clips"] for view in views) > 1:
        every = []
        for colour, crops in enumerate(sorted({view["crops"] for view in views})):
            points = tuple(
                Point(v["clips"], v["top1"], *v["interval"]) for v in views if v["crops"] == crops
            )
            name = f"{crops} crop{'s' if crops > 1 else ''}"
            every.append(Series(name, points, colour, whiskers=True, dots=True))
        title = "Top-1 by number of views"
        charts.append(draw(title, "%", every, "clips per video", y_range=(0, 100)))
    if ensemble == "sum":  # only the mean of softmax is a probability
        tenths = findings.calibration(scores, label)
        points = tuple(Point(x, y, *interval) for x, y, interval in tenths)
        every = [
            Series("measured", points, whiskers=True, dots=True),
            Series("as sure as right", _DIAGONAL, colour=NO_COLOUR, dashed=True, guide=True),
        ]
        charts.append(
            draw("How sure, and how often right", "%", every, "confidence", y_range=(0, 100))
        )
    return charts


def _hardest_first(score: findings.ClassScore) -> tuple[bool, float, int]:
    return score.top1 is None, score.top1 or 0.0, score.label


def _interval(top1: float | None, total: int) -> findings.Interval | None:
    return None if top1 is None else wilson_interval(top1 / 100 * total, total)


def _matrix(confusions: np.ndarray, predictions: Predictions) -> dict[str, Any]:
    """The confusion matrix as the page's script reads it: cells as one flat list of class, predicted class, videos."""
    num_classes = predictions.scores.shape[2]
    return {
        "names": class_names(predictions),
        "cells": confusions.ravel().tolist(),
        "similar": findings.order_by_similarity(confusions, num_classes),
    }
