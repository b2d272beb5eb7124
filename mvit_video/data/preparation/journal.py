"""What has been found out about files so far, so that an interrupted preparation goes on where it stopped.

One JSON line per file, written as soon as it is known; a line that a kill cut short is dropped. An entry holds as long
as the file has the size and time it had.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mvit_video.data.preparation.probe import Facts
from mvit_video.errors import InputError
from mvit_video.files import atomic_file

Finding = Facts | str
"""Facts of a good video, or why it is bad."""


class Journal:
    """The findings of earlier runs with the same settings, and a place for new ones.

    Args:
        file: may exist or not.
        settings: of the examination; findings under other ones are forgotten.
    """

    def __init__(self, file: Path, settings: dict[str, Any]) -> None:
        self._path = file
        self._header = {"format": 1, **settings}
        self._known: dict[str, dict[str, Any]] = {}
        if file.is_file():
            self._read()
        try:
            self._compact()
            self._file = open(file, "a", encoding="ascii")  # noqa: SIM115  open for the life of the journal
        except OSError as error:
            raise InputError(f"{file.parent} cannot be written to: {error.strerror}") from None

    def _read(self) -> None:
        lines = self._path.read_bytes().split(b"\n")
        if _parsed(lines[0]) != self._header:
            return
        for line in lines[1:]:
            record = _parsed(line)
            if record is not None:
                self._known[record["path"]] = record

    def get(self, path: str, source: str) -> Finding | None:
        """What is known about `path`, whose file is `source`, if that is unchanged."""
        record = self._known.get(path)
        if record is None or record["stamp"] != _stamp(source):
            return None
        return Facts(**record["facts"]) if "facts" in record else record["reason"]

    def add(self, path: str, source: str, finding: Finding) -> None:
        """Notes a finding."""
        found = {"reason": finding} if isinstance(finding, str) else {"facts": asdict(finding)}
        record = {"path": path, "stamp": _stamp(source), **found}
        self._known[path] = record
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Puts the file in order."""
        self._file.close()
        self._compact()

    def _compact(self) -> None:
        records = [self._header, *(self._known[path] for path in sorted(self._known))]
        with atomic_file(self._path) as file:
            file.write("".join(json.dumps(record) + "\n" for record in records).encode("ascii"))


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _stamp(source: str) -> list[int] | None:
    """Size and time of a file, None if there is none."""
    try:
        status = os.stat(source)
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns]
