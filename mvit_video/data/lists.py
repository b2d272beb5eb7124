"""List files: which videos there are, and their labels.

Kinetics style is `train.csv`, `val.csv`, `test.csv`: a path and a label a line. Something-Something v2 is read from its
official JSON files. Either way a list of a million videos is three arrays, which loader workers share without copying.
"""

from __future__ import annotations

import csv
import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from fvcore.common.config import CfgNode

from mvit_video.data.images import image_class_names, image_entries
from mvit_video.data.ssv2 import has_annotations, ssv2_class_names, ssv2_entries
from mvit_video.errors import InputError
from mvit_video.resources import find_shipped, is_shipped_list, read_class_names

Split = Literal["train", "val", "test"]

CLASS_NAMES_FILE = "classes.txt"


@dataclass(frozen=True)
class ListFile:
    """Videos and labels of a split, in list order.

    Attributes:
        names: all video ids, one after the other, in bytes.
        ends: (N,) int64, where each id ends in `names`.
        labels: (N,) int64.
        prefix: folder that paths are relative to; "" for the current one.
        suffix: what follows the id in a file name (".webm" for SSv2).
        source: the file the list was read from.
    """

    names: bytes
    ends: np.ndarray
    labels: np.ndarray
    prefix: str
    suffix: str
    source: str

    @classmethod
    def build(
        cls, entries: Iterable[tuple[str, int]], prefix: str, suffix: str, source: str
    ) -> ListFile:
        """From (video id, label) pairs."""
        names, lengths, labels = bytearray(), [], []
        for name, label in entries:
            encoded = os.fsencode(name)
            names += encoded
            lengths.append(len(encoded))
            labels.append(label)
        ends = np.cumsum(np.array(lengths, dtype=np.int64))
        return cls(bytes(names), ends, np.array(labels, dtype=np.int64), prefix, suffix, source)

    def __len__(self) -> int:
        return len(self.labels)

    def video_id(self, index: int) -> str:
        """Name of the video in results: its path as the list has it, or SSv2's id."""
        begin = self.ends[index - 1] if index else 0
        return os.fsdecode(self.names[begin : self.ends[index]])

    def path(self, index: int) -> str:
        """The file to open."""
        return os.path.join(self.prefix, self.video_id(index) + self.suffix)

    def label(self, index: int) -> int:
        return int(self.labels[index])

    def digest(self) -> str:
        """Changes when a name, a label or the order of the list changes."""
        digest = hashlib.sha256(self.names)
        digest.update(self.ends.tobytes())
        digest.update(self.labels.tobytes())
        return digest.hexdigest()


def load_list(cfg: CfgNode, split: Split) -> ListFile:
    """The list of a split, checked.

    Raises:
        InputError: no list, an empty one, a line that is not `path label`, a label outside 0 ... MODEL.NUM_CLASSES - 1,
            or a video listed twice for validation or test; with file and line.
    """
    folder = _data_dir(cfg)
    prefix = os.path.expanduser(cfg.DATA.PATH_PREFIX)
    dataset = cfg.TEST.DATASET if split == "test" else cfg.TRAIN.DATASET
    if dataset == "ssv2" and not _is_prepared(folder, split):
        file, entries = ssv2_entries(folder, "train" if split == "train" else "validation")
        suffix, unit = ".webm", "entry"
    elif dataset == "imagenet":
        file, entries = image_entries(folder, split)
        prefix, suffix, unit = str(file), "", "image"
    else:
        file, entries = _csv_entries(folder, split)
        suffix, unit = "", "line"
    checked = _checked(entries, file, unit, cfg.MODEL.NUM_CLASSES, unique=split != "train")
    videos = ListFile.build(checked, prefix, suffix, str(file))
    if len(videos) == 0:
        raise InputError(f"{file}: the list is empty; it takes one video a line, `path label`")
    return videos


def _is_prepared(folder: Path, split: Split) -> bool:
    """Whether SSv2 comes as lists here (tools/prepare_data.py), instead of its official annotations."""
    return (folder / f"{split}.csv").is_file() and not has_annotations(folder)


def load_class_names(cfg: CfgNode) -> tuple[str, ...]:
    """Class names by label: from classes.txt (one a line) beside the lists, SSv2's labels file, the folders of images,
    or DATA.CLASS_NAMES; () if there are none. A shipped list of another number of classes is left aside.

    Raises:
        InputError: there are names, but not MODEL.NUM_CLASSES of them.
    """
    if not cfg.DATA.PATH_TO_DATA_DIR:
        return _named_classes(cfg)
    folder = find_shipped(os.path.expanduser(cfg.DATA.PATH_TO_DATA_DIR))
    file = folder / CLASS_NAMES_FILE
    if file.is_file():
        names = tuple(file.read_text(encoding="utf-8-sig").splitlines())
    elif cfg.TEST.DATASET == "ssv2":
        file, names = ssv2_class_names(folder)
    elif cfg.TEST.DATASET == "imagenet":
        file, names = image_class_names(folder)
    else:
        return _named_classes(cfg)
    return _fitting(names, str(file), cfg)


