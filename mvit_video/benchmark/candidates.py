"""What `benchmark_model` times: our model, and what one would use instead of it."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, replace
from functools import cache
from types import ModuleType

import torch
from fvcore.common.config import CfgNode
from torch import nn

from mvit_video.benchmark.depthwise import with_conv3d
from mvit_video.build import build_model
from mvit_video.errors import InputError
from mvit_video.models.blocks import compile_blocks
from mvit_video.models.cost import count_multiply_adds, count_parameters
from mvit_video.models.inflated import InflatedSpec, image_mode
from mvit_video.models.mvit_spec import MViTSpec

OURS = "mvit_video"
BY_OTHER_HANDS = ("torchvision", "torchvision_compiled", "pytorchvideo", "materialised")
AGAINST = ("eager", "compiled", *BY_OTHER_HANDS, "image", "conv3d")


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
    """`mvit_video`, compiled if MODEL.COMPILE says so, or one of AGAINST:

    * eager, compiled: the same model without and with torch.compile, whatever MODEL.COMPILE says;
    * torchvision, torchvision_compiled: torchvision's mvit_v1_b and mvit_v2_s, where it is installed;
    * pytorchvideo, materialised: MViT by other hands, from tests/reference;
    * image: the family's image model, once for every time step of the clip's tokens;
    * conv3d: the model with full 3D depthwise convolutions, torch's own, instead of taps along time.

    Raises:
        InputError: the named implementation does not have the config's model.
    """
    clips = _clip_shape(cfg, batch)
    if name in (OURS, "eager", "compiled"):
        candidate = _candidate(build_model(cfg), (clips,))
        if name == "compiled" or (name == OURS and cfg.MODEL.COMPILE):
            compile_blocks(candidate.model)
        return candidate
    with torch.device("meta"):
        ours = build_model(cfg)
    if name in ("image", "conv3d"):
        return _other_form(ours, name, clips)
    return Candidate(by_other_hands(ours, name), (clips,), count_multiply_adds(ours, clips))


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


def by_other_hands(ours: nn.Module, name: str) -> nn.Module:
    """The same model in another implementation, a name of BY_OTHER_HANDS.

    Raises:
        InputError: it does not have this model.
    """
    if isinstance(ours.spec, InflatedSpec):
        raise InputError(f"--against {name} has MViT only, not {type(ours).__name__}")
    theirs = _from_torchvision(ours.spec) if "torchvision" in name else _reference(ours.spec, name)
    if count_parameters(theirs) != count_parameters(ours):
        raise InputError(
            f"{name} does not have this model: its nearest has {count_parameters(theirs):,} parameters, not"
            f" {count_parameters(ours):,} (pytorchvideo has MViT v1 only, torchvision MVIT_B and MVITv2_S at 16x4)"
        )
    return torch.compile(theirs, dynamic=False) if name == "torchvision_compiled" else theirs


def _reference(spec: MViTSpec, name: str) -> nn.Module:
    # References live with the tests that hold the package against them, in a checkout and not in an installed package.
    try:
        pytorchvideo = importlib.import_module("tests.reference.pytorchvideo_mvit")
        materialised = importlib.import_module("tests.reference.materialised")
    except ModuleNotFoundError as error:
        raise InputError(
            f"--against {name} needs {error.name}, from a checkout with tests/reference"
        ) from error
    build = pytorchvideo.build if name == "pytorchvideo" else materialised.MaterialisedMViT
    return build(spec)


def _from_torchvision(spec: MViTSpec) -> nn.Module:
    video = torchvision_video()
    build = video.mvit_v2_s if spec.relative_positions_space else video.mvit_v1_b
    return build(
        num_classes=spec.num_classes,
        dropout=spec.dropout_rate,
        stochastic_depth_prob=spec.drop_path_rate,
    )


@cache
def torchvision_video() -> ModuleType:
    """torchvision.models.video, also of a torchvision whose compiled operators do not fit this torch: models need none.

    Raises:
        InputError: torchvision is not installed, or cannot be imported.
    """
    try:
        try:
            return importlib.import_module("torchvision.models.video")
        except (
            RuntimeError
        ):  # it describes to torch operators that its library, not loaded, should have declared
            for name in ("nms", "qnms"):
                signature = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
                torch.library.define(f"torchvision::{name}", signature)
            return importlib.import_module("torchvision.models.video")
    except (ImportError, RuntimeError) as error:
        raise InputError(
            f"--against torchvision needs a torchvision that fits torch {torch.__version__}: {error}"
        ) from error


def _clip_shape(cfg: CfgNode, batch: int) -> tuple[int, ...]:
    size = cfg.DATA.TRAIN_CROP_SIZE
    return batch, 3, cfg.DATA.NUM_FRAMES, size, size
