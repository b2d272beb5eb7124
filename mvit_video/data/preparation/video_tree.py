"""The video files under a folder, and finding annotated ones among them."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path, PurePosixPath

from mvit_video.errors import InputError

# fmt: off
SUFFIXES = frozenset({
    ".3gp", ".asf", ".avi", ".divx", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".ts",
    ".webm", ".wmv",
})
# fmt: on


class VideoTree:
    """All files with a video's suffix under `root`, links followed, hidden ones passed over.

    Attributes:
        root: the folder.
        paths: of the files, relative to `root`, sorted.
        others: number of files with another suffix.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise InputError(f"--videos: there is no folder {root}")
        self.root = root
        self.paths, self.others = video_files(root)
        if not self.paths:
            raise InputError(
                f"--videos: no video file under {root} ({self.others} other files; known suffixes: "
                f"{' '.join(sorted(SUFFIXES))})"
            )
        self._by_stem: dict[str, list[str]] = defaultdict(list)
        self._whole = set(self.paths)
        for path in self.paths:
            self._by_stem[PurePosixPath(path).stem].append(path)

    def find(self, names: tuple[str, ...], class_name: str, split: str) -> str | None:
        """The file with the first of `names` that is there: as a path under the root, else by its stem anywhere.

        Among several of one stem, those in a folder of the class or of the split are preferred, then the first.
        """
        for name in names:
            if name in self._whole:
                return name
            pure = PurePosixPath(name)
            stem = pure.stem if pure.suffix.lower() in SUFFIXES else pure.name
            candidates = self._by_stem.get(stem)
            if candidates:
                return min(candidates, key=lambda path: (-_kinship(path, class_name, split), path))
        return None


def _kinship(path: str, class_name: str, split: str) -> int:
    """How many of its folders speak for a file: one named like the class, one like the split."""
    folders = {part.lower().replace("_", " ") for part in PurePosixPath(path).parts[:-1]}
    in_class = class_name.lower().replace("_", " ") in folders
    in_split = any(folder.startswith(split) for folder in folders)
    return 2 * in_class + in_split


def video_files(root: Path) -> tuple[list[str], int]:
    """Paths of the video files under `root`, as `VideoTree` has them, and the number of other files."""
    paths, others = [], 0
    seen = set()
    for folder, subfolders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a link back to where one has been
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in files:
            if name.startswith("."):
                continue
            if os.path.splitext(name)[1].lower() in SUFFIXES:
                paths.append(Path(folder, name).relative_to(root).as_posix())
            else:
                others += 1
    return sorted(paths), others
