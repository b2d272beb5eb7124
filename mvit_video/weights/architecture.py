"""The model that a checkpoint holds: from what came with it, and from its tensors."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from mvit_video.config.loading import parse_config
from mvit_video.errors import InputError
from mvit_video.models import REGISTRY
from mvit_video.weights.checkpoint import Checkpoint, Source, read_checkpoint
from mvit_video.weights.inflate import CENTRE, Inflation
from mvit_video.weights.load import load_weights
from mvit_video.weights.native import spec_from_dict


def model_from_checkpoint(
    source: Source | Checkpoint,
    num_frames: int | None = None,
    *,
    infer: bool = False,
    inflation: Inflation = CENTRE,
) -> nn.Module:
    """Builds the model that a checkpoint holds and loads it, in eval mode.

    Args:
        source: as `read_checkpoint` takes it, or what that gave.
        num_frames: clip length; None for the checkpoint's own. Another one interpolates the position
            tables, inflates an image model, or makes an image model of a video model (1).
        infer: build from the tensors alone, even where a config came with them.
        inflation: how image weights become video weights.

    Raises:
        InputError: the checkpoint cannot be read, its config and its tensors contradict each other, or
            its tensors are not those of a published family.
    """
    checkpoint = source if isinstance(source, Checkpoint) else read_checkpoint(source)
    spec = checkpoint_spec(checkpoint, num_frames, infer)
    as_it_is = num_frames in (None, spec.num_frames)
    if not as_it_is:
        spec = checkpoint.reader.with_frames(spec, num_frames, inflation)
    with torch.device("meta"):
        model = REGISTRY[checkpoint.reader.name].model(spec)
    model.to_empty(device="cpu")  # initial weights would only be overwritten
    report = load_weights(model, checkpoint, inflation=inflation)
    if as_it_is and report.interpolated:
        raise InputError(
            f"{checkpoint.source}: the sizes of its tables contradict each other, {report.interpolated[0]} does "
            "not fit the model that the other tensors describe"
        )
    return model.eval()


def checkpoint_spec(
    checkpoint: Checkpoint, num_frames: int | None = None, infer: bool = False
) -> Any:
    """The spec of the model a checkpoint holds.

    Args:
        checkpoint: as read.
        num_frames: clip length, for tensors that do not tell it.
        infer: from the tensors alone, even where a config came with them.

    Raises:
        InputError: as `model_from_checkpoint`.
    """
    told = None if infer else _told_spec(checkpoint)
    try:
        found = checkpoint.reader.infer(checkpoint.state, num_frames)
    except InputError as error:
        if told is None:
            raise InputError(f"{checkpoint.source}: {error}") from None
        return told  # its config says what its tensors do not; loading checks that they fit
    if told is None:
        return found
    conflicts = checkpoint.reader.differences(told, found)
    if conflicts:
        raise InputError(
            f"{checkpoint.source}: its config and its tensors contradict each other. Config against tensors, "
            + "; ".join(conflicts)
            + ". To build what the tensors are, ask for it (infer=True, --infer)"
        )
    return told


def _told_spec(checkpoint: Checkpoint) -> Any:
    """The spec that came with the tensors, None where none did."""
    name = checkpoint.reader.name
    if checkpoint.record.get("family") == name:
        return spec_from_dict(name, checkpoint.record["spec"])
    if not checkpoint.config:
        return None
    source = f"the config in {checkpoint.source}"
    cfg = parse_config(checkpoint.config, source, slowfast=checkpoint.config_spelling == "slowfast")
    return REGISTRY[name].spec_from_config(cfg)
