"""The files that a preparation leaves: lists, class names, facts, what is bad, and a summary.

Everything is sorted or in annotation order, and nothing depends on the machine: the same input gives the same bytes.
Names that are not UTF-8 keep their bytes.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from mvit_video.data.preparation.probe import Facts
from mvit_video.files import atomic_file

FACTS_COLUMNS = ("path", *(field.name for field in fields(Facts)))


@dataclass(frozen=True)
class Listed:
    """A good video of a split, by its path in the list."""

    path: str
    label: int
    facts: Facts


@dataclass(frozen=True)
class Bad:
    """A video that is left out, or that is listed and should not be."""

    split: str
    label: int
    path: str
    reason: str


def write_list(file: Path, videos: Sequence[Listed]) -> None:
    """`path label` lines."""
    _write(file, "".join(list_line(video.path, video.label) for video in videos))


def list_line(path: str, label: int) -> str:
    """A line of a list, which reads back as it was (mvit_video/data/lists.py).

    A path is quoted where it would be taken for something else: it begins with a quote or ends in a number of its own,
    or has white space at an end. Paths with a line break cannot be listed.
    """
    if (
        '"' in path[:1]
        or path != path.strip()
        or path.endswith(",")
        or re.search(r"[\s,]\s*[+-]?\d+$", path)
    ):
        path = '"' + path.replace('"', '""') + '"'
    return f"{path} {label}\n"


def write_facts(file: Path, videos: Sequence[Listed]) -> None:
    """Tab-separated facts, a header and a line per video, in list order."""
    rows = ([video.path, *asdict(video.facts).values()] for video in videos)
    _write(file, _table(FACTS_COLUMNS, rows, delimiter="\t"))


def write_bad(file: Path, bad: Sequence[Bad]) -> None:
    """Comma-separated: path, reason, split, label."""
    rows = ([video.path, video.reason, video.split, video.label] for video in bad)
    _write(file, _table(("path", "reason", "split", "label"), rows, delimiter=","))


def write_class_names(file: Path, class_names: Sequence[str]) -> None:
    """One name a line, in label order."""
    _write(file, "".join(f"{name}\n" for name in class_names))


def write_json(file: Path, value: dict[str, Any]) -> None:
    """Indented, for people."""
    _write(file, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def split_summary(
    videos: Sequence[Listed], bad: Sequence[Bad], class_names: Sequence[str]
) -> dict[str, Any]:
    """Counts of one split, and how its videos are spread over classes, codecs, sizes and lengths."""
    annotated = len(videos) + len(bad)
    missing = sum(video.reason.startswith(MISSING) for video in bad)
    per_class = Counter(video.label for video in videos)
    frames = sorted(video.facts.frames for video in videos)
    return {
        "annotated": annotated,
        "listed": len(videos),
        "missing": missing,
        "missing_percent": round(100 * missing / annotated, 3) if annotated else 0.0,
        "bad": len(bad) - missing,
        "hours": round(sum(video.facts.duration for video in videos) / 3600, 3),
        "gigabytes": round(sum(video.facts.bytes for video in videos) / 1e9, 3),
        "frames_least_median_most": [frames[0], frames[len(frames) // 2], frames[-1]]
        if frames
        else [],
        "codecs": _counts(f"{video.facts.codec} in {video.facts.container}" for video in videos),
        "short_sides": _counts(str(min(video.facts.width, video.facts.height)) for video in videos),
        "decord": _counts(video.facts.decord for video in videos),
        "classes_without_videos": [n for k, n in enumerate(class_names) if not per_class[k]],
        "videos_per_class": {name: per_class[k] for k, name in enumerate(class_names)},
    }


MISSING = "missing"


def summary_lines(splits: dict[str, dict[str, Any]]) -> list[str]:
    """The summary in a few lines for the terminal."""
    lines = []
    for name, split in splits.items():
        line = (
            f"{name}: {split['listed']} of {split['annotated']} videos listed, {split['missing']} missing "
            f"({split['missing_percent']:g} %), {split['bad']} bad, {split['hours']:g} hours"
        )
        if split["classes_without_videos"]:
            line += f", {len(split['classes_without_videos'])} classes without videos"
        inexact = split["listed"] - split["decord"].get("exact", 0)
        if inexact:
            line += f"; decord is not exact on {inexact}, PyAV reads those"
        lines.append(line)
    return lines


def _counts(values: Iterable[str]) -> dict[str, int]:
    """How often each value comes, most frequent first."""
    return dict(sorted(Counter(values).items(), key=lambda item: (-item[1], item[0])))


def _table(columns: Sequence[str], rows: Iterable[Sequence[Any]], delimiter: str) -> str:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()


def _write(file: Path, text: str) -> None:
    with atomic_file(file) as out:
        out.write(text.encode("utf-8", errors="surrogateescape"))