def _named_classes(cfg: CfgNode) -> tuple[str, ...]:
    name = cfg.DATA.CLASS_NAMES
    if not name:
        return ()
    names = read_class_names(name)
    if is_shipped_list(name) and len(names) != cfg.MODEL.NUM_CLASSES:
        return ()  # a preset's list, under a head for somebody's own classes
    return _fitting(names, name, cfg)


def _fitting(names: tuple[str, ...], file: str, cfg: CfgNode) -> tuple[str, ...]:
    if names and len(names) != cfg.MODEL.NUM_CLASSES:
        raise InputError(
            f"{file}: {len(names)} class names, but MODEL.NUM_CLASSES is {cfg.MODEL.NUM_CLASSES}; "
            f"set that to {len(names)}"
        )
    return names


def _data_dir(cfg: CfgNode) -> Path:
    given = cfg.DATA.PATH_TO_DATA_DIR
    if not given:
        raise InputError(
            "DATA.PATH_TO_DATA_DIR is empty; set it to the folder with train.csv, val.csv and test.csv (`path label` a "
            "line), or with SSv2's JSON files"
        )
    folder = find_shipped(os.path.expanduser(given))
    if not folder.is_dir():
        raise InputError(f"DATA.PATH_TO_DATA_DIR: there is no folder {folder}")
    return folder


def _checked(
    entries: Iterator[tuple[int, str, int]], file: Path, unit: str, num_classes: int, unique: bool
) -> Iterator[tuple[str, int]]:
    """(video id, label) of (line, video id, label), with every label in range and, if asked, no video twice."""
    seen: dict[str, int] = {}
    for line, name, label in entries:
        where = _where(file, unit, line)
        if not 0 <= label < num_classes:
            raise InputError(
                f"{where}: label {label} of {name} is outside 0 ... {num_classes - 1} "
                f"(MODEL.NUM_CLASSES is {num_classes})"
            )
        if unique and seen.setdefault(name, line) != line:
            raise InputError(
                f"{where}: {name} stands in {unit} {seen[name]} already; a validation or test list holds each video "
                "once, for its id names its scores"
            )
        yield name, label


def _where(file: Path, unit: str, line: int) -> str:
    return f"{file}:{line}" if unit == "line" else f"{file}, {unit} {line}"


def _csv_entries(folder: Path, split: Split) -> tuple[Path, Iterator[tuple[int, str, int]]]:
    file = folder / f"{split}.csv"
    if not file.is_file():
        present = ", ".join(sorted(path.name for path in folder.glob("*.csv"))) or "no .csv file"
        raise InputError(
            f"there is no list {file} (DATA.PATH_TO_DATA_DIR has {present}); the {split} split is read from {file.name}"
        )
    return file, read_csv(file)


def read_csv(file: Path) -> Iterator[tuple[int, str, int]]:
    """(line number, path, label) of each line that is not blank."""
    # File names are bytes: those that are not UTF-8 come through as surrogates, and go to the file system unchanged.
    with open(file, encoding="utf-8-sig", errors="surrogateescape", newline="") as lines:
        for number, line in enumerate(lines, 1):
            line = line.strip("\r\n")
            if line.strip():
                yield number, *_parse_line(line, f"{file}:{number}")


# The last field is the label, so a path may hold anything: spaces, commas, # ( ) & '. A leading quote quotes the path.
_QUOTED = re.compile(r'\s*("(?:[^"]|"")*")\s*[\s,]\s*([+-]?\d+)\s*')
_PLAIN = re.compile(r"\s*(.*\S)\s*[\s,]\s*([+-]?\d+)\s*")
_TWO_NUMBERS = re.compile(r".*[\s,]\s*[+-]?\d+\s*[\s,]\s*[+-]?\d+\s*")


def _parse_line(line: str, where: str) -> tuple[str, int]:
    if line.lstrip().startswith('"'):
        match = _QUOTED.fullmatch(line)
        path = next(csv.reader([match[1]]))[0] if match else ""
    else:
        match = _PLAIN.fullmatch(line)
        path = match[1].rstrip(" \t,") if match else ""
        if match and _TWO_NUMBERS.fullmatch(line):
            raise InputError(
                f"{where}: two numbers follow the path in {line!r}; a line is `path label`, so leave one out, or put a "
                'path that ends in a number into "quotes"'
            )
    if match is None or not path:
        raise InputError(
            f"{where}: {line!r} is not `path label` (a path, a space or comma, and a whole number; "
            'a path that begins with a quote is written "in quotes")'
        )
    return path, int(match[2])
