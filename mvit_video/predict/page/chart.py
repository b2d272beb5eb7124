"""The timeline of a video as a chart that one can click to seek: HTML that holds no text unescaped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from mvit_video.predict.results import class_name
from mvit_video.predict.segments import Segment
from mvit_video.predict.text import plain
from mvit_video.predict.timeline import Timeline

_MOST_ROWS = 8
_STEPS = (0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600)  # seconds between two ticks
_MOST_TICKS = 5


@dataclass(frozen=True)
class Row:
    """A class over time.

    Attributes:
        name: of the class.
        points: of its score as an SVG polygon: x 0 ... 1000 for the length of the video, y 100 for 0 and 0 for 1.
        segments: where it is on.
    """

    name: str
    points: str
    segments: tuple[Segment, ...]


def timeline_chart(timeline: Timeline, class_names: Sequence[str]) -> str:
    """HTML of a chart with a row for each class that is on, or for the best one on the whole where none is.

    Args:
        timeline: of a video.
        class_names: by class number; may be empty.
    """
    rows = [
        Row(
            plain(class_name(class_names, label)),
            _polygon(timeline, label),
            tuple(segment for segment in timeline.segments if segment.label == label),
        )
        for label in _classes(timeline)
    ]
    return _template().render(
        rows=rows,
        segments=timeline.segments,
        duration=timeline.duration,
        ticks=_ticks(timeline.duration),
        clock=clock,
    )


def clock(seconds: float) -> str:
    """Minutes and seconds, with tenths where there are any: 0:07, 1:30.5."""
    tenths = round(seconds * 10)
    rest = f".{tenths % 10}" if tenths % 10 else ""
    return f"{tenths // 600}:{tenths // 10 % 60:02}{rest}"


def _classes(timeline: Timeline) -> list[int]:
    """Those that are on for longest, in the order of their first segments; the best one on the whole if none is."""
    begin: dict[int, float] = {}
    length: Counter[int] = Counter()
    for segment in timeline.segments:
        begin.setdefault(segment.label, segment.begin)
        length[segment.label] += segment.end - segment.begin
    longest = [label for label, _ in length.most_common(_MOST_ROWS)]
    return sorted(longest, key=begin.__getitem__) or [int(timeline.scores.mean(axis=0).argmax())]


def _polygon(timeline: Timeline, label: int) -> str:
    heights = (100 * (1 - timeline.scores[:, label])).tolist()
    places = (1000 * timeline.windows.mean(axis=1) / timeline.duration).clip(0, 1000).tolist()
    line = [(0.0, heights[0]), *zip(places, heights, strict=True), (1000.0, heights[-1])]
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in [(0.0, 100.0), *line, (1000.0, 100.0)])


def _ticks(duration: float) -> list[float]:
    step = next((step for step in _STEPS if duration / step <= _MOST_TICKS), duration)
    return [float(tick) for tick in np.arange(0.0, duration, step)]


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("mvit_video.predict.page"), autoescape=True, undefined=StrictUndefined
    )
    return environment.get_template("timeline.html")
