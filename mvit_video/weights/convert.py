"""From any checkpoint to a file in our format, or in somebody else's."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from fvcore.common.config import CfgNode
from torch import nn

from mvit_video.errors import InputError
from mvit_video.files import atomic_file
from mvit_video.weights.architecture import embedded_config
from mvit_video.weights.checkpoint import Checkpoint
from mvit_video.weights.inflate import CENTRE, Inflation
from mvit_video.weights.model import model_from_checkpoint
from mvit_video.weights.native import save_native

NATIVE = "native"


def convert(
    checkpoint: Checkpoint,
    target: str | os.PathLike[str],
    to: str = NATIVE,
    *,
    num_frames: int | None = None,
    infer: bool = False,
    inflation: Inflation = CENTRE,
    config: CfgNode | None = None,
    preprocessing: Mapping[str, Any] | None = None,
    class_names: Sequence[str] = (),
) -> str:
    """Writes the model that a checkpoint holds to `target`.

    Args:
        checkpoint: as read.
        target: file to write.
        to: "native" (safetensors with everything needed to predict), or a format that the family exports.
        num_frames, infer, inflation: as `model_from_checkpoint`.
        config: the model's config, in place of one that came with the weights; a native file stores it.
        preprocessing: `Preprocessing.to_dict()` for a native file; the checkpoint's own if None.
        class_names: likewise.

    Returns:
        One line that says what was written.

    Raises:
        InputError: the checkpoint does not hold such a model, or the format has no words for it.
    """
    reader = checkpoint.reader
    if to != NATIVE and to not in reader.exports:
        known = ", ".join([NATIVE, *reader.exports])
        raise InputError(f"a {reader.name} is not written as {to!r}; choose one of {known}")
    model = model_from_checkpoint(
        checkpoint, num_frames, infer=infer, config=config, inflation=inflation
    )
    if to == NATIVE:
        config = config or embedded_config(checkpoint)
        as_configured = config is not None and model.spec.num_frames == config.DATA.NUM_FRAMES
        save_native(
            model,
            target,
            family=reader.name,
            config=config.dump() if as_configured else "",
            **_companions(checkpoint, model, inflation, preprocessing, class_names),
        )
    else:
        with atomic_file(target) as file:
            torch.save(reader.exports[to](model), file)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return (
        f"{os.fspath(target)}: {reader.name}, {parameters:,} parameters, {model.spec.num_frames} frames, "
        f"{model.spec.num_classes} classes, written as {to} from {checkpoint.dialect}"
    )


def _companions(
    checkpoint: Checkpoint,
    model: nn.Module,
    inflation: Inflation,
    preprocessing: Mapping[str, Any] | None,
    class_names: Sequence[str],
) -> dict[str, Any]:
    """What a native file holds beside weights, spec and config."""
    names = tuple(class_names or checkpoint.class_names)
    if names and len(names) != model.spec.num_classes:
        raise InputError(
            f"{len(names)} class names were given for a head of {model.spec.num_classes} classes"
        )
    preprocessing = preprocessing or checkpoint.preprocessing
    if preprocessing:
        frames = {"num_frames": model.spec.num_frames, "class_names": list(names)}
        preprocessing = {**preprocessing, **frames}
    inflated = checkpoint.is_image_model and model.spec.num_frames > 1
    how = asdict(inflation) | {"positions": "zero in time"} if inflated else None
    converted = {
        "source": os.path.basename(checkpoint.source),
        "dialect": checkpoint.dialect,
        "inflation": how,
    }
    return {"preprocessing": preprocessing, "class_names": names, "converted": converted}
