"""What is on when: windows over a video, their scores, and the segments that these make."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mvit_video.predict.segments import Segment, SegmentMerger
from mvit_video.predict.text import plain
from mvit_video.predict.windows import Window, Windows


@dataclass(frozen=True, eq=False)
class Timeline:
    """The scores of a video over time.

    Attributes:
        video: path or URL.
        duration: seconds, from the first frame to the end of the last.
        windows: (N, 2) float64, begin and end of each window in seconds.
        scores: (N, C) float32, of each window.
        segments: in order, none over another; between them is nothing that is known.
        damaged: packets and pictures of the file that could not be decoded and were passed over.
    """

    video: str
    duration: float
    windows: np.ndarray
    scores: np.ndarray
    segments: tuple[Segment, ...]
    damaged: int = 0

    def __str__(self) -> str:
        lines = [str(segment) for segment in self.segments]
        damage = f", {self.damaged} packets or pictures damaged" if self.damaged else ""
        return "\n".join(
            [plain(f"{self.video} ({self.duration:.2f} s{damage})"), *(lines or ["  no segment"])]
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON; without the scores of the windows."""
        return {
            "video": self.video,
            "duration": self.duration,
            "damaged": self.damaged,
            "segments": [asdict(segment) for segment in self.segments],
        }


@dataclass(frozen=True, eq=False)
class ScoredWindow:
    """Begin and end in seconds, and the scores (C,) float32 of a window."""

    begin: float
    end: float
    scores: np.ndarray

    @property
    def centre(self) -> float:
        return (self.begin + self.end) / 2


def score_windows(
    windows: Iterable[Window], score: Callable[[Tensor], np.ndarray], batch_size: int
) -> Iterator[ScoredWindow]:
    """Each window with its scores.

    Args:
        windows: in order.
        score: from (N, clips, 3, T, H, W) to (N, C).
        batch_size: windows in one forward pass.
    """
    waiting = iter(windows)
    while batch := list(islice(waiting, batch_size)):
        scores = score(torch.stack([window.clips for window in batch]))
        for window, row in zip(batch, scores, strict=True):
            yield ScoredWindow(window.begin, window.end, row)


def merge_windows(
    scored: Iterable[ScoredWindow], windows: Windows, merger: SegmentMerger
) -> Iterator[ScoredWindow | Segment]:
    """The windows as they come, and each segment when it has ended.

    A moment has the scores of the window whose centre is nearest, smoothed: a window across a cut shows what is in
    neither scene, but seldom for long.
    """
    before: ScoredWindow | None = None
    for item, scores in _smoothed(scored, windows.plan.length / 4, windows.plan.stride):
        if scores is None:
            yield item
            continue
        begin = (before.centre + item.centre) / 2 if before else 0.0
        yield from merger.push(begin, scores)
        before = item
    yield from merger.end(windows.duration)


def _smoothed(
    scored: Iterable[ScoredWindow], radius: float, stride: float
) -> Iterator[tuple[ScoredWindow, np.ndarray | None]]:
    """Each window with None when it comes, and with the mean over those within `radius` seconds once they have come."""
    reach = int(radius / stride + 1e-6)
    recent: deque[ScoredWindow] = deque(maxlen=2 * reach + 1)
    for number, window in enumerate(scored, 1):
        recent.append(window)
        yield window, None
        if number > reach:
            yield _mean(recent, -1 - reach, radius)
    for place in range(max(len(recent) - reach, 0), len(recent)):
        yield _mean(recent, place, radius)


def _mean(
    recent: Sequence[ScoredWindow], place: int, radius: float
) -> tuple[ScoredWindow, np.ndarray]:
    centre = recent[place].centre
    near = [w.scores for w in recent if abs(w.centre - centre) <= radius * (1 + 1e-6)]
    return recent[place], np.mean(near, axis=0)
