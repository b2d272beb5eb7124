"""What is made of results beside the JSON lines: one table of all, and a file per video."""

from __future__ import annotations

import csv
import hashlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mvit_video.files import atomic_file
from mvit_video.predict.journal import records
from mvit_video.predict.text import csv_class, csv_path, plain

_PREDICTION = ("video", "rank", "label", "name", "score", "error")
_TIMELINE = ("video", "begin", "end", "label", "name", "score", "error")


def write_csv(results: Path, target: Path, timeline: bool) -> None:
    """The table of a results file: a row per class named, or per segment; a row with the reason for a failed input."""
    columns = _TIMELINE if timeline else _PREDICTION
    with atomic_file(target) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        for record in records(results):
            writer.writerows(_rows(record))
        text.detach()


def _rows(record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    video = csv_path(record["video"])
    if "error" in record:
        yield {"video": video, "error": csv_class(record["error"])}
    for rank, best in enumerate(record.get("top", ()), 1):
        yield {"video": video, "rank": rank, **best, "name": csv_class(best["name"])}
    for segment in record.get("segments", ()):
        yield {"video": video, **segment, "name": csv_class(segment["name"])}


def file_for(target: Path, video: str, suffix: str, single: bool) -> Path:
    """Where a file that belongs to `video` goes.

    Args:
        target: what was asked for: the file itself where there is a `single` input and `target` is no folder, else a
            folder; files in it are named after their video and a checksum of its path, as two may have one name.
        suffix: of the file, such as ".srt".
    """
    if single and not target.is_dir():
        return target
    stem = plain(Path(video).stem)[:100].replace("/", "_").lstrip(".") or "video"
    return target / f"{stem}-{hashlib.sha256(os.fsencode(video)).hexdigest()[:8]}{suffix}"
