"""A run's log.jsonl as numbers to draw.

Read with tolerance: a log may be young, cut short by a kill, or of another version, with keys of its own.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mvit_video.errors import InputError
from mvit_video.run_folder import LOG_FILE

Points = list[tuple[float, float]]


@dataclass(frozen=True)
class LoggedRun:
    """The lines of a log, in order; `name` is what the run is called in a legend."""

    name: str
    lines: tuple[dict[str, Any], ...]

    def points(self, kind: str, key: str) -> Points:
        """(epochs done, value) of every line of this kind that has the key; what is no finite number is left out."""
        pairs = [(line.get("epoch"), line.get(key)) for line in self.lines if line["kind"] == kind]
        return [(float(x), float(y)) for x, y in pairs if _is_number(x) and _is_number(y)]

    def last(self, kind: str, key: str) -> float | None:
        """The newest value of a key."""
        points = self.points(kind, key)
        return points[-1][1] if points else None

    def count(self, kind: str) -> int:
        """How many lines of this kind there are."""
        return sum(line["kind"] == kind for line in self.lines)

    @property
    def epochs(self) -> float:
        """Epochs done, with a fraction."""
        done = [line["epoch"] for line in self.lines if _is_number(line.get("epoch"))]
        return max(done, default=0.0)

    @property
    def steps(self) -> int:
        """Updates done."""
        done = [line["step"] for line in self.lines if _is_number(line.get("step"))]
        return int(max(done, default=0))

    @property
    def seconds(self) -> float:
        """Time spent, from each start or resume to the line before the next."""
        total, begin, end = 0.0, None, None
        for line in self.lines:
            time = line.get("time")
            if not _is_number(time):
                continue
            if begin is None or line["kind"] in ("start", "resume"):
                total += end - begin if begin is not None else 0.0
                begin = time
            end = time
        return max(total + end - begin, 0.0) if begin is not None else 0.0

    @property
    def state(self) -> str:
        """How the log ends: "finished", "stopped", or "not finished" (running, or killed)."""
        kinds = {"end": "finished", "stop": "stopped"}
        return kinds.get(self.lines[-1]["kind"], "not finished")


def read_run_log(folder: str | os.PathLike[str], name: str = "") -> LoggedRun:
    """The log of the run in `folder` (an OUTPUT_DIR).

    Args:
        name: in legends; the folder as it was given, if empty.

    Raises:
        InputError: there is no log, or no line of it can be read.
    """
    path = Path(folder) / LOG_FILE
    if not path.is_file():
        raise InputError(
            f"there is no {LOG_FILE} in {os.fspath(folder)}; give the OUTPUT_DIR of a training"
        )
    lines = tuple(line for line in read_json_lines(path) if isinstance(line.get("kind"), str))
    if not lines:
        raise InputError(
            f"{path} holds no line that can be read; a run writes one JSON object a line"
        )
    return LoggedRun(name or os.fspath(folder), lines)


def read_json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a file with one a line; lines that are cut short, or something else, are passed over."""
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(record, dict):
                yield record


def _is_number(value: Any) -> bool:
    """Whether it can be drawn; NaN, infinity and what no training measures cannot."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e30
