"""What a command line means by its inputs: files, folders, patterns, lists, URLs; a million of them if need be."""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mvit_video.data.lists import ListFile, read_csv
from mvit_video.data.preparation.video_tree import video_files
from mvit_video.errors import InputError
from mvit_video.weights.download import is_url

_LABELLED, _PLAIN = ".csv", (".txt", ".lst")


@dataclass(frozen=True)
class Inputs:
    """Videos in input order, each once, in some 70 bytes each.

    Attributes:
        videos: their names; the labels mean nothing.
        digests: (N,) uint64, by which a name is found again.
    """

    videos: ListFile
    digests: np.ndarray

    @classmethod
    def of(cls, words: Sequence[str], prefix: str = "") -> Inputs:
        """What the words of a command line stand for.

        Raises:
            InputError: a folder without videos, a pattern that nothing matches, a list that is none, no input at all.
        """
        digests: list[int] = []
        videos = ListFile.build(_noted(_expand(words, prefix), digests), "", "", "the inputs")
        if not len(videos):
            raise InputError("there are no inputs: name files, folders, patterns, lists or URLs")
        return cls(videos, np.array(digests, dtype=np.uint64))

    def __len__(self) -> int:
        return len(self.videos)

    def name(self, index: int) -> str:
        return self.videos.video_id(index)


def digest(name: str) -> int:
    """64 bits that tell a name from others."""
    return int.from_bytes(hashlib.blake2b(os.fsencode(name), digest_size=8).digest(), "big")


def _noted(names: Iterator[str], digests: list[int]) -> Iterator[tuple[str, int]]:
    """Entries for a ListFile; names that came before are passed over."""
    seen: set[int] = set()
    for name in names:
        known = digest(name)
        if known not in seen:
            seen.add(known)
            digests.append(known)
            yield name, -1


def _expand(words: Sequence[str], prefix: str) -> Iterator[str]:
    for word in words:
        path = Path(word)
        if is_url(word):
            yield word
        elif path.is_dir():
            yield from _folder(path)
        elif path.suffix.lower() == _LABELLED and path.is_file():
            yield from (_under(prefix, name) for _, name, _ in read_csv(path))
        elif path.suffix.lower() in _PLAIN and path.is_file():
            yield from (_under(prefix, name) for name in _lines(path))
        elif glob.has_magic(word) and not os.path.lexists(word):
            yield from _matching(word)
        else:
            yield word  # one that is not there is told about like one that cannot be decoded


def _folder(path: Path) -> Iterator[str]:
    names, others = video_files(path)
    if not names:
        raise InputError(f"no video file under {path} ({others} other files)")
    return (os.path.join(path, name) for name in names)


def _matching(pattern: str) -> list[str]:
    found = sorted(path for path in glob.iglob(pattern, recursive=True) if not os.path.isdir(path))
    if not found:
        raise InputError(f"no file matches {pattern}")
    return found


def _lines(path: Path) -> Iterator[str]:
    with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="\n") as lines:
        yield from (line.rstrip("\r\n") for line in lines if line.strip())


def _under(prefix: str, name: str) -> str:
    return name if is_url(name) else os.path.join(os.path.expanduser(prefix), name)
