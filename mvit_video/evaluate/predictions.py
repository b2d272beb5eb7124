"""The predictions file: what a test found out about each video of its list, and nothing derived from it.

Every metric, fusion and table is computed from this file and can be recomputed from it offline. It is a plain `.npz`
without pickles:

    video_id   (N,) str       the scored videos, in list order
    index      (N,) int64     their positions in the list, ascending
    label      (N,) int64
    scores     (N, V, C) float32   softmax of each view
    view       (V, 2) int64   temporal and spatial index of each view
    undecodable_index, undecodable_id, undecodable_label, undecodable_reason   the videos without scores
    class_names (C,) or (0,) str
    num_videos  ()            videos in the list; a part, which a rank or a shard wrote, holds fewer
    origin      () str        digest of what made the scores: the weights, the list, the views (evaluate/parts.py)
    format      ()            1
"""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mvit_video.data.dataset import UndecodableVideo
from mvit_video.errors import InputError
from mvit_video.files import atomic_file

FORMAT = 1
_NAMED_IN_MESSAGES = 5
# What zipfile and numpy raise over a damaged archive; RuntimeError: it seems encrypted, or compressed in a new way.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    ValueError,
    OSError,
    AttributeError,
    RuntimeError,
)


@dataclass(frozen=True, eq=False)
class Predictions:
    """Scores of N videos in V views over C classes, and the videos that have none.

    Attributes:
        video_id: N names, in list order.
        index: (N,) int64, positions in the list, ascending.
        label: (N,) int64, 0 ... C - 1.
        scores: (N, V, C) float32, softmax of each view.
        view: (V, 2) int64, temporal and spatial index of each view.
        num_videos: videos in the whole list.
        undecodable: ascending by index.
        class_names: C names, or none.
        origin: digest of what made the scores, "" where nobody knows; the same in all parts of a test.

    Raises:
        InputError: the fields do not fit together.
    """

    video_id: tuple[str, ...]
    index: np.ndarray
    label: np.ndarray
    scores: np.ndarray
    view: np.ndarray
    num_videos: int
    undecodable: tuple[UndecodableVideo, ...] = ()
    class_names: tuple[str, ...] = ()
    origin: str = ""

    def __post_init__(self) -> None:
        if self.scores.ndim != 3 or self.scores.dtype != np.float32:
            raise InputError(
                f"scores are {self.scores.dtype} {self.scores.shape}, not float32 (N, V, C)"
            )
        videos, views, classes = self.scores.shape
        wanted = {"index": (videos,), "label": (videos,), "view": (views, 2)}
        for name, shape in wanted.items():
            if getattr(self, name).shape != shape:
                raise InputError(
                    f"{name} is {getattr(self, name).shape}; with scores {self.scores.shape} it is {shape}"
                )
        if len(self.video_id) != videos:
            raise InputError(f"{len(self.video_id)} video ids for {videos} rows of scores")
        if len(self.class_names) not in (0, classes):
            raise InputError(f"{len(self.class_names)} class names for {classes} classes")
        if videos and not 0 <= self.label.min() <= self.label.max() < classes:
            raise InputError(
                f"labels run from {self.label.min()} to {self.label.max()}, with {classes} classes"
            )
        positions = np.sort(self.positions)
        if len(positions) and (positions[0] < 0 or positions[-1] >= self.num_videos):
            raise InputError(f"position {positions[-1]} in a list of {self.num_videos} videos")
        if len(np.unique(positions)) != len(positions):
            raise InputError(f"a video is there twice: {self._name_repeated(positions)}")
        if (np.diff(self.index) < 0).any():
            raise InputError("the videos are not in list order")

    @property
    def positions(self) -> np.ndarray:
        """List positions of all videos here: the scored, then the undecodable."""
        lost = np.array([video.index for video in self.undecodable], dtype=np.int64)
        return np.concatenate([self.index, lost])

    @property
    def missing(self) -> np.ndarray:
        """List positions of the videos that are neither scored nor undecodable: none in a whole file."""
        return np.setdiff1d(np.arange(self.num_videos), self.positions)

    def _name_repeated(self, positions: np.ndarray) -> str:
        names = dict(zip(self.index.tolist(), self.video_id, strict=True))
        names.update({video.index: video.video_id for video in self.undecodable})
        repeated = positions[1:][np.diff(positions) == 0]
        return _shortened([f"{names[i]!r} (position {i})" for i in np.unique(repeated).tolist()])


