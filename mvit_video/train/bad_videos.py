"""OUTPUT_DIR/bad_videos.jsonl: training videos that cannot be decoded, each once a run.

One JSON object a line: `path`, `reason`, `epoch` (epochs done when it was first met) and `index` (its place in the
training list). Every rank notes what it meets; rank 0 writes it when the ranks meet anyway: at a logged step, before a
checkpoint, at the end of an epoch. What a kill loses is met again by the resumed run.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mvit_video.data.dataset import UndecodableVideo
from mvit_video.data.lists import ListFile
from mvit_video.errors import InputError
from mvit_video.files import atomic_file
from mvit_video.run_folder import BAD_VIDEOS_FILE

_NAMED = 3  # videos in the message of a stop
_log = logging.getLogger(__name__)


class BadVideos:
    """The bad videos of a run.

    Args:
        output_dir: of the run.
        videos: the training list.
        epoch_samples: samples of an epoch, over all ranks.
        max_fraction: largest share of them that may be replaced.
    """

    def __init__(
        self, output_dir: str, videos: ListFile, epoch_samples: int, max_fraction: float
    ) -> None:
        self._path = Path(output_dir) / BAD_VIDEOS_FILE
        self._videos, self._epoch_samples, self._max_fraction = videos, epoch_samples, max_fraction
        self._met: set[int] = set()
        self._unreported: list[dict[str, Any]] = []
        self._written: dict[str, dict[str, Any]] | None = None

    def add(self, undecodable: Iterable[UndecodableVideo], epoch: int) -> None:
        """Notes what this rank has met in `epoch`."""
        for video in undecodable:
            if video.index in self._met:
                continue
            self._met.add(video.index)
            path = self._videos.path(video.index)
            reason = video.reason.removeprefix(f"{path}: ")
            record = {"path": path, "reason": reason, "epoch": epoch, "index": video.index}
            self._unreported.append(record)

    def take(self) -> list[dict[str, Any]]:
        """What this rank has noted since it was last asked."""
        taken, self._unreported = self._unreported, []
        return taken

    def write(self, taken: Iterable[list[dict[str, Any]]], substituted: int) -> None:
        """Adds to the file what `take` gave on all ranks. On rank 0 only.

        Args:
            substituted: samples of the current epoch that were replaced so far, over all ranks.

        Raises:
            InputError: too many were.
        """
        written = self._read()
        new = [record for records in taken for record in records if record["path"] not in written]
        new = list({record["path"]: record for record in new}.values())
        for record in new:
            written[record["path"]] = record
            _log.warning(
                "cannot be decoded, another video takes its place: %s: %s",
                record["path"],
                record["reason"],
            )
        if new:
            self._append(new)
        if substituted > self._max_fraction * self._epoch_samples:
            raise InputError(self._too_many(substituted))

    def __len__(self) -> int:
        """Videos in the file. On rank 0 only."""
        return len(self._read())

    def _read(self) -> dict[str, dict[str, Any]]:
        """What the file holds, by path. A last line that a kill cut short is taken off the file."""
        if self._written is None:
            lines = self._path.read_bytes().splitlines(True) if self._path.exists() else []
            whole = [line for line in lines if line.endswith(b"}\n")]
            if len(whole) < len(lines):
                with atomic_file(self._path) as file:
                    file.writelines(whole)
            records = map(json.loads, whole)
            self._written = {record["path"]: record for record in records}
        return self._written

    def _append(self, records: list[dict[str, Any]]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with open(self._path, "a", encoding="utf-8") as file:
            file.writelines(json.dumps(record) + "\n" for record in records)
            file.flush()
            os.fsync(file.fileno())

    def _too_many(self, substituted: int) -> str:
        share = 100 * substituted / self._epoch_samples
        some = list(self._read().values())[-_NAMED:]
        named = "".join(f"\n  {record['path']}: {record['reason']}" for record in some)
        return (
            f"{substituted} of the {self._epoch_samples} samples of this epoch ({share:.1f} %) had to be replaced, for "
            f"their videos cannot be decoded: more than DATA.MAX_BAD_FRACTION {self._max_fraction} allows; among them"
            f"{named}\nAll {len(self)} are listed in {self._path}. Mend them, take them off {self._videos.source}, or "
            "raise DATA.MAX_BAD_FRACTION; the same command then goes on from the newest checkpoint"
        )
