"""Is the run that lies in OUTPUT_DIR the run that is asked for?

A resumed run promises the same training. Keys that change it must be as they were; keys that only say where it
runs, what it writes and how it is tested are free; a few in between are allowed, and said.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fvcore.common.config import CfgNode

from mvit_video.config import get_cfg
from mvit_video.config.strict_yaml import parse_yaml
from mvit_video.data.lists import ListFile
from mvit_video.errors import InputError

_FREE = (
    "OUTPUT_DIR", "NUM_GPUS", "NUM_SHARDS", "NUM_THREADS", "LOG_PERIOD", "DATA_LOADER.", "TEST.", "TENSORBOARD.",
    "TRAIN.ENABLE", "TRAIN.AUTO_RESUME", "TRAIN.EVAL_PERIOD", "TRAIN.CHECKPOINT_PERIOD", "TRAIN.CHECKPOINT_STEPS",
    "TRAIN.KEEP_CHECKPOINTS", "TRAIN.NONFINITE", "DATA.MAX_BAD_FRACTION", "DATA.READER", "DATA.TEST_CROP_SIZE",
    "DATA.DECODE_TIMEOUT", "DATA.ENSEMBLE_METHOD",
)  # fmt: skip
_NOTED = {
    "SOLVER.MAX_EPOCH": "the learning rate follows the new length from here on",
    "SOLVER.ACCUMULATE_STEPS": "updates stay the same but for rounding and the drawing of dropout",
    "MODEL.COMPILE": "numbers stay the same but for rounding",
    "MVIT.POOL_BACKEND": "numbers stay the same but for rounding",
    "MODEL.ACT_CHECKPOINT": "numbers stay the same but for rounding",
    "MODEL.ACT_CHECKPOINT_STAGES": "numbers stay the same but for rounding",
    "TRAIN.MEMORY_BUDGET": "numbers stay the same but for rounding",
    "DATA.PATH_TO_DATA_DIR": "the training list there is the same",
    "DATA.PATH_PREFIX": "the training list is the same, the files are taken to be",
}
_log = logging.getLogger(__name__)


def check_same_run(
    saved: Mapping[str, Any], path: Path, cfg: CfgNode, train_list: ListFile, world_size: int
) -> None:
    """Compares a checkpoint with the run that is about to go on from it. Allowed differences are logged.

    Raises:
        InputError: the keys that differ, with both values, and what to do.
    """
    changed = changed_keys(saved["config"], cfg)
    fixed = {key: pair for key, pair in changed.items() if key not in _NOTED}
    if fixed:
        lines = "".join(
            f"\n  {key}: {old!r} there, {new!r} now" for key, (old, new) in fixed.items()
        )
        raise InputError(
            f"{path} belongs to a training with other settings:{lines}\n"
            "Give the old values to go on with it, or another OUTPUT_DIR to start a new one"
        )
    if saved["train_list"] != train_list.digest():
        raise InputError(
            f"{path} was trained on another list than {train_list.source} with its {len(train_list)} videos; "
            "restore the list to go on, or give another OUTPUT_DIR to start a new training"
        )
    for key, (old, new) in changed.items():
        _log.info("%s was %r and is now %r: %s", key, old, new, _NOTED[key])
    if saved["world_size"] != world_size:
        _log.info(
            "trained by %d ranks so far, by %d from here on: same samples and augmentations, but not the same bits",
            saved["world_size"],
            world_size,
        )


def changed_keys(saved_yaml: str, cfg: CfgNode) -> dict[str, tuple[Any, Any]]:
    """{key: (value then, value now)} of the keys that are not free to change.

    A key that the saved config does not have yet had its default's effect. One that no longer exists has none.
    """
    then = dict(_leaves(get_cfg())) | dict(_leaves(parse_yaml(saved_yaml, "the saved config")))
    return {
        key: (then[key], value)
        for key, value in _leaves(cfg)
        if then[key] != value and not key.startswith(_FREE)
    }


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
