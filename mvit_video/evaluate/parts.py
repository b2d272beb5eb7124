"""Parts of one test: files that ranks or shards leave in its folder until all are there and become one.

A part holds its share of the list, or, where it was stopped, the beginning of that: the next start goes on behind it.
It says what made it, so that parts of other weights, lists or views are scored anew and never mixed in.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from fvcore.common.config import CfgNode
from torch import nn

from mvit_video.data.lists import ListFile
from mvit_video.data.preprocessing import Preprocessing
from mvit_video.errors import InputError
from mvit_video.evaluate.predictions import Predictions, load, merge

_log = logging.getLogger(__name__)
# Settings of a test, beside its preprocessing, that change the scores.
_SETTINGS = ("NUM_ENSEMBLE_VIEWS", "NUM_SPATIAL_CROPS", "PRECISION")


@dataclass(frozen=True)
class Part:
    """Every `size`-th video of a list from `number` on.

    Attributes:
        folder: of the test.
        number: from 0 on, as ranks have it; names of files, and messages, count from 1.
    """

    folder: Path
    number: int
    size: int

    @property
    def path(self) -> Path:
        return self.folder / f"predictions-{self.number + 1:05d}-of-{self.size:05d}.npz"

    def share(self, num_videos: int) -> range:
        """Its positions in a list."""
        return range(self.number, num_videos, self.size)

    def begun(self, origin: str) -> Predictions | None:
        """What an earlier start of the same test has left of this part, be it the whole."""
        if not self.path.exists():
            return None
        try:
            found = load(self.path)
        except InputError as error:
            _log.warning("%s; its share is scored anew", error)
            return None
        done = np.sort(found.positions)
        if found.origin != origin or done.tolist() != list(
            self.share(found.num_videos)[: len(done)]
        ):
            _log.warning(
                "%s is of another test (weights, list or views): its share is scored anew",
                self.path,
            )
            return None
        return found


def origin_of(
    cfg: CfgNode, model: nn.Module, preprocessing: Preprocessing, videos: ListFile
) -> str:
    """A digest of all that the scores of a test follow from; the same in every process of it."""
    settings = {name: cfg.TEST[name] for name in _SETTINGS}
    shuffle_seed = cfg.RNG_SEED if cfg.TEST.SHUFFLE_FRAMES else None
    described = [settings, shuffle_seed, preprocessing.to_dict(), videos.digest()]
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def merge_files(folder: Path, num_parts: int) -> Predictions:
    """The whole test from its parts.

    Raises:
        InputError: parts that are missing, damaged, unfinished, or of another test than the newest.
    """
    parts = [Part(folder, number, num_parts) for number in range(num_parts)]
    of = f"of {num_parts}"
    missing = [part.number for part in parts if not part.path.exists()]
    if missing:
        raise InputError(f"part {_numbers(missing)} {of} is not in {folder}")
    found = [load(part.path) for part in parts]
    newest = max(parts, key=lambda part: part.path.stat().st_mtime_ns).number
    strangers = [i for i, part in enumerate(found) if part.origin != found[newest].origin]
    if strangers:
        raise InputError(
            f"part {_numbers(strangers)} {of} in {folder} was made with other weights, another list or other views "
            f"than part {newest + 1}, the newest"
        )
    unfinished = [
        part.number
        for part, holds in zip(parts, found, strict=True)
        if len(holds.positions) < len(part.share(holds.num_videos))
    ]
    if unfinished:
        raise InputError(f"part {_numbers(unfinished)} {of} in {folder} was stopped on the way")
    return merge(found)


def remove_parts(folder: Path) -> None:
    """Removes the parts in a test's folder, once they have become one file."""
    for path in folder.glob("predictions-*-of-*.npz"):
        path.unlink()


def _numbers(numbers: Sequence[int]) -> str:
    return ", ".join(str(number + 1) for number in numbers)
