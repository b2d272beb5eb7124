"""The two kinds of trouble a run can tell a person about. Everything else is a bug and keeps its traceback."""

from __future__ import annotations

import os


class InputError(Exception):
    """Something the user can put right: a key, a path, a list line, a file that does not fit.

    The message says what was found, where, and what to do. Command-line tools print it and exit with code 2.
    """


class VideoError(Exception):
    """A video that cannot be opened, or whose wanted frames cannot be decoded.

    Carries plain strings only, so that it crosses process boundaries by pickling.

    Attributes:
        path: the file as it was asked for.
        reason: one line, without the path.
    """

    def __init__(self, path: str | os.PathLike[str], reason: str) -> None:
        self.path = os.fspath(path)
        self.reason = reason
        super().__init__(self.path, reason)

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"
