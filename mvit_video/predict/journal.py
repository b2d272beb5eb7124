"""The results file: one JSON line per input, in input order, each written as soon as it is known.

A run that was killed goes on behind the last whole line. A file beside it, `.NAME.settings`, holds what the results
depend on, so that no file ever mixes two models or two ways of looking.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mvit_video.errors import InputError
from mvit_video.files import atomic_file
from mvit_video.predict.inputs import digest

_SECONDS_BETWEEN_SYNCS = 5.0


class Journal:
    """A results file to go on with; use it in a `with` block.

    Args:
        path: may exist or not.
        settings: plain values that the results depend on.

    Attributes:
        done: (N,) uint64, digests of the inputs with a result.
        num_failed: how many of these are errors.

    Raises:
        InputError: the file holds results of other settings, is no results file, is in use, or cannot be written.
    """

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self._path, self._synced = path, time.monotonic()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(path, "ab")  # noqa: SIM115  open for the life of the journal
        except OSError as error:
            raise InputError(f"{path} cannot be written to: {error.strerror}") from None
        try:
            self._take(settings)
        except BaseException:
            self._file.close()
            raise

    def _take(self, settings: dict[str, Any]) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(
                f"{self._path} is being written to by another process; wait for it, or name another file"
            ) from None
        _settle(self._path, settings)
        self._file.truncate(_whole_length(self._path))
        done, self.num_failed = [], 0
        for record in records(self._path):
            done.append(digest(record["video"]))
            self.num_failed += "error" in record
        self.done = np.array(done, dtype=np.uint64)

    def add(self, record: dict[str, Any]) -> None:
        """Notes a result. It outlasts a kill at once, a power cut after some seconds."""
        self._file.write(json.dumps(record, allow_nan=False).encode("ascii") + b"\n")
        self._file.flush()
        if time.monotonic() - self._synced > _SECONDS_BETWEEN_SYNCS:
            os.fsync(self._file.fileno())
            self._synced = time.monotonic()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        os.fsync(self._file.fileno())
        self._file.close()


def records(path: Path) -> Iterator[dict[str, Any]]:
    """The results of a file, one after the other. Raises InputError with the line that is none."""
    with open(path, "rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                record = json.loads(line)
                record["video"]
            except (ValueError, TypeError, KeyError):
                raise InputError(
                    f"{path}:{number} is no result of tools/predict.py; name another file"
                ) from None
            yield record


def put_in_order(path: Path, digests: np.ndarray) -> None:
    """Sorts a results file by the places of its inputs in `digests`; those of other inputs come last.

    It is in order but for inputs that were added, or tried again, after a run.
    """
    found = np.array([digest(record["video"]) for record in records(path)], dtype=np.uint64)
    order = np.argsort(digests)
    nearest = order[np.searchsorted(digests, found, sorter=order) % len(digests)]
    place = np.where(digests[nearest] == found, nearest, len(digests))
    if (np.diff(place) >= 0).all():
        return
    with open(path, "rb") as lines:
        lengths = np.array([len(line) for line in lines])
        begins = np.cumsum(lengths) - lengths
        with atomic_file(path) as file:
            for i in np.argsort(place, kind="stable"):
                lines.seek(begins[i])
                file.write(lines.read(lengths[i]))


def settings_file(path: Path) -> Path:
    """Where what a results file depends on is kept."""
    return path.with_name(f".{path.name}.settings")


def _settle(path: Path, settings: dict[str, Any]) -> None:
    """Checks that the results that are there are of these settings, or notes them for the first."""
    file = settings_file(path)
    settings = json.loads(json.dumps(settings))
    if path.stat().st_size == 0:
        with atomic_file(file) as out:
            out.write((json.dumps(settings, indent=1) + "\n").encode("ascii"))
        return
    try:
        before = json.loads(file.read_text(encoding="ascii"))
    except (OSError, ValueError):
        before = {}
    if differing := sorted(k for k in {*settings, *before} if settings.get(k) != before.get(k)):
        raise InputError(
            f"{path} holds results made with another {', '.join(differing)}; remove it, or name another file"
        )


def _whole_length(path: Path) -> int:
    """Bytes up to the end of the last whole line."""
    with open(path, "rb") as file:
        end = file.seek(0, os.SEEK_END)
        while end:
            begin = max(end - 65536, 0)
            file.seek(begin)
            newline = file.read(end - begin).rfind(b"\n")
            if newline >= 0:
                return begin + newline + 1
            end = begin
    return 0
