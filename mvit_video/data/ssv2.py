"""Something-Something v2's official annotation files.

Both namings are understood: `something-something-v2-{train,validation,labels}.json`, and the newer download's
`labels/{train,validation,labels}.json`. Its test set has no labels, so the validation list serves as the test list.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from mvit_video.errors import InputError

Part = Literal["train", "validation"]


def ssv2_entries(folder: Path, part: Part) -> tuple[Path, Iterator[tuple[int, str, int]]]:
    """The annotation file, and (entry number from 1, video id, label) of each video in it.

    Raises:
        InputError: a file that is missing or not what it should be, with the entry.
    """
    label_of = _read_labels(_find(folder, "labels"))
    file = _find(folder, part)
    return file, _read_entries(file, label_of)


def ssv2_class_names(folder: Path) -> tuple[Path, tuple[str, ...]]:
    """The labels file and its templates ("Holding something") in label order."""
    file = _find(folder, "labels")
    label_of = _read_labels(file)
    return file, tuple(sorted(label_of, key=label_of.__getitem__))


def has_annotations(folder: Path) -> bool:
    """Whether the official labels file is there."""
    return any(candidate.is_file() for candidate in _candidates(folder, "labels"))


def _candidates(folder: Path, part: str) -> list[Path]:
    names = (f"something-something-v2-{part}.json", f"{part}.json")
    return [place / name for place in (folder, folder / "labels") for name in names]


def _find(folder: Path, part: str) -> Path:
    candidates = _candidates(folder, part)
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise InputError(
        f"{folder} (DATA.PATH_TO_DATA_DIR) has neither {candidates[0].name} nor {candidates[1].name}, nor a folder "
        "`labels` with one; they come with Something-Something v2's annotations"
    )


def _read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_bytes())
    except ValueError as error:
        raise InputError(f"{file}: not valid JSON ({error}); download it again") from None


def _read_labels(file: Path) -> dict[str, int]:
    """{template without brackets: label}."""
    content = _read_json(file)
    if not isinstance(content, dict):
        raise InputError(f'{file}: not SSv2\'s labels, {{"Holding something": "0", ...}}')
    try:
        return {_plain(template): int(label) for template, label in content.items()}
    except (TypeError, ValueError):
        raise InputError(f"{file}: a label is not a whole number") from None


def _read_entries(file: Path, label_of: dict[str, int]) -> Iterator[tuple[int, str, int]]:
    content = _read_json(file)
    if not isinstance(content, list):
        raise InputError(f"{file}: not SSv2's list of videos")
    for number, entry in enumerate(content, 1):
        video_id = entry.get("id") if isinstance(entry, dict) else None
        template = entry.get("template") if isinstance(entry, dict) else None
        if not isinstance(video_id, (str, int)) or not isinstance(template, str):
            raise InputError(f'{file}, entry {number}: no "id" or no "template"')
        if _plain(template) not in label_of:
            raise InputError(
                f"{file}, entry {number}: template {template!r} of video {video_id} is not in the labels file"
            )
        yield number, str(video_id), label_of[_plain(template)]


def _plain(template: str) -> str:
    """ "Holding [something] next to [something]" -> "Holding something next to something"."""
    return template.replace("[", "").replace("]", "")
