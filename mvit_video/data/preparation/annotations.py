"""The official annotation files of the data sets: which videos there are, their split and their class.

Each reader returns `Annotations`; nothing here looks at a video. Labels are positions in the published order of the
class names, so that lists fit published weights whatever part of a data set is at hand. Test sets without public labels
are left out: the published numbers of Kinetics and Something-Something v2 are on their validation sets.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mvit_video.data.ssv2 import ssv2_class_names, ssv2_entries
from mvit_video.errors import InputError
from mvit_video.resources import read_class_names


@dataclass(frozen=True)
class Entry:
    """One annotated video.

    Attributes:
        split: "train", "val", or "test".
        label: index into the class names.
        names: what its file may be called, without folder and suffix or with both, best first.
    """

    split: str
    label: int
    names: tuple[str, ...]


@dataclass(frozen=True)
class Annotations:
    """A data set as its publisher describes it."""

    class_names: tuple[str, ...]
    entries: tuple[Entry, ...]


def read_kinetics(folder: Path, name: str) -> Annotations:
    """Kinetics-400, -600, -700: CSV files with a header of label, youtube_id, time_start, time_end and mostly split.

    Args:
        folder: with the files of the train and validation sets, whatever they are called; or one file.
        name: of the shipped class names, "kinetics400" and so on.
    """
    class_names = read_class_names(name)
    label_of = {label: index for index, label in enumerate(class_names)}
    entries: list[Entry] = []
    for file in _files(folder, ".csv"):
        for line, row in _kinetics_rows(file):
            split = _kinetics_split(row.get("split") or file.stem)
            if split is None or not row.get("label"):
                continue  # a test set, or a row without a label
            label = row["label"].strip().replace("_", " ")
            if label not in label_of:
                raise InputError(
                    f"{file}:{line}: {label!r} is no class of {name}; are these its annotations?"
                )
            entries.append(Entry(split, label_of[label], _kinetics_names(row, f"{file}:{line}")))
    return _checked(
        class_names, entries, folder, "CSV files with label, youtube_id, time_start, time_end"
    )


def _kinetics_rows(file: Path) -> Iterator[tuple[int, dict[str, str]]]:
    with open(file, encoding="utf-8-sig", newline="") as lines:
        rows = csv.DictReader(lines, skipinitialspace=True)
        if {"label", "youtube_id"} <= set(rows.fieldnames or ()):
            for row in rows:
                yield rows.line_num, row


def _kinetics_split(text: str) -> str | None:
    if "val" in text.lower():
        return "val"
    return "train" if "train" in text.lower() else None


def _kinetics_names(row: dict[str, str], where: str) -> tuple[str, ...]:
    """`id_000010_000020`, as it is published; or `id` alone, as some copies have it."""
    video = row["youtube_id"].strip()
    try:
        start, end = (int(float(row[key])) for key in ("time_start", "time_end"))
    except (KeyError, TypeError, ValueError):
        raise InputError(f"{where}: no time_start and time_end in seconds for {video}") from None
    return f"{video}_{start:06d}_{end:06d}", video


def read_ssv2(folder: Path) -> Annotations:
    """Something-Something v2: the JSON files of labels, train and validation. Videos are `<id>.webm`."""
    _, class_names = ssv2_class_names(folder)
    entries = [
        Entry(split, label, (video,))
        for split, part in (("train", "train"), ("val", "validation"))
        for _, video, label in ssv2_entries(folder, part)[1]
    ]
    return _checked(class_names, entries, folder, "JSON files")


def read_ucf101(folder: Path, split: int) -> Annotations:
    """UCF101: trainlist0N.txt (`Class/name.avi 1`) and testlist0N.txt (no label); the class is the folder."""
    class_names = read_class_names("ucf101")
    label_of = {name.lower(): index for index, name in enumerate(class_names)}
    entries = []
    for part, kind in (("train", "train"), ("val", "test")):
        file = _file(folder, f"{kind}list{split:02d}.txt")
        for line, text in _lines(file):
            name = re.sub(
                r"\s+\d+$", "", text
            )  # the training lists carry a label that counts from 1
            class_name, _, _ = name.partition("/")
            if class_name.lower() not in label_of:
                raise InputError(f"{file}:{line}: {name!r} is not in the folder of a UCF101 class")
            entries.append(Entry(part, label_of[class_name.lower()], (name,)))
    return _checked(class_names, entries, folder, "trainlist01.txt and the like")


def read_hmdb51(folder: Path, split: int) -> Annotations:
    """HMDB51: a file `<class>_test_splitN.txt` per class with `name.avi 0|1|2`: unused, training, test."""
    class_names = read_class_names("hmdb51")
    part_of = {"1": "train", "2": "val"}
    entries = []
    for label, class_name in enumerate(class_names):
        file = _file(folder, f"{class_name}_test_split{split}.txt")
        for line, text in _lines(file):
            name, _, use = text.rpartition(" ")  # names hold # & ( ) and !
            if use not in ("0", "1", "2") or not name.strip():
                raise InputError(f"{file}:{line}: {text!r} is not `name.avi 0`, `1` or `2`")
            if use in part_of:
                entries.append(Entry(part_of[use], label, (f"{class_name}/{name.strip()}",)))
    return _checked(class_names, entries, folder, "brush_hair_test_split1.txt and the like")


READERS: dict[str, Callable[[Path, int], Annotations]] = {
    "kinetics400": lambda folder, split: read_kinetics(folder, "kinetics400"),
    "kinetics600": lambda folder, split: read_kinetics(folder, "kinetics600"),
    "kinetics700": lambda folder, split: read_kinetics(folder, "kinetics700"),
    "ssv2": lambda folder, split: read_ssv2(folder),
    "ucf101": read_ucf101,
    "hmdb51": read_hmdb51,
}
"""Readers of the official formats by data set; each takes the annotation folder and the number of a split."""


def _files(folder: Path, suffix: str) -> Sequence[Path]:
    if folder.is_file():
        return [folder]
    if not folder.is_dir():
        raise InputError(f"--annotations: there is no file or folder {folder}")
    return sorted(path for path in folder.rglob(f"*{suffix}") if path.is_file())


def _file(folder: Path, name: str) -> Path:
    found = next(iter(sorted(folder.rglob(name))), None)
    if found is None:
        raise InputError(f"--annotations: {folder} has no {name}")
    return found


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    """(line number, text) of each line that is not blank."""
    for number, line in enumerate(file.read_text(encoding="utf-8-sig").splitlines(), 1):
        if line.strip():
            yield number, line.strip()


def _checked(
    class_names: tuple[str, ...], entries: Iterable[Entry], folder: Path, wanted: str
) -> Annotations:
    annotations = Annotations(class_names, tuple(entries))
    missing = {"train", "val"} - {entry.split for entry in annotations.entries}
    if missing:
        names = " or ".join(sorted(missing))
        raise InputError(f"--annotations: nothing about {names} in {folder}; it takes {wanted}")
    return annotations
