"""What the report derives from predictions, held against counting by hand and against the laws it must obey."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvit_video.evaluate.metrics import compute_metrics, fuse_views
from mvit_video.evaluate.report import findings
from mvit_video.evaluate.report.findings import Confusion, wilson_interval
from tests.evaluate.report.made_run import made_predictions

PAIRS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=60)


def counted(pairs):
    label, predicted = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    return findings.count_confusions(label, predicted, 7)


@pytest.mark.parametrize(
    ("right", "total", "low", "high"),
    [(0, 10, 0.0, 27.75), (10, 10, 72.25, 100.0), (81, 263, 25.53, 36.62), (15, 148, 6.24, 16.05)],
)
def test_wilson_intervals_are_those_of_the_literature(right, total, low, high):
    """The last two are Newcombe's (1998) examples, method 3."""
    assert wilson_interval(right, total) == pytest.approx((low, high), abs=0.01)
    assert wilson_interval(0, 0) is None


@given(st.integers(1, 10_000), st.data())
def test_an_interval_holds_its_share_and_stays_within_percent(total, data):
    right = data.draw(st.integers(0, total))
    low, high = wilson_interval(right, total)
    assert 0 <= low <= 100 * right / total + 1e-9
    assert 100 * right / total - 1e-9 <= high <= 100


@given(PAIRS)
def test_confusions_count_every_video_once(pairs):
    rows = counted(pairs).tolist()
    assert sum(n for _, _, n in rows) == len(pairs)
    assert all(pairs.count((label, predicted)) == n for label, predicted, n in rows)


@given(PAIRS)
def test_pairs_hold_every_mistake_once_most_first(pairs):
    found = findings.most_confused(counted(pairs), limit=100)
    assert sum(p.there + p.back for p in found) == sum(one != other for one, other in pairs)
    assert len({frozenset((p.one, p.other)) for p in found}) == len(found)
    totals = [p.there + p.back for p in found]
    assert totals == sorted(totals, reverse=True)
    assert all(p.there >= p.back for p in found)


def test_a_pair_names_the_more_frequent_way_first():
    pairs = [(5, 2)] * 3 + [(2, 5)] + [(1, 1)] * 9 + [(0, 1), (1, 0)]
    assert findings.most_confused(counted(pairs), 15) == [
        Confusion(5, 2, 3, 1),
        Confusion(0, 1, 1, 1),
    ]


@given(PAIRS)
def test_an_order_holds_every_class_once(pairs):
    assert sorted(findings.order_by_similarity(counted(pairs), 7)) == list(range(7))


def test_classes_that_are_taken_for_each_other_come_side_by_side():
    chain = [0, 4, 1, 6, 3]  # each is mistaken for the next
    pairs = [pair for pair in pairwise(chain) for _ in range(5)]
    order = findings.order_by_similarity(counted(pairs), 7)
    assert order[:5] in (chain, chain[::-1])
    assert order[5:] == [2, 5]


def test_a_class_knows_its_score_its_precision_and_what_it_is_taken_for():
    predictions = made_predictions(labels=[0, 0, 0, 1], answers=[0, 1, 1, 1], lost=[2])
    metrics = compute_metrics(predictions)
    confusions = findings.count_confusions(predictions.label, np.array([0, 1, 1, 1]), 3)
    first, second, third = findings.score_classes(metrics["per_class"], confusions, 3)
    assert first.top1 == pytest.approx(100 / 3)
    assert (first.precision, first.mistaken_for) == (100.0, (1, 2))
    assert (second.top1, second.mistaken_for) == (100.0, (-1, 0))
    assert second.precision == pytest.approx(100 / 3)
    assert (third.top1, third.interval, third.num_undecodable) == (None, None, 1)


def test_best_videos_are_one_per_class_and_worst_are_the_widest_mistakes():
    predictions = made_predictions(
        labels=[0, 0, 1, 2], answers=[0, 0, 2, 0], sure=[0.6, 0.9, 0.5, 0.8]
    )
    best, worst = findings.best_and_worst(predictions, fuse_views(predictions.scores), 6)
    assert [video.video_id for video in best] == ["video 1.mp4"]
    assert [video.video_id for video in worst] == ["video 3.mp4", "video 2.mp4"]
    label, percent = worst[0].top[0]
    assert (label, percent) == (0, pytest.approx(80.0))


def test_calibration_puts_each_video_into_its_tenth():
    scores = np.array([[0.95, 0.05], [0.93, 0.07], [0.45, 0.55], [1.0, 0.0]])
    tenths = findings.calibration(scores, np.array([0, 1, 1, 0]))
    assert [(round(x, 1), round(y, 1)) for x, y, _ in tenths] == [(55.0, 100.0), (96.0, 66.7)]
