"""An MViT's spec and tensors at another clip length or frame size, between images and video."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from mvit_video.models.mvit_spec import MViTSpec
from mvit_video.weights.dialect import State
from mvit_video.weights.inflate import Inflation
from mvit_video.weights.resize import resize_length, resize_plane, square_side


def with_frames(spec: MViTSpec, num_frames: int, inflation: Inflation) -> MViTSpec:
    """`spec` for clips of `num_frames`.

    An image model becomes a video model with the usual stem (kernel 3, stride 2 in time) and pools three
    frames deep; its key and value strides stay, without which a clip that stands still would not give
    what its frame gave. For one frame a video model becomes an image model.
    """
    if num_frames == spec.num_frames:
        return spec
    if spec.patch_stride[0] == 1 and spec.num_frames == 1:
        return replace(
            spec,
            num_frames=num_frames,
            patch_kernel=(3, *spec.patch_kernel[1:]),
            patch_stride=(2, *spec.patch_stride[1:]),
            patch_padding=(1, *spec.patch_padding[1:]),
            pool_kernel=spec.pool_kernel and (3, *spec.pool_kernel[1:]),
            separable_positions=spec.absolute_positions,
            relative_positions_time=spec.relative_positions_space,
            temporal_padding=inflation.time_padding,
        )
    if num_frames == 1:
        return replace(
            spec,
            num_frames=1,
            patch_kernel=(1, *spec.patch_kernel[1:]),
            patch_stride=(1, *spec.patch_stride[1:]),
            patch_padding=(0, *spec.patch_padding[1:]),
            pool_kernel=spec.pool_kernel and (1, *spec.pool_kernel[1:]),
            separable_positions=False,
            relative_positions_time=False,
        )
    return replace(spec, num_frames=num_frames)


def describe(spec: MViTSpec) -> dict[str, Any]:
    """What an MViT's tensors tell of it."""
    blocks = spec.blocks
    convolve = spec.pool_mode.startswith("conv")
    tells_heads = convolve and any(b.pool_q or b.pool_kv for b in blocks)
    axes = zip(
        ("time", "space"),
        (spec.relative_positions_time, spec.relative_positions_space),
        strict=True,
    )
    described = {
        "classes": spec.num_classes,
        "stem kernel": spec.patch_kernel,
        "depth": spec.depth,
        "widths": _runs(b.dim_out for b in blocks),
        "attention widths": _runs(b.attention_dim for b in blocks),
        "MLP ratio": spec.mlp_ratio,
        "bias of queries, keys and values": spec.qkv_bias,
        "class token": spec.class_token,
        "absolute positions": _absolute(spec),
        "relative positions": " and ".join(name for name, there in axes if there) or "none",
        "norm of the stem": spec.norm_stem,
        "query pools": _runs(convolve and b.pool_q and b.pool_q.kernel for b in blocks),
        "key and value pools": _runs(convolve and b.pool_kv and b.pool_kv.kernel for b in blocks),
    }
    if spec.absolute_positions or spec.relative_positions_space:
        described["frame size"] = spec.crop_size
    if spec.absolute_positions or spec.relative_positions_time:
        described["frames"] = spec.num_frames
    if tells_heads or spec.relative_positions_space:
        described["heads"] = _runs(b.num_heads for b in blocks)
    return described


def _absolute(spec: MViTSpec) -> str:
    if not spec.absolute_positions:
        return "none"
    return "space and time apart" if spec.separable_positions else "one table"


def _runs(values: Iterable[Any]) -> str:
    """96, 96, 192 -> "96 x2, 192 x1"."""
    return ", ".join(f"{value or 'none'} x{len(list(run))}" for value, run in groupby(values))


def reconcile(state: State, spec: MViTSpec) -> tuple[State, set[str]]:
    """Projections fused or apart, positions joint or apart, as the model of `spec` has them."""
    state = _projections(state, apart=spec.separate_qkv or spec.pool_first)
    if not spec.absolute_positions:
        return state, set()
    if spec.separable_positions and "pos_embed" in state:
        return _apart(state, spec), set()
    if not spec.separable_positions and "pos_embed_spatial" in state:
        return _joint(state, spec), {"pos_embed"}
    return state, set()


def _projections(state: State, apart: bool) -> State:
    out = dict(state)
    for key in state:
        match = re.fullmatch(r"(.*\.attn)\.(qkv|q)\.(weight|bias)", key)
        if match is None:
            continue
        attention, name, kind = match.groups()
        parts = [f"{attention}.{part}.{kind}" for part in "qkv"]
        if apart and name == "qkv":
            out |= dict(zip(parts, out.pop(key).chunk(3), strict=True))
        elif not apart and name == "q" and all(part in state for part in parts):
            out[f"{attention}.qkv.{kind}"] = torch.cat([out.pop(part) for part in parts])
    return out


def _apart(state: State, spec: MViTSpec) -> State:
    """An image's table as the spatial table of a video model; its temporal one begins at zero."""
    state = dict(state)
    joint, extra = state.pop("pos_embed"), int(spec.class_token)
    state["pos_embed_spatial"] = joint[:, extra:]
    if extra:
        state["pos_embed_class"] = joint[:, :1]
    return state


def _joint(state: State, spec: MViTSpec) -> State:
    """Space plus time as one table; a one-frame model gets the mean over time."""
    state = dict(state)
    t, h, w = spec.grid
    space, time = state.pop("pos_embed_spatial"), state.pop("pos_embed_temporal")
    if space.shape[1] != h * w:
        space = resize_spatial(space, space, spec)
    if t == 1:
        time = time.mean(dim=1, keepdim=True)
    elif time.shape[1] != t:
        time = resize_length(time[0], t)[None]
    table = (time[:, :, None] + space[:, None]).flatten(1, 2)
    if spec.class_token:
        table = torch.cat((state.pop("pos_embed_class"), table), dim=1)
    state["pos_embed"] = table
    return state


def resize_relative(table: Tensor, target: Tensor, spec: MViTSpec) -> Tensor:
    """(L, d) -> (L', d)."""
    return resize_length(table, target.shape[0])


def resize_temporal(table: Tensor, target: Tensor, spec: MViTSpec) -> Tensor:
    """(1, T, C) -> (1, T', C)."""
    return resize_length(table[0], target.shape[1])[None]


def resize_spatial(table: Tensor, target: Tensor, spec: MViTSpec) -> Tensor:
    """(1, H * W, C) of a square frame -> the model's grid."""
    side = square_side(table.shape[1], "pos_embed_spatial")
    return resize_plane(table, (side, side), spec.grid[1:])


def resize_joint(table: Tensor, target: Tensor, spec: MViTSpec) -> Tensor:
    """(1, [1 +] T * H * W, C) -> the model's grid: bicubic in space, linear in time.

    The checkpoint's number of time steps is the model's if that leaves a square, else what the model's
    frame size leaves.
    """
    extra, (t, h, w) = int(spec.class_token), spec.grid
    tokens = table[:, extra:]
    count = tokens.shape[1]
    steps = t if count % t == 0 and int((count // t) ** 0.5) ** 2 * t == count else count // (h * w)
    side = square_side(count // max(steps, 1), "pos_embed")
    planes = tokens[0].unflatten(0, (steps, side * side))
    planes = torch.cat([resize_plane(plane[None], (side, side), (h, w)) for plane in planes])
    over_time = resize_length(planes.flatten(1), t).unflatten(1, (h * w, -1)).flatten(0, 1)
    return torch.cat((table[:, :extra], over_time[None]), dim=1)
