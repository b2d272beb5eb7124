"""Line charts as geometry: numbers in, paths and ticks in a small coordinate system out. The markup is a template's.

A chart is WIDTH x HEIGHT units and scales with its page. Long series are thinned to a mean line with the range around
it, so that a run of a million steps draws as fast as a short one and no spike gets lost.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

WIDTH, HEIGHT = 400, 230
LEFT, RIGHT, TOP, BOTTOM = 50, 12, 10, 32
MAX_POINTS = 240
NUM_COLOURS = 8
NO_COLOUR = NUM_COLOURS - 1  # the last is grey


class Point(NamedTuple):
    """A value with the range around it; low and high equal y where there is none."""

    x: float
    y: float
    low: float
    high: float


@dataclass(frozen=True)
class Series:
    """What one line shows.

    Attributes:
        name: of the curve, in the chart's legend.
        points: in the order of x.
        colour: number of the colour, from 0.
        dashed: sets it apart from another line of the same colour.
        whiskers: the range is drawn at each point, not as a band.
        dots: mark the points.
        guide: it shows no measurement, so there is nothing to point at.
        run: whose curve it is, where there are several; its colour is explained elsewhere.
    """

    name: str
    points: tuple[Point, ...]
    colour: int = 0
    dashed: bool = False
    whiskers: bool = False
    dots: bool = False
    guide: bool = False
    run: str = ""

    @property
    def full_name(self) -> str:
        """Run and curve, as far as they have names."""
        return ", ".join(filter(None, (self.run, self.name)))


class LegendEntry(NamedTuple):
    """A name, and how its line looks."""

    name: str
    colour: int
    dashed: bool


@dataclass(frozen=True)
class Line:
    """A series as drawn. `readings`: [x, y, x as text, y as text] of each point, for pointing at it."""

    series: Series
    path: str
    range_path: str
    dots: tuple[tuple[float, float], ...]
    readings: tuple[tuple[float, float, str, str], ...]


@dataclass(frozen=True)
class Chart:
    """A chart as drawn; ticks are (position, text), `summary` says in words what it shows."""

    title: str
    unit: str
    x_label: str
    lines: tuple[Line, ...]
    legend: tuple[LegendEntry, ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    summary: str


def thinned(points: Sequence[tuple[float, float]]) -> tuple[Point, ...]:
    """At most MAX_POINTS points: the mean of as many neighbours as it takes, with their smallest and largest value."""
    size = math.ceil(len(points) / MAX_POINTS)
    found = []
    for begin in range(0, len(points), max(size, 1)):
        xs, ys = zip(*points[begin : begin + size], strict=True)
        found.append(Point(math.fsum(xs) / len(xs), math.fsum(ys) / len(ys), min(ys), max(ys)))
    return tuple(found)


def draw(
    title: str,
    unit: str,
    every: Sequence[Series],
    x_label: str = "epoch",
    log: bool = False,
    from_zero: bool = False,
    y_range: tuple[float, float] | None = None,
) -> Chart:
    """A chart of all these series.

    Args:
        unit: of y.
        log: a logarithmic y axis, if all values are above 0.
        from_zero: a plain y axis that begins at 0, or below, so that heights can be compared.
        y_range: the y axis goes beyond it only where values do (0, 100 for percent).
    """
    every = [one for one in every if one.points]
    points = [point for one in every for point in one.points]
    log = log and not from_zero and all(point.low > 0 for point in points)
    x_axis = _Axis([p.x for p in points], LEFT, WIDTH - RIGHT)
    ys = [value for p in points for value in (p.low, p.high)] + ([0.0] if from_zero else [])
    limits = (0.0, math.inf) if from_zero else y_range
    y_axis = _Axis(ys, HEIGHT - BOTTOM, TOP, margin=0.06, log=log, limits=limits)
    return Chart(
        title,
        unit,
        x_label,
        tuple(_line(one, x_axis, y_axis) for one in every),
        _legend(every),
        x_axis.ticks(6, whole=all(p.x == int(p.x) for p in points)),
        y_axis.ticks(5),
        "; ".join(_in_words(one, x_label, unit) for one in every if not one.guide),
    )


def number(value: float) -> str:
    """A value for people: four digits, and no more."""
    return f"{value:,.0f}" if 1e4 <= abs(value) < 1e7 else f"{value:.4g}"


class _Axis:
    """From values to positions between `begin` and `end`."""

    def __init__(
        self,
        values: Sequence[float],
        begin: float,
        end: float,
        margin: float = 0.0,
        log: bool = False,
        limits: tuple[float, float] | None = None,
    ) -> None:
        self._log, self._begin, self._end = log, begin, end
        low, high = self._scale(min(values)), self._scale(max(values))
        room = margin * (high - low) or (abs(high) * 0.1 or 1.0 if low == high else 0.0)
        self._low, self._high = low - room, high + room
        if limits is not None:
            self._low = min(low, max(self._low, limits[0]))
            self._high = max(high, min(self._high, limits[1]))

    def _scale(self, value: float) -> float:
        return math.log10(value) if self._log else value

    def __call__(self, value: float) -> float:
        share = (self._scale(value) - self._low) / (self._high - self._low)
        return round(self._begin + share * (self._end - self._begin), 1)

    def ticks(self, wanted: int, whole: bool = False) -> tuple[tuple[float, str], ...]:
        """About as many round values, or fewer `whole` ones, and where they stand."""
        low, high = self._low, self._high
        values = _log_ticks(low, high) if self._log else _round_values(low, high, wanted)
        if whole:
            values = [value for value in values if value == int(value)]
        return tuple((self(value), f"{value:.6g}") for value in values)


def _round_values(low: float, high: float, wanted: int) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{i * step:.10g}") for i in range(first, last + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten where there are some, else 1, 2, 5 times them."""
    powers = range(math.floor(low), math.ceil(high) + 1)
    within = [10.0**p for p in powers if low <= p <= high]
    if len(within) >= 3:
        return within[:: math.ceil(len(within) / 6)]
    every = [m * 10.0**p for p in powers for m in (1, 2, 5)]
    return [value for value in every if low <= math.log10(value) <= high]


