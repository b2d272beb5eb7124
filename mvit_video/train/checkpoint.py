"""Checkpoints: OUTPUT_DIR/checkpoints/step_XXXXXXXX.pt, and best.pt beside them.

A file is either whole or not there: it is written under a temporary name, synced and renamed. It holds plain
values and tensors only and is read with `weights_only=True`. Keys:

    format         1
    model          state dict, names as in the model
    ema            state dict of the averaged weights, same names, or None
    optimizer      state dict
    scaler         state dict of the gradient scaler ({} unless TRAIN.PRECISION is float16)
    progress       position of the run (progress.Progress)
    world_size     ranks that trained it
    train_list     digest of the training list
    config         the run's config as YAML
    preprocessing  Preprocessing.to_dict(), class names included

With TRAIN.FSDP a folder beside the file, step_XXXXXXXX-N.shards, holds the tensors, and the file has

    shards         the folder's name, and size and checksum of its files, in place of model and ema
    optimizer      its param_groups

The file is written last, so it speaks for all of it. Whoever reads one as a weight file gets the whole
(`weights.shards`).

There is no random state in it because none carries over: every choice is drawn from the seed and the position.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import torch

from mvit_video.errors import InputError
from mvit_video.files import atomic_file
from mvit_video.weights.files import SHARDS, read_file

FORMAT = 1
BEST = "best.pt"
_KEYS = {"optimizer", "scaler", "progress", "config", "preprocessing"}
_log = logging.getLogger(__name__)


def checkpoints_folder(output_dir: str | os.PathLike[str]) -> Path:
    """Where the checkpoints of a run lie."""
    return Path(output_dir) / "checkpoints"


def checkpoint_files(folder: Path) -> list[Path]:
    """The step checkpoints in `folder`, oldest first; damaged ones are among them."""
    numbered = [
        (int(digits), path)
        for path in folder.glob("step_*.pt")
        if (digits := path.stem.removeprefix("step_")).isdecimal()
    ]
    return [path for _, path in sorted(numbered)]


def save_checkpoint(folder: Path, state: dict[str, Any], step: int, keep: int) -> Path:
    """Writes `state` as the checkpoint of `step`, then removes all but the `keep` newest. On one rank only.

    Raises:
        InputError: there is no room, or no permission; what was there before is untouched.
    """
    path = folder / f"step_{step:08d}.pt"
    try:
        with atomic_file(path) as file:
            torch.save({"format": FORMAT, **state}, file)
    except (OSError, RuntimeError) as error:
        # torch's archive writer turns a full disk into a RuntimeError, and keeps the OSError as its cause or context.
        reason = error if isinstance(error, OSError) else error.__cause__ or error.__context__
        if not isinstance(reason, OSError):
            raise
        raise InputError(
            f"checkpoint {path} cannot be written: {reason}. Older ones are intact; make room and give the same "
            "command again to go on from the newest"
        ) from error
    for old in checkpoint_files(folder)[:-keep]:
        old.unlink()
    return path


def keep_as_best(path: Path) -> None:
    """Makes best.pt the checkpoint `path`, which may then be rotated away. By a hard link where there are any."""
    best = path.with_name(BEST)
    temporary = path.with_name(f".{BEST}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        os.link(path, temporary)
    except OSError:
        shutil.copyfile(path, temporary)
    os.replace(temporary, best)


def find_newest_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that can be read; None if there are no checkpoints.

    Damaged ones are passed over with a warning.

    Raises:
        InputError: there are checkpoints, but none can be read.
    """
    files = checkpoint_files(folder)
    for path in reversed(files):
        try:
            open_training_checkpoint(path)
        except InputError as error:
            _log.warning("passing over %s: %s", path.name, error)
        else:
            return path
    if files:
        raise InputError(
            f"none of the {len(files)} checkpoints in {folder} can be read (see the warnings above); move them away to "
            "start from the beginning"
        )
    return None


def read_training_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint of this trainer, on the CPU, shards put together.

    Raises:
        InputError: a damaged file, or another format.
    """
    saved, shards = open_training_checkpoint(path)
    if shards is None:
        return saved
    from mvit_video.weights.shards import put_together  # see `weights.files`

    return put_together(saved, path)


def open_training_checkpoint(path: Path) -> tuple[dict[str, Any], Path | None]:
    """What the file of a checkpoint holds, and the folder of its shards if its tensors are there.

    Raises:
        InputError: file or shards are damaged, or have another format.
    """
    saved, _ = read_file(path, together=False)
    if not isinstance(saved, dict) or "format" not in saved:
        raise InputError(f"{path} is no training checkpoint of mvit-video")
    tensors = {SHARDS} if SHARDS in saved else {"model", "ema"}
    if saved["format"] != FORMAT or not saved.keys() >= _KEYS | tensors:
        raise InputError(
            f"{path} has format {saved['format']!r}; this version of mvit-video reads {FORMAT}"
        )
    if SHARDS not in saved:
        return saved, None
    from mvit_video.weights.shards import shards_folder

    return saved, shards_folder(saved, path)


def remove_loose_shards(folder: Path) -> None:
    """Removes shards that no checkpoint names: of rotated ones, and of killed saves. On one rank only."""
    folders = set(folder.glob(f"*.{SHARDS}"))
    if not folders:
        return
    for file in folder.glob("*.pt"):
        with contextlib.suppress(InputError):  # a damaged file has lost its shards already
            saved, _ = read_file(file, together=False)
            folders.discard(folder / saved[SHARDS]["folder"])
    for loose in folders:
        shutil.rmtree(loose)


def differences(a: Any, b: Any, where: str = "") -> list[str]:
    """Names of the values that differ, be it in one bit, between two checkpoints or parts of them."""
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        return [name for key in a for name in differences(a[key], b[key], f"{where}.{key}")]
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        pairs = enumerate(zip(a, b, strict=True))
        return [name for i, pair in pairs for name in differences(*pair, f"{where}.{i}")]
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        same = a.dtype == b.dtype and torch.equal(a, b)
    else:
        same = type(a) is type(b) and a == b
    return [] if same else [where.removeprefix(".")]


def remove_leftovers(folder: Path) -> None:
    """Removes what a killed run left half written. On one rank only, before training."""
    for path in folder.glob(".*.pt.tmp"):
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
    remove_loose_shards(folder)
