"""One's own data set: a folder of class folders.

videos/waving/a.mp4  videos/jumping/b.mp4                            split here, per class, from a seed
videos/train/waving/a.mp4  videos/val/waving/c.mp4  videos/test/...     split as they lie
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mvit_video.data.preparation.annotations import Annotations, Entry
from mvit_video.data.preparation.video_tree import VideoTree
from mvit_video.errors import InputError

_SPLIT_FOLDERS = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip


def read_class_folders(root: Path, tree: VideoTree, val_share: float, seed: int) -> Annotations:
    """Classes are folder names in sorted order. Videos may lie deeper in a class's folder.

    Args:
        tree: the videos under `root`.
        val_share: share of each class that goes to validation, where there are no folders for it; at least one video
            of a class with two or more.
        seed: decides which.

    Raises:
        InputError: videos outside of class folders, or only one class.
    """
    videos = [Path(path) for path in tree.paths]
    top = {path.parts[0].lower() for path in videos}
    given_splits = {_SPLIT_FOLDERS[name] for name in top if name in _SPLIT_FOLDERS}
    is_split = top <= set(_SPLIT_FOLDERS) and "train" in given_splits
    if is_split and "val" not in given_splits:
        raise InputError(
            f"{root} has a folder for training but none for validation; add `val`, or put the class folders "
            f"directly into {root} to have them split"
        )
    depth = 1 if is_split else 0
    for path in videos:
        if len(path.parts) < depth + 2:
            raise InputError(
                f"{root / path} lies in no class folder; videos are expected as {root}/"
                f"{'train/' if is_split else ''}CLASS/{path.name}"
            )
    class_names = tuple(sorted({path.parts[depth] for path in videos}))
    if len(class_names) < 2:
        raise InputError(
            f"{root} holds videos of {len(class_names)} classes; a folder per class is expected, two or more"
        )
    label_of = {name: label for label, name in enumerate(class_names)}
    labels = [label_of[path.parts[depth]] for path in videos]
    if is_split:
        splits = [_SPLIT_FOLDERS[path.parts[0].lower()] for path in videos]
    else:
        splits = _random_split(labels, val_share, seed)
    entries = (
        Entry(split, label, (str(path),))
        for path, label, split in zip(videos, labels, splits, strict=True)
    )
    return Annotations(class_names, tuple(entries))


def _random_split(labels: list[int], val_share: float, seed: int) -> list[str]:
    """ "train" or "val" for each video; a class's split depends on its own videos only."""
    splits = ["train"] * len(labels)
    for label in set(labels):
        members = [place for place, of in enumerate(labels) if of == label]
        rng = np.random.Generator(np.random.Philox(key=np.array([seed, label], dtype=np.uint64)))
        count = max(round(len(members) * val_share), 1) if len(members) > 1 and val_share > 0 else 0
        for place in rng.permutation(members)[: min(count, len(members) - 1)]:
            splits[place] = "val"
    return splits