def _legend(every: Sequence[Series]) -> tuple[LegendEntry, ...]:
    """An entry per name; of several runs the curves have in common how they are dashed, and no colour."""
    entries = [LegendEntry(s.name, NO_COLOUR if s.run else s.colour, s.dashed) for s in every]
    return tuple(dict.fromkeys(entry for entry in entries if entry.name))


def _line(one: Series, x_axis: _Axis, y_axis: _Axis) -> Line:
    shift = 4 * one.colour if one.whiskers else 0  # so that whiskers stand side by side
    xs = [x_axis(p.x) + shift for p in one.points]
    at = [(x, y_axis(p.y)) for x, p in zip(xs, one.points, strict=True)]
    ends = [(x, y_axis(p.low), y_axis(p.high)) for x, p in zip(xs, one.points, strict=True)]
    texts = [(number(p.x), _reading(p)) for p in one.points]
    readings = [] if one.guide else [(*xy, *text) for xy, text in zip(at, texts, strict=True)]
    if all(p.low == p.high for p in one.points):
        range_path = ""
    elif one.whiskers:
        range_path = "".join(
            f"M{x} {low}V{high}M{x - 3} {low}h6M{x - 3} {high}h6" for x, low, high in ends
        )
    else:
        upper, lower = [(x, y) for x, _, y in ends], [(x, y) for x, y, _ in ends]
        range_path = _path(upper + lower[::-1]) + "Z"
    return Line(one, _path(at), range_path, tuple(at) if one.dots else (), tuple(readings))


def _reading(point: Point) -> str:
    if point.low == point.high:
        return number(point.y)
    return f"{number(point.y)} ({number(point.low)} to {number(point.high)})"


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x} {y}" for x, y in points)


def _in_words(one: Series, x_label: str, unit: str) -> str:
    first, last = one.points[0], one.points[-1]
    return (
        f"{one.full_name or 'it'} goes from {number(first.y)} to {number(last.y)} {unit}".rstrip()
        + f" between {x_label} {number(first.x)} and {number(last.x)}"
    )
