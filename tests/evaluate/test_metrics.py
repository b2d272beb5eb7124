"""Metrics against numbers worked out by hand, and against the laws they must keep."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvit_video.data.dataset import UndecodableVideo
from mvit_video.evaluate.metrics import (
    compute_metrics,
    fuse_views,
    label_rank,
    score_by_views,
    spread_views,
    summary,
    write_metrics,
)
from mvit_video.evaluate.predictions import Predictions


def predictions_from(scores, label, *, lost=(), view=None, class_names=()) -> Predictions:
    scores = np.asarray(scores, dtype=np.float32)
    videos, views, _ = scores.shape
    return Predictions(
        video_id=tuple(f"v{i}" for i in range(videos)),
        index=np.arange(videos),
        label=np.asarray(label, dtype=np.int64),
        scores=scores,
        view=np.array([[t, 0] for t in range(views)]) if view is None else np.asarray(view),
        num_videos=videos + len(lost),
        undecodable=tuple(
            UndecodableVideo(f"lost{i}", label, videos + i, "no video stream")
            for i, label in enumerate(lost)
        ),
        class_names=class_names,
    )


def test_scores_worked_out_by_hand():
    one_view = [
        [[0.7, 0.2, 0.1]],  # class 0, right
        [[0.2, 0.7, 0.1]],  # class 0, wrong
        [[0.1, 0.8, 0.1]],  # class 1, right
        [[0.3, 0.1, 0.6]],  # class 2, right
    ]
    metrics = compute_metrics(predictions_from(one_view, [0, 0, 1, 2], lost=[2]))
    assert metrics["top1"] == 75.0
    assert metrics["top5"] == 100.0  # fewer than six classes
    assert metrics["mean_class_accuracy"] == pytest.approx((50 + 100 + 100) / 3)
    assert metrics["top1_all"] == 60.0
    assert (metrics["num_scored"], metrics["num_undecodable"]) == (4, 1)
    assert metrics["undecodable"] == [
        {"video_id": "lost0", "label": 2, "reason": "no video stream"}
    ]
    assert metrics["per_class"][0]["top1"] == 50.0
    assert metrics["per_class"][2] == {
        "label": 2,
        "name": "2",
        "top1": 100.0,
        "top5": 100.0,
        "num_scored": 1,
        "num_undecodable": 1,
    }


def test_views_are_averaged_or_the_largest_is_taken():
    views = [[[0.9, 0.1], [0.2, 0.8], [0.3, 0.7]], [[0.4, 0.6], [0.4, 0.6], [0.95, 0.05]]]
    predictions = predictions_from(views, [1, 0])
    np.testing.assert_allclose(
        fuse_views(predictions.scores, "sum")[0], [1.4 / 3, 1.6 / 3], rtol=1e-6
    )
    assert compute_metrics(predictions, "sum")["top1"] == 100.0
    assert compute_metrics(predictions, "max")["top1"] == 50.0


def test_equal_scores_rank_by_class_number():
    flat = predictions_from(np.full((8, 1, 8), 1 / 8), range(8))
    assert label_rank(fuse_views(flat.scores), flat.label).tolist() == list(range(8))
    assert compute_metrics(flat)["top1"] == 12.5
    assert compute_metrics(flat)["top5"] == 62.5


@given(st.integers(1, 7), st.integers(1, 9), st.randoms(use_true_random=False))
def test_the_label_s_rank_is_its_place_in_a_stable_sort(videos, classes, random):
    scores = np.array([[random.randint(0, 3) for _ in range(classes)] for _ in range(videos)])
    label = np.array([random.randrange(classes) for _ in range(videos)])
    order = np.argsort(-scores, axis=1, kind="stable")
    assert label_rank(scores, label).tolist() == [
        row.tolist().index(c) for row, c in zip(order, label, strict=True)
    ]


def test_every_smaller_number_of_views_is_scored_from_the_same_pass():
    view = [[t, s] for t in range(5) for s in range(3)]
    scores = np.random.default_rng(0).dirichlet(np.ones(6), (40, 15))
    predictions = predictions_from(scores, np.arange(40) % 6, view=view)
    by_views = score_by_views(predictions)
    assert sorted(by_views) == sorted(f"{t}x{s}" for t in range(1, 6) for s in (1, 3))
    assert by_views["5x3"]["top1"] == compute_metrics(predictions)["top1"]
    assert by_views["1x1"]["temporal_views"] == [2]
    assert by_views["1x1"]["spatial_crops"] == [1]
    centre = predictions_from(predictions.scores[:, [7]], predictions.label)
    assert by_views["1x1"]["top1"] == compute_metrics(centre)["top1"]
    ends = predictions_from(predictions.scores[:, [0, 1, 2, 12, 13, 14]], predictions.label)
    assert by_views["2x3"]["top1"] == compute_metrics(ends)["top1"]


def test_one_spatial_crop_is_the_crop_there_is():
    by_views = score_by_views(predictions_from(np.full((1, 3, 2), 0.5), [0]))
    assert list(by_views) == ["1x1", "2x1", "3x1"]
    assert by_views["3x1"]["spatial_crops"] == [0]


@given(st.integers(1, 40), st.data())
def test_fewer_views_lie_evenly_over_the_video(available, data):
    wanted = data.draw(st.integers(1, available))
    chosen = spread_views(available, wanted)
    assert len(set(chosen)) == wanted
    assert chosen == sorted(chosen)
    assert set(chosen) <= set(range(available))
    if wanted > 1:
        assert (chosen[0], chosen[-1]) == (0, available - 1)
        gaps = np.diff(chosen)
        assert gaps.max() - gaps.min() <= 1


@pytest.mark.parametrize(
    ("available", "wanted", "chosen"), [(5, 3, [0, 2, 4]), (10, 4, [0, 3, 6, 9]), (5, 1, [2])]
)
def test_fewer_views_are_those_of_a_smaller_test(available, wanted, chosen):
    assert spread_views(available, wanted) == chosen


def test_no_scored_video_gives_no_number(tmp_path):
    metrics = compute_metrics(predictions_from(np.zeros((0, 2, 3)), [], lost=[1, 1]))
    assert metrics["top1"] is None
    assert metrics["mean_class_accuracy"] is None
    assert metrics["top1_all"] == 0.0
    assert "no video could be scored" in summary(metrics)
    write_metrics(metrics, tmp_path / "metrics.json")
    assert json.loads((tmp_path / "metrics.json").read_text()) == metrics


def test_the_summary_says_what_the_score_rests_on():
    right = compute_metrics(
        predictions_from([[[0.1, 0.9]]] * 3, [1, 1, 1], lost=[0], class_names=("a", "b"))
    )
    assert summary(right) == (
        "top-1 100.00 %  top-5 100.00 %  mean class accuracy 100.00 %  "
        "(3 videos scored, 1 undecodable; top-1 with those counted wrong 75.00 %)"
    )
    assert [entry["name"] for entry in right["per_class"]] == ["a", "b"]
