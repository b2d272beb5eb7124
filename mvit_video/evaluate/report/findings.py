"""What a test found beyond its scores: how sure they are, what is mistaken for what, the best and worst videos.

All functions are pure, and work on a test of 400 classes and 20,000 videos in seconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mvit_video.evaluate.metrics import TOP_K, label_rank
from mvit_video.evaluate.predictions import Predictions

_Z = 1.959964  # of a two-sided 95 % interval
_MOST_CLASSES_TO_ORDER = 1000  # an eigenvector of more takes too long


class Interval(NamedTuple):
    """95 % confidence, in percent."""

    low: float
    high: float


class Confusion(NamedTuple):
    """Two classes taken for each other: `there` videos of `one` for `other`, `back` of `other` for `one`."""

    one: int
    other: int
    there: int
    back: int


@dataclass(frozen=True)
class ClassScore:
    """A class in the table; percent, None where nothing was scored.

    Attributes:
        precision: of the videos that were taken for this class, how many are of it.
        mistaken_for: class that its wrong videos are most often taken for, and how many are; (-1, 0) for none.
    """

    label: int
    num_scored: int
    num_undecodable: int
    top1: float | None
    top5: float | None
    interval: Interval | None
    precision: float | None
    mistaken_for: tuple[int, int]


class ScoredVideo(NamedTuple):
    """A video with the classes that scored highest: (class, percent), best first."""

    index: int
    video_id: str
    label: int
    top: tuple[tuple[int, float], ...]


def wilson_interval(right: float, total: int) -> Interval | None:
    """The 95 % interval of a share of `total` independent videos (Wilson 1927); None for none."""
    if not total:
        return None
    share, z2 = right / total, _Z**2
    centre = (share + z2 / (2 * total)) / (1 + z2 / total)
    half = _Z / (1 + z2 / total) * math.sqrt(share * (1 - share) / total + z2 / (4 * total**2))
    return Interval(100 * max(centre - half, 0.0), 100 * min(centre + half, 1.0))


def count_confusions(label: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """(K, 3) int64 rows of (right class, predicted class, videos), of the pairs that occur; ascending."""
    pairs, counts = np.unique(label * num_classes + predicted, return_counts=True)
    return np.stack([pairs // num_classes, pairs % num_classes, counts], axis=1)


def most_confused(confusions: np.ndarray, limit: int) -> list[Confusion]:
    """The pairs of classes with the most mistakes between them, both ways added up."""
    counts = {(one, other): n for one, other, n in confusions.tolist() if one != other}
    pairs = []
    for (one, other), there in counts.items():
        back = counts.get((other, one), 0)
        if there > back or (there == back and one < other):
            pairs.append(Confusion(one, other, there, back))
    return sorted(pairs, key=lambda p: (-p.there - p.back, p.one, p.other))[:limit]


def order_by_similarity(confusions: np.ndarray, num_classes: int) -> list[int]:
    """The classes in a row, those that are taken for each other close together.

    By the Fiedler vector of the graph of mistakes (spectral seriation, Atkins et al. 1998). Classes that nothing is
    mistaken for come last; more than 1,000 classes stay as they are.
    """
    mistakes = confusions[confusions[:, 0] != confusions[:, 1]]
    joined = np.unique(mistakes[:, :2])
    if not 2 < len(joined) <= _MOST_CLASSES_TO_ORDER:
        return list(range(num_classes))
    weight = np.full((len(joined), len(joined)), 1e-3)  # keeps separate groups on one string
    one, other = np.searchsorted(joined, mistakes[:, :2]).T
    np.add.at(weight, (one, other), mistakes[:, 2])
    weight += weight.T
    scale = 1 / np.sqrt(weight.sum(axis=1))
    _, vectors = np.linalg.eigh(np.eye(len(joined)) - scale[:, None] * weight * scale)
    place = vectors[:, 1] * scale
    place *= np.sign(place[np.argmax(abs(place))])  # an eigenvector has no sign of its own
    ordered = joined[np.argsort(place.round(9), kind="stable")]
    return [*ordered.tolist(), *np.setdiff1d(np.arange(num_classes), joined).tolist()]


def score_classes(
    per_class: list[dict], confusions: np.ndarray, num_classes: int
) -> list[ClassScore]:
    """A row per class with videos, from the metrics' `per_class` and what was taken for what."""
    taken = np.bincount(confusions[:, 1], confusions[:, 2], num_classes)
    mistaken: dict[int, tuple[int, int]] = {}
    right: dict[int, int] = {}
    for label, predicted, count in confusions.tolist():
        if label == predicted:
            right[label] = count
        elif count > mistaken.get(label, (-1, 0))[1]:
            mistaken[label] = (predicted, count)
    return [
        ClassScore(
            label := entry["label"],
            entry["num_scored"],
            entry["num_undecodable"],
            entry["top1"],
            entry["top5"],
            wilson_interval(right.get(label, 0), entry["num_scored"]),
            100 * right.get(label, 0) / taken[label] if taken[label] else None,
            mistaken.get(label, (-1, 0)),
        )
        for entry in per_class
    ]


def best_and_worst(
    predictions: Predictions, scores: np.ndarray, number: int
) -> tuple[list[ScoredVideo], list[ScoredVideo]]:
    """The videos whose class scored highest, one per class; and the mistakes that are furthest from right.

    Args:
        scores: (N, C), views combined.
    """
    rows = np.arange(len(scores))
    own = scores[rows, predictions.label]
    margin = scores.max(axis=1, initial=0.0) - own
    is_wrong = label_rank(scores, predictions.label) > 0
    wrong = [i for i in np.argsort(-margin, kind="stable").tolist() if is_wrong[i]]
    best: dict[int, int] = {}
    for i in np.argsort(-own, kind="stable").tolist():
        if not is_wrong[i]:
            best.setdefault(int(predictions.label[i]), i)
    chosen = list(best.values())[:number], wrong[:number]
    return tuple([_scored_video(predictions, scores, i) for i in some] for some in chosen)


def calibration(
    scores: np.ndarray, label: np.ndarray, bins: int = 10
) -> list[tuple[float, float, Interval]]:
    """How often videos of a certain confidence are right: (mean confidence, top-1, its interval) by tenths; percent.

    A bin that holds no video is left out.
    """
    confidence = scores.max(axis=1, initial=0.0)
    right = label_rank(scores, label) < 1
    number = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    found = []
    for i in np.unique(number).tolist():
        within = number == i
        total, hits = int(within.sum()), int(right[within].sum())
        interval = wilson_interval(hits, total)
        found.append((100 * float(confidence[within].mean()), 100 * hits / total, interval))
    return found


def _scored_video(predictions: Predictions, scores: np.ndarray, i: int) -> ScoredVideo:
    top = np.argsort(-scores[i], kind="stable")[:TOP_K]
    return ScoredVideo(
        int(predictions.index[i]),
        predictions.video_id[i],
        int(predictions.label[i]),
        tuple((int(k), 100 * float(scores[i, k])) for k in top),
    )
