"""Segments from the scores of windows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvit_video.errors import InputError
from mvit_video.predict.segments import Segment, SegmentMerger

NAMES = ("walk", "jump", "rest")


def merge(rows, enter=0.5, leave=0.3) -> list[Segment]:
    """Segments of windows that hold for one second each."""
    merger = SegmentMerger(NAMES, enter, leave)
    found = [s for second, row in enumerate(rows) for s in merger.push(second, np.array(row))]
    return found + merger.end(len(rows))


def spans(segments: list[Segment]) -> list[tuple[float, float, str]]:
    return [(s.begin, s.end, s.name) for s in segments]


def test_a_score_that_wavers_makes_one_segment():
    rows = [(0.9, 0.1, 0), (0.4, 0.35, 0.25), (0.6, 0.2, 0.2), (0.31, 0.4, 0.29), (0.8, 0.1, 0.1)]
    (segment,) = merge(rows)
    assert (segment.begin, segment.end, segment.label) == (0, 5, 0)
    assert segment.score == pytest.approx(np.mean([0.9, 0.4, 0.6, 0.31, 0.8]))


def test_a_segment_begins_where_the_score_last_came_above_the_lower_threshold():
    rows = [(0.1, 0.1, 0.1), (0.35, 0.1, 0.1), (0.4, 0.2, 0.1), (0.7, 0.1, 0.1), (0.1, 0.1, 0.1)]
    assert spans(merge(rows)) == [(1, 4, "walk")]


def test_what_never_comes_above_the_upper_threshold_is_no_segment():
    assert merge([(0.49, 0.4, 0.1)] * 5) == []


def test_a_class_that_takes_over_ends_the_one_before():
    rows = [(0.9, 0.1, 0), (0.4, 0.6, 0), (0.35, 0.65, 0), (0.1, 0.1, 0.8)]
    assert spans(merge(rows)) == [(0, 1, "walk"), (1, 3, "jump"), (3, 4, "rest")]


@pytest.mark.parametrize(("enter", "leave"), [(0.3, 0.5), (0.5, 0.0), (1.1, 0.5)])
def test_thresholds_that_cannot_be_are_refused(enter, leave):
    with pytest.raises(InputError, match="leave <= enter"):
        SegmentMerger(NAMES, enter, leave)


@given(st.lists(st.tuples(*[st.floats(0, 1)] * 3), max_size=40), st.floats(0.1, 1), st.floats(0, 1))
def test_segments_lie_in_order_and_hold_what_the_thresholds_say(weights, enter, share):
    leave = max(enter * share, 0.01)
    rows = np.array(weights, dtype=float).reshape(-1, 3)
    end = 0.0
    for segment in merge(rows, enter, leave):
        assert end <= segment.begin < segment.end <= len(rows)
        own = rows[int(segment.begin) : int(segment.end), segment.label]
        assert own.min() >= leave
        assert own.max() >= enter
        assert segment.score == pytest.approx(own.mean())
        end = segment.end
