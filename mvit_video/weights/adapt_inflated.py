"""Dual-ViT, MPViT and CloFormer: which of the published models tensors are, and the way from images to video.

A video model has a first convolution several frames deep, taps along time behind its depthwise
convolutions, and perhaps a table of temporal positions. An image model becomes one by
`Inflation`; taps begin as the identity and positions at zero.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from mvit_video.errors import InputError
from mvit_video.models.inflated import InflatedSpec, image_mode
from mvit_video.weights.dialect import Dialect, State, copy
from mvit_video.weights.family import FamilyReader
from mvit_video.weights.inflate import Inflation
from mvit_video.weights.resize import resize_length

P = r"(weight|bias)"
BATCH_NORM = r"(weight|bias|running_mean|running_var|num_batches_tracked)"

_FRAMES = 16  # where no table tells


def linear(weight: Tensor) -> Tensor:
    """1 x 1 convolution (O, I, 1, 1) -> linear layer (O, I)."""
    return weight.flatten(1)


def as_cube(weight: Tensor) -> Tensor:
    """(O, I, k, k) -> (O, I, 1, k, k)."""
    return weight.unsqueeze(2)


def inflated_reader(
    official: Dialect,
    presets: Mapping[str, InflatedSpec],
    own: tuple[str, ...],
    block_norm: str,
    stem: str,
    depthwise: str,
    head: str = rf"head\.{P}",
    further: Callable[[Mapping[str, Tensor]], dict[str, Any]] = lambda state: {},
) -> FamilyReader:
    """How checkpoints of an inflated family are read.

    Args:
        official: the names of its authors' code.
        presets: the published specs.
        own: regular expressions of two tensors that tell our names for it.
        block_norm: regular expression, with groups for stage and block, of a norm that every block has.
        stem: key of the first convolution.
        depthwise: key of some depthwise convolution, without its last part.
        head: regular expression of the tensors that depend on the number of classes.
        further: tensors -> fields of the spec that this family alone has.
    """

    def infer(state: Mapping[str, Tensor], num_frames: int | None = None) -> InflatedSpec:
        for key in (stem, "head.weight", f"{depthwise}.weight"):
            if key not in state:
                raise InputError(f"the tensor {key} is missing")
        spec = _published(state, presets, block_norm)
        return _in_time(
            spec, {**_time(state, stem, depthwise), **further(state)}, state, num_frames
        )

    names = Dialect(name="mvit-video", family=official.family, markers=own, rules=(copy(".*"),))
    return FamilyReader(
        name=official.family,
        dialects=(official, names),
        infer=infer,
        with_frames=with_frames,
        describe=describe,
        stem=stem,
        head=head,
        tables=((r"position\.table", resize_positions),),
        begins=((r"position\.table", torch.zeros_like), (r".*\.taps", identity_taps)),
        reconcile=complete_batch_norms,
    )


def _published(
    state: Mapping[str, Tensor], presets: Mapping[str, InflatedSpec], block_norm: str
) -> InflatedSpec:
    """The preset with the widths, depths and classes of `state`."""
    widths, depths = _sizes(state, block_norm)
    spec = next((s for s in presets.values() if (s.widths, s.depths) == (widths, depths)), None)
    if spec is None:
        raise InputError(
            f"stages of widths {widths} and depths {depths} are no published model's; give the model's config"
        )
    return replace(spec, num_classes=state["head.weight"].shape[0])


def _in_time(
    spec: InflatedSpec, told: dict[str, Any], state: Mapping[str, Tensor], num_frames: int | None
) -> InflatedSpec:
    """`spec` with what its tensors told, an image model's or a video model's."""
    spec = replace(spec, **told)
    if (spec.stem_kernel_t, spec.depthwise_time, spec.temporal_position) == (1, "none", False):
        return image_mode(spec)
    if spec.temporal_position:
        num_frames = len(state["position.table"]) * spec.stem_stride_t
    return replace(spec, num_frames=num_frames or _FRAMES)


def _sizes(state: Mapping[str, Tensor], block_norm: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Width and depth of each stage."""
    widths: dict[int, int] = {}
    depths: dict[int, int] = {}
    for key, tensor in state.items():
        if match := re.fullmatch(block_norm, key):
            stage = int(match[1])
            widths[stage] = tensor.shape[0]
            depths[stage] = depths.get(stage, 0) + 1
    return tuple(widths[s] for s in sorted(widths)), tuple(depths[s] for s in sorted(depths))


def _time(state: Mapping[str, Tensor], stem: str, depthwise: str) -> dict[str, Any]:
    """What the tensors tell of how their model sees time."""
    kernel = state[stem].shape[2] if state[stem].ndim == 5 else 1
    return {
        "stem_kernel_t": kernel,
        "depthwise_time": depthwise_time(state, depthwise),
        "temporal_position": "position.table" in state,
    }


def depthwise_time(state: Mapping[str, Tensor], key: str) -> str:
    """How the depthwise convolution `key` sees time."""
    if f"{key}.taps" in state:
        return "taps"
    return "full" if state[f"{key}.weight"].ndim == 5 else "none"


def with_frames(spec: Any, num_frames: int, inflation: Inflation) -> Any:
    """`spec` for clips of `num_frames`: an image model inflated, a video model for one frame an image model."""
    if num_frames == spec.num_frames:
        return spec
    if num_frames == 1:
        return image_mode(spec)
    if spec != image_mode(spec):
        return replace(spec, num_frames=num_frames)
    return replace(
        spec,
        num_frames=num_frames,
        stem_kernel_t=3,
        stem_stride_t=2,
        depthwise_time="taps",
        temporal_padding=inflation.time_padding,
    )


def describe(spec: Any) -> dict[str, Any]:
    """What a model's tensors tell of it, for messages."""
    described = {
        "classes": spec.num_classes,
        "widths": spec.widths,
        "depths": spec.depths,
        "stem kernel in time": spec.stem_kernel_t,
        "depthwise convolutions along time": spec.depthwise_time,
        "temporal positions": spec.num_steps if spec.temporal_position else "none",
    }
    for name in ("aux_head", "relative_time"):
        if hasattr(spec, name):
            described[name.replace("_", " ")] = getattr(spec, name)
    return described


def identity_taps(taps: Tensor) -> Tensor:
    """Taps (C, 1, 3, 1) that leave every frame as it is."""
    taps = torch.zeros_like(taps)
    taps[:, :, 1] = 1
    return taps


def resize_positions(table: Tensor, target: Tensor, spec: Any) -> Tensor:
    """(T, C) -> (T', C)."""
    return resize_length(table, target.shape[0])


def complete_batch_norms(state: State, spec: Any) -> tuple[State, set[str]]:
    """Adds the counters of BatchNorms, which play no part in the output and which some files leave out."""
    counters = {
        key.replace("running_mean", "num_batches_tracked"): torch.zeros((), dtype=torch.int64)
        for key in state
        if key.endswith("running_mean")
    }
    return counters | state, set()
