"""Charts: every value has its place inside the picture, axes have round numbers, long series keep their spikes."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvit_video.evaluate.report import chart
from mvit_video.evaluate.report.chart import MAX_POINTS, Series, draw, thinned

NUMBERS = st.floats(-1e29, 1e29).filter(lambda x: x == 0 or abs(x) > 1e-29)
POINTS = st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=30).map(sorted)


def chart_of(points, **settings):
    return draw("loss", "", [Series("training", thinned(points))], **settings)


@given(POINTS, st.booleans(), st.booleans())
def test_every_point_lies_inside_the_chart(points, log, from_zero):
    drawn = chart_of(points, log=log, from_zero=from_zero)
    for x, y, *_ in drawn.lines[0].readings:
        assert chart.LEFT <= x <= chart.WIDTH - chart.RIGHT
        assert chart.TOP <= y <= chart.HEIGHT - chart.BOTTOM
    assert not re.search("nan|inf", drawn.lines[0].path)


def test_ticks_are_round_and_few():
    drawn = chart_of([(0, 0.017), (16, 2.93)])
    assert [text for _, text in drawn.x_ticks] == ["0", "5", "10", "15"]
    assert [text for _, text in drawn.y_ticks] == ["0", "1", "2", "3"]


def test_what_comes_in_whole_numbers_has_no_ticks_between_them():
    assert [text for _, text in chart_of([(1, 0.0), (2, 1.0), (3, 3.0)]).x_ticks] == ["1", "2", "3"]
    assert [text for _, text in chart_of([(0.5, 0.0), (2, 1.0)]).x_ticks][:2] == ["0.5", "1"]


def test_a_logarithmic_axis_has_powers_of_ten():
    drawn = chart_of([(0, 0.02), (1, 900.0)], log=True)
    assert [text for _, text in drawn.y_ticks] == ["0.1", "1", "10", "100", "1000"]


def test_values_that_have_no_logarithm_are_drawn_on_a_plain_axis():
    assert [text for _, text in chart_of([(0, 0.0), (1, 1.0)], log=True).y_ticks][-1] == "1"


def test_percent_ends_at_its_limits_and_heights_can_begin_at_zero():
    assert chart_of([(0, 99.0), (1, 100.0)], y_range=(0, 100)).lines[0].readings[1][1] == chart.TOP
    assert chart_of([(0, 90.0), (1, 100.0)], from_zero=True).y_ticks[0] == (198.0, "0")


def test_a_long_series_is_thinned_to_means_and_keeps_its_spike():
    points = [(step / 100, 100.0 if step == 7777 else 1.0) for step in range(100_000)]
    found = thinned(points)
    assert len(found) <= MAX_POINTS
    assert max(point.high for point in found) == 100.0
    assert max(point.y for point in found) < 2.0
    assert "1.237 (1 to 100)" in [reading[3] for reading in chart_of(points).lines[0].readings]


def test_a_chart_says_in_words_what_it_shows():
    assert chart_of([(0, 2.5), (16, 0.25)]).summary == (
        "training goes from 2.5 to 0.25 between epoch 0 and 16"
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.000123456, "0.0001235"), (85.5555, "85.56"), (12345.6, "12,346"), (3e8, "3e+08"), (0, "0")],
)
def test_numbers_have_four_digits(value, text):
    assert chart.number(value) == text
