"""From the scores of windows to segments: who was on, from when to when.

With two thresholds (hysteresis): a segment of a class begins where the class is the best one with at least `enter`, or,
looking back, where its score last came above `leave`; it ends where the score falls below `leave`, or where another
class is the best one with at least `enter`. So a score that wavers around one threshold makes one segment, not many.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mvit_video.errors import InputError
from mvit_video.predict.results import class_name
from mvit_video.predict.text import plain


@dataclass(frozen=True)
class Segment:
    """A stretch of a video with one class; seconds from the first frame on, the mean score of its windows."""

    begin: float
    end: float
    label: int
    name: str
    score: float

    def __str__(self) -> str:
        return plain(f"{self.begin:9.2f} {self.end:9.2f}  {self.score:6.1%}  {self.name}")


def check_thresholds(enter: float, leave: float) -> None:
    """Raises InputError for thresholds that cannot be."""
    if not 0 < leave <= enter <= 1:
        raise InputError(f"thresholds enter {enter:g}, leave {leave:g}: 0 < leave <= enter <= 1")


class SegmentMerger:
    """Takes the scores of one window after the other and gives each segment as soon as it has ended.

    Its memory is a few numbers per class, however long the video is.

    Args:
        class_names: by class number; may be empty.
        enter, leave: thresholds, 0 < leave <= enter <= 1.
    """

    def __init__(self, class_names: Sequence[str], enter: float, leave: float) -> None:
        check_thresholds(enter, leave)
        self._class_names, self._enter, self._leave = class_names, enter, leave
        self._label: int | None = None
        # Of each class's present run of windows above `leave`: when it began, the sum of its scores, their number.
        self._since = self._sum = self._count = np.zeros(0)

    def push(self, begin: float, scores: np.ndarray) -> list[Segment]:
        """The next window, whose scores (C,) hold from `begin` until the next window's; what ended by it."""
        if not len(self._since):
            self._since, self._sum, self._count = (np.zeros(len(scores)) for _ in range(3))
        above = scores >= self._leave
        best = int(scores.argmax())
        ended = []
        if self._label is not None:
            taken_over = best != self._label and scores[best] >= self._enter
            if taken_over or not above[self._label]:
                ended = self.end(begin)
        self._since = np.where(above & (self._count > 0), self._since, begin)
        self._sum = np.where(above, self._sum + scores, 0.0)
        self._count = np.where(above, self._count + 1, 0)
        if self._label is None and scores[best] >= self._enter:
            self._label = best
        return ended

    def end(self, end: float) -> list[Segment]:
        """The segment that is on, ended at `end`. Nothing that comes later begins before that."""
        if self._label is None:
            return []
        label, self._label = self._label, None
        score = float(self._sum[label] / self._count[label])
        begin = float(self._since[label])
        self._sum, self._count = np.zeros_like(self._sum), np.zeros_like(self._count)
        return [Segment(begin, float(end), label, class_name(self._class_names, label), score)]
