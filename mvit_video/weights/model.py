"""From a checkpoint to the model that it holds."""

from __future__ import annotations

from fvcore.common.config import CfgNode
from torch import nn

from mvit_video.errors import InputError
from mvit_video.weights.architecture import (
    checkpoint_spec,
    model_without_weights,
    refuse_contradicting_tables,
)
from mvit_video.weights.checkpoint import Checkpoint, Source, read_checkpoint
from mvit_video.weights.inflate import CENTRE, Inflation
from mvit_video.weights.load import load_weights


def model_from_checkpoint(
    source: Source | Checkpoint,
    num_frames: int | None = None,
    *,
    infer: bool = False,
    config: CfgNode | None = None,
    inflation: Inflation = CENTRE,
) -> nn.Module:
    """Builds the model that a checkpoint holds and loads it, in eval mode.

    Args:
        source: as `read_checkpoint` takes it, or what that gave.
        num_frames: clip length; None for the checkpoint's own. Another one interpolates the position
            tables, inflates an image model, or makes an image model of a video model (1).
        infer: build from the tensors alone, whatever config came with them.
        config: the model's config, in place of one that came with the weights.
        inflation: how image weights become video weights.

    Raises:
        InputError: the checkpoint cannot be read, its config and its tensors contradict each other, or
            its tensors are not those of a published family.
    """
    checkpoint = source if isinstance(source, Checkpoint) else read_checkpoint(source)
    spec = checkpoint_spec(checkpoint, num_frames, infer=infer, config=config)
    refuse_contradicting_tables(checkpoint, spec)
    if num_frames not in (None, spec.num_frames):
        spec = checkpoint.reader.with_frames(spec, num_frames, inflation)
    model = model_without_weights(checkpoint, spec)
    model.to_empty(device="cpu")  # initial weights would only be overwritten
    report = load_weights(model, checkpoint, inflation=inflation)
    if report.missing:
        raise InputError(f"{checkpoint.source}: nothing in it fills {', '.join(report.missing)}")
    return model.eval()
