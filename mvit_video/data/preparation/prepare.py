"""From annotations and a folder of videos to lists that training can trust; and the same look at lists that exist."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mvit_video.data.lists import read_csv
from mvit_video.data.preparation.annotations import READERS, Annotations, Entry
from mvit_video.data.preparation.class_folders import read_class_folders
from mvit_video.data.preparation.examine import Examination, copy_names, examine
from mvit_video.data.preparation.journal import Finding
from mvit_video.data.preparation.output import (
    MISSING,
    Bad,
    Listed,
    split_summary,
    write_bad,
    write_class_names,
    write_facts,
    write_json,
    write_list,
)
from mvit_video.data.preparation.video_tree import VideoTree
from mvit_video.errors import InputError

DATASETS = (*READERS, "folder")
JOURNAL = ".examined.jsonl"


@dataclass(frozen=True)
class Request:
    """What to prepare.

    Attributes:
        dataset: one of DATASETS.
        videos: folder with the videos.
        out: folder for the lists.
        annotations: folder (or file) with the official annotations; None for `folder`.
        split: number of the official split, for ucf101 and hmdb51.
        val_share, seed: how `folder` splits classes that are not split yet.
    """

    dataset: str
    videos: Path
    out: Path
    annotations: Path | None = None
    split: int = 1
    val_share: float = 0.2
    seed: int = 0


def prepare(request: Request, how: Examination) -> dict[str, Any]:
    """Writes train, val and test lists with all that belongs to them; returns the summary.

    A video is listed when it is there and decodes to its last frame. The others are in bad.csv, with the reason. The
    test list is the validation list, as in the published results, unless the data set brings a labelled one.

    Raises:
        InputError: annotations that are not what they should be, or not one of their videos found.
    """
    tree = VideoTree(request.videos)
    annotations = _annotations(request, tree)
    bad: list[Bad] = []
    matched = _match(annotations, tree, bad)
    paths = sorted({path for _, path in matched})
    copies = copy_names(paths) if how.reencode else {}
    findings = examine(paths, request.videos, how, request.out / JOURNAL, copies)
    listed: dict[str, list[Listed]] = {split: [] for split in ("train", "val", "test")}
    for entry, path in matched:
        finding = findings[path]
        if isinstance(finding, str):
            bad.append(Bad(entry.split, entry.label, path, finding))
        else:
            listed[entry.split].append(Listed(copies.get(path, path), entry.label, finding))
    if not any(entry.split == "test" for entry in annotations.entries):
        del listed["test"]
    summary = _write(request, annotations, listed, bad)
    summary["other_files"] = tree.others
    summary["train_videos_also_in_val_or_test"] = _overlap(matched)
    write_json(request.out / "summary.json", summary)
    return summary


def _annotations(request: Request, tree: VideoTree) -> Annotations:
    if request.dataset == "folder":
        return read_class_folders(request.videos, tree, request.val_share, request.seed)
    if request.annotations is None:
        raise InputError(
            f"{request.dataset} needs --annotations, the folder with its official files"
        )
    return READERS[request.dataset](request.annotations, request.split)


def _match(annotations: Annotations, tree: VideoTree, bad: list[Bad]) -> list[tuple[Entry, str]]:
    """Each entry with its file; those without one go to `bad`."""
    matched, seen = [], set()
    for entry in annotations.entries:
        path = tree.find(entry.names, annotations.class_names[entry.label], entry.split)
        if path is None:
            bad.append(Bad(entry.split, entry.label, entry.names[0], MISSING))
        elif "\n" in path or "\r" in path:
            reason = "its path has a line break, and a list is one video a line; rename it"
            bad.append(Bad(entry.split, entry.label, path, reason))
        elif (entry.split, path) in seen:
            reason = "annotated twice in this split; the first one is listed"
            bad.append(Bad(entry.split, entry.label, path, reason))
        else:
            seen.add((entry.split, path))
            matched.append((entry, path))
    if not matched:
        example = annotations.entries[0].names[0]
        raise InputError(
            f"--videos: none of the {len(annotations.entries)} annotated videos is among the {len(tree.paths)} files "
            f"under {tree.root}; wanted, for example, {example!r}, and found {tree.paths[0]!r}"
        )
    return matched


def _write(
    request: Request,
    annotations: Annotations,
    listed: dict[str, list[Listed]],
    bad: list[Bad],
) -> dict[str, Any]:
    out = request.out
    write_class_names(out / "classes.txt", annotations.class_names)
    for split, videos in listed.items():
        write_list(out / f"{split}.csv", videos)
        write_facts(out / f"{split}.facts.tsv", videos)
    if "test" not in listed:
        write_list(out / "test.csv", listed["val"])
        write_facts(out / "test.facts.tsv", listed["val"])
    bad.sort(key=lambda video: (video.split, video.path))
    write_bad(out / "bad.csv", bad)
    splits = {
        split: split_summary(
            videos, [video for video in bad if video.split == split], annotations.class_names
        )
        for split, videos in listed.items()
    }
    return {
        "dataset": request.dataset,
        "test_list": "test" if "test" in listed else "val",
        "splits": splits,
    }


def _overlap(matched: Sequence[tuple[Entry, str]]) -> int:
    train = {path for entry, path in matched if entry.split == "train"}
    return len(train & {path for entry, path in matched if entry.split != "train"})


def check_list(file: Path, prefix: str, how: Examination, out: Path) -> dict[str, Any]:
    """Looks at every video of an existing list as `prepare` does, and writes what it finds beside it; the list stays.

    Args:
        file: `path label` lines.
        prefix: DATA.PATH_PREFIX, what the paths are relative to; "" for the current folder.
        out: folder for NAME.bad.csv, NAME.facts.tsv and NAME.summary.json, NAME being the list's.

    Raises:
        InputError: no list, or a line that is none.
    """
    if not file.is_file():
        raise InputError(f"there is no list {file}")
    entries = [(path, label) for _, path, label in read_csv(file)]
    if not entries:
        raise InputError(f"{file}: the list is empty")
    times = Counter(path for path, _ in entries)
    root = Path(os.path.expanduser(prefix))
    findings = examine(sorted(times), root, how, out / f".{file.stem}.examined.jsonl", {})
    listed: list[Listed] = []
    bad: list[Bad] = []
    for path, label in entries:
        finding = _with_repeats(findings[path], times[path])
        if isinstance(finding, str):
            bad.append(Bad(file.stem, label, path, finding))
        else:
            listed.append(Listed(path, label, finding))
    class_names = _names_beside(file, max(label for _, label in entries) + 1)
    write_bad(out / f"{file.stem}.bad.csv", bad)
    write_facts(out / f"{file.stem}.facts.tsv", listed)
    summary = {"splits": {file.stem: split_summary(listed, bad, class_names)}}
    write_json(out / f"{file.stem}.summary.json", summary)
    return summary


def _with_repeats(finding: Finding, times: int) -> Finding:
    return (
        f"stands in the list {times} times"
        if times > 1 and not isinstance(finding, str)
        else finding
    )


def _names_beside(file: Path, least: int) -> tuple[str, ...]:
    """Class names from classes.txt beside a list, or numbers."""
    names_file = file.with_name("classes.txt")
    if not names_file.is_file():
        return tuple(map(str, range(least)))
    names = tuple(names_file.read_text(encoding="utf-8-sig").splitlines())
    if len(names) < least:
        raise InputError(
            f"{file}: label {least - 1}, but {names_file} names {len(names)} classes (labels 0 ... {len(names) - 1})"
        )
    return names