def merge(parts: Sequence[Predictions]) -> Predictions:
    """One whole from the parts of ranks or shards, in list order whatever the order of the parts.

    Raises:
        InputError: parts of different tests, a video in two parts, or a video in none.
    """
    whole = concatenate(parts)
    if len(whole.missing):
        raise InputError(
            f"{len(whole.missing)} of {whole.num_videos} videos are in no part: list positions "
            f"{_shortened(whole.missing.tolist())}; run the missing part again"
        )
    return whole


def concatenate(parts: Sequence[Predictions]) -> Predictions:
    """What several parts of one test hold together, in list order.

    Raises:
        InputError: parts of different tests, or a video in two parts.
    """
    first = parts[0]
    for part in parts[1:]:
        same = (
            part.num_videos == first.num_videos
            and part.class_names == first.class_names
            and part.origin == first.origin
            and part.scores.shape[1:] == first.scores.shape[1:]
            and np.array_equal(part.view, first.view)
        )
        if not same:
            raise InputError(
                "these parts are not of one test: their weights, lists, views or classes differ"
            )
    index = np.concatenate([part.index for part in parts])
    order = np.argsort(index, kind="stable")
    ids = [video_id for part in parts for video_id in part.video_id]
    return Predictions(
        video_id=tuple(ids[i] for i in order),
        index=index[order],
        label=np.concatenate([part.label for part in parts])[order],
        scores=np.concatenate([part.scores for part in parts])[order],
        view=first.view,
        num_videos=first.num_videos,
        undecodable=tuple(
            sorted((video for part in parts for video in part.undecodable), key=lambda v: v.index)
        ),
        class_names=first.class_names,
        origin=first.origin,
    )


def save(predictions: Predictions, path: str | os.PathLike[str]) -> None:
    """Writes the file in one piece: the same predictions are the same bytes, and a kill leaves no half of them."""
    lost = predictions.undecodable
    with atomic_file(path) as file:
        np.savez(
            file,
            allow_pickle=False,
            format=np.int64(FORMAT),
            num_videos=np.int64(predictions.num_videos),
            video_id=_text(predictions.video_id),
            index=predictions.index.astype(np.int64),
            label=predictions.label.astype(np.int64),
            scores=predictions.scores,
            view=predictions.view.astype(np.int64),
            undecodable_index=np.array([video.index for video in lost], dtype=np.int64),
            undecodable_id=_text([video.video_id for video in lost]),
            undecodable_label=np.array([video.label for video in lost], dtype=np.int64),
            undecodable_reason=_text([video.reason for video in lost]),
            class_names=_text(predictions.class_names),
            origin=np.array(predictions.origin),
        )


def load(path: str | os.PathLike[str]) -> Predictions:
    """Reads a file that `save` wrote.

    Raises:
        InputError: no such file, a damaged one (every array has a checksum), or something else than predictions.
    """
    if not Path(path).is_file():
        raise InputError(f"there is no predictions file at {os.fspath(path)}")
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        return _from_arrays(arrays)
    except _DAMAGE as error:
        raise InputError(
            f"{os.fspath(path)} is damaged or no predictions file ({error}); run the test again"
        ) from error
    except KeyError as error:
        raise InputError(
            f"{os.fspath(path)} is no predictions file: it has no array {error}"
        ) from error
    except InputError as error:
        raise InputError(f"{os.fspath(path)}: {error}") from error


def _from_arrays(arrays: dict[str, np.ndarray]) -> Predictions:
    if arrays["format"] != FORMAT:
        raise InputError(f"format {arrays['format']}; this version reads format {FORMAT}")
    lost = (arrays[f"undecodable_{field}"].tolist() for field in ("id", "label", "index", "reason"))
    return Predictions(
        video_id=tuple(arrays["video_id"].tolist()),
        index=arrays["index"],
        label=arrays["label"],
        scores=arrays["scores"],
        view=arrays["view"],
        num_videos=int(arrays["num_videos"]),
        undecodable=tuple(UndecodableVideo(*fields) for fields in zip(*lost, strict=True)),
        class_names=tuple(arrays["class_names"].tolist()),
        origin=str(arrays["origin"]),
    )


def _text(strings: Sequence[str]) -> np.ndarray:
    """Unicode array; numpy makes an empty list one of floats."""
    return np.array(strings, dtype=str) if strings else np.array([], dtype="<U1")


def _shortened(items: Sequence[object]) -> str:
    """The first few items, and how many more there are."""
    shown = ", ".join(map(str, items[:_NAMED_IN_MESSAGES]))
    more = len(items) - _NAMED_IN_MESSAGES
    return f"{shown} and {more} more" if more > 0 else shown
