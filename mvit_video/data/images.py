"""Image folders as lists: an image is a video of one frame, which the video readers read.

    DATA.PATH_TO_DATA_DIR/train/<class>/<image>
    DATA.PATH_TO_DATA_DIR/val/<class>/<image>

Classes are numbered in the order of their folders' names, as ImageNet's are; there is no test split, val
is tested.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from mvit_video.errors import InputError
from mvit_video.resources import read_class_names

_SUFFIXES = (".jpeg", ".jpg", ".png", ".bmp", ".webp")


def image_entries(folder: Path, split: str) -> tuple[Path, Iterator[tuple[int, str, int]]]:
    """The folder of a split, and (number from 1, path within it, label) of its images in order.

    Raises:
        InputError: there is no such folder, or none of a class in it.
    """
    root = folder / ("train" if split == "train" else "val")
    return root, _entries(root, _classes(root))


def image_class_names(folder: Path) -> tuple[Path, tuple[str, ...]]:
    """The folder the names come from, and the names: ImageNet-1K's words for its synsets, else the folders' names."""
    root = folder / "val" if (folder / "val").is_dir() else folder / "train"
    names = _classes(root)
    if len(names) == 1000 and all(re.fullmatch(r"n\d{8}", name) for name in names):
        names = read_class_names("imagenet1k")
    return root, names


def _classes(root: Path) -> tuple[str, ...]:
    if not root.is_dir():
        raise InputError(
            f"{root} is not there; DATA.PATH_TO_DATA_DIR takes a folder with train/<class>/<image> and "
            "val/<class>/<image>"
        )
    names = sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
    if not names:
        raise InputError(f"{root} holds no folders; it takes one per class, with its images")
    return tuple(names)


def _entries(root: Path, classes: tuple[str, ...]) -> Iterator[tuple[int, str, int]]:
    number = 0
    for label, name in enumerate(classes):
        for entry in sorted(os.listdir(root / name)):
            if entry.lower().endswith(_SUFFIXES):
                number += 1
                yield number, f"{name}/{entry}", label
