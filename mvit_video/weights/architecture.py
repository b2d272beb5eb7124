"""The architecture that a checkpoint holds: from what came with it, and from its tensors."""

from __future__ import annotations

import re
from typing import Any

import torch
from fvcore.common.config import CfgNode
from torch import nn

from mvit_video.config.loading import parse_config
from mvit_video.errors import InputError
from mvit_video.models import REGISTRY
from mvit_video.weights.checkpoint import Checkpoint
from mvit_video.weights.native import spec_from_dict


def checkpoint_spec(
    checkpoint: Checkpoint,
    num_frames: int | None = None,
    *,
    infer: bool = False,
    config: CfgNode | None = None,
) -> Any:
    """The spec of the model a checkpoint holds.

    Args:
        checkpoint: as read.
        num_frames: clip length, for tensors that do not tell it.
        infer: from the tensors alone, whatever config came with them.
        config: the model's config, in place of one that came with the weights.

    Raises:
        InputError: as `model_from_checkpoint`.
    """
    told = None if infer else _told_spec(checkpoint, config)
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


def _told_spec(checkpoint: Checkpoint, config: CfgNode | None) -> Any:
    """The spec of the given config, else the one that came with the tensors, None where none did."""
    name = checkpoint.reader.name
    if config is not None:
        return REGISTRY[name].spec_from_config(config)
    if checkpoint.record.get("family") == name:
        return spec_from_dict(name, checkpoint.record["spec"])
    config = embedded_config(checkpoint)
    return None if config is None else REGISTRY[name].spec_from_config(config)


def embedded_config(checkpoint: Checkpoint) -> CfgNode | None:
    """The config that came with the weights, in our keys; of SlowFast's only what using the model takes.

    Raises:
        InputError: it cannot be read, or is of a model that is not built here.
    """
    if not checkpoint.config:
        return None
    slowfast = checkpoint.config_spelling == "slowfast"
    return parse_config(checkpoint.config, f"the config in {checkpoint.source}", slowfast)


def model_without_weights(checkpoint: Checkpoint, spec: Any) -> nn.Module:
    """The model of `spec` on the meta device."""
    with torch.device("meta"):
        return REGISTRY[checkpoint.reader.name].model(spec)


def refuse_contradicting_tables(checkpoint: Checkpoint, spec: Any) -> None:
    """At its own clip size a checkpoint needs no interpolation: where it would, its tables disagree.

    Raises:
        InputError: naming the table.
    """
    wanted = model_without_weights(checkpoint, spec).state_dict()
    state, _ = checkpoint.reader.reconcile(dict(checkpoint.state), spec)
    for key in wanted.keys() & state.keys():
        table = any(re.fullmatch(pattern, key) for pattern, _ in checkpoint.reader.tables)
        if table and state[key].shape != wanted[key].shape:
            raise InputError(
                f"{checkpoint.source}: {key} is {tuple(state[key].shape)}, which contradicts the other tensors: the "
                f"model they describe has {tuple(wanted[key].shape)} there"
            )
