"""What `benchmark_model` times: our model, and what one would use instead of it."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, replace

import torch
from fvcore.common.config import CfgNode
from torch import nn

from mvit_video.benchmark.depthwise import with_conv3d
from mvit_video.build import build_model
from mvit_video.errors import InputError
from mvit_video.models.cost import count_multiply_adds, count_parameters
from mvit_video.models.inflated import InflatedSpec, image_mode

OURS = "mvit_video"
AGAINST = ("pytorchvideo", "materialised", "image", "conv3d")


@dataclass(frozen=True)
class Candidate:
    """A model and what one pass of it takes.

    Attributes:
        model: of any implementation.
        inputs: shapes, each given to the model on its own in one pass.
        multiply_adds: of the forward passes of all inputs.
    """

    model: nn.Module
    inputs: tuple[tuple[int, ...], ...]
    multiply_adds: int


def make_candidate(cfg: CfgNode, name: str, batch: int) -> Candidate:
    """`mvit_video`, or one of AGAINST:

    * pytorchvideo, materialised: MViT by other hands, from tests/reference;
    * image: the family's image model, once for every time step of the clip's tokens;
    * conv3d: the model with full 3D depthwise convolutions, torch's own, instead of taps along time.

    Raises:
        InputError: the named implementation does not have the config's model.
    """
    clips = _clip_shape(cfg, batch)
    if name == OURS:
        return _candidate(build_model(cfg), (clips,))
    with torch.device("meta"):
        ours = build_model(cfg)
    if name in ("image", "conv3d"):
        return _other_form(ours, name, clips)
    return Candidate(_by_other_hands(ours, name), (clips,), count_multiply_adds(ours, clips))


def _other_form(ours: nn.Module, name: str, clips: tuple[int, ...]) -> Candidate:
    spec = ours.spec
    if not isinstance(spec, InflatedSpec):
        raise InputError(f"--against {name} is for Dual-ViT, MPViT and CloFormer, not for MViT")
    if name == "conv3d":
        model = type(ours)(replace(spec, depthwise_time="full"))
        return Candidate(with_conv3d(model), (clips,), count_multiply_adds(model, clips))
    batch, _, _, *size = clips
    return _candidate(type(ours)(image_mode(spec)), ((1, 3, *size),) * (batch * spec.num_steps))


def _candidate(model: nn.Module, inputs: tuple[tuple[int, ...], ...]) -> Candidate:
    work = {shape: count_multiply_adds(model, shape) for shape in set(inputs)}
    return Candidate(model, inputs, sum(work[shape] for shape in inputs))


def _by_other_hands(ours: nn.Module, name: str) -> nn.Module:
    # References live with the tests that hold the package against them, in a checkout and not in an installed package.
    try:
        pytorchvideo = importlib.import_module("tests.reference.pytorchvideo_mvit")
        materialised = importlib.import_module("tests.reference.materialised")
    except ModuleNotFoundError as error:
        raise InputError(
            f"--against {name} needs {error.name}, from a checkout with tests/reference"
        ) from error
    if isinstance(ours.spec, InflatedSpec):
        raise InputError(f"--against {name} has MViT only, not {type(ours).__name__}")
    theirs = (
        pytorchvideo.build(ours.spec)
        if name == "pytorchvideo"
        else materialised.MaterialisedMViT(ours.spec)
    )
    if count_parameters(theirs) != count_parameters(ours):
        raise InputError(
            f"{name} does not have this model: its nearest has {count_parameters(theirs):,} parameters, "
            f"not {count_parameters(ours):,} (pytorchvideo has MViT v1 only)"
        )
    return theirs


def _clip_shape(cfg: CfgNode, batch: int) -> tuple[int, ...]:
    size = cfg.DATA.TRAIN_CROP_SIZE
    return batch, 3, cfg.DATA.NUM_FRAMES, size, size
