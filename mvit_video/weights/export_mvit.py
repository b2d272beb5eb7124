"""Our MViTs in other people's formats."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import yaml
from torch import Tensor, nn

from mvit_video.errors import InputError
from mvit_video.models.mvit_spec import MViTSpec
from mvit_video.weights.adapt_mvit import reconcile
from mvit_video.weights.dialect import Rule, State, translate


def to_slowfast(model: nn.Module) -> dict[str, Any]:
    """What SlowFast's checkpoint loader takes: `model_state`, and the config of the model as `cfg` where
    SlowFast has words for it (it has none for blocks whose keys alone are not pooled).

    Raises:
        InputError: SlowFast has no such model.
    """
    spec: MViTSpec = model.spec
    if spec.temporal_padding != "zero":
        raise InputError("SlowFast pads time with zeros; this model repeats the border frame")
    state = dict(model.state_dict())
    if _is_image(spec):
        state["patch_embed.proj.weight"] = state["patch_embed.proj.weight"][:, :, 0]
    exported: dict[str, Any] = {"model_state": _contiguous(state)}
    return exported if spec.unpooled_kv else exported | {"cfg": slowfast_config(spec)}


def to_torchvision(model: nn.Module, rules: tuple[Rule, ...]) -> State:
    """A state dict for torchvision's MViT, by the table `rules`.

    Raises:
        InputError: torchvision has no such model.
    """
    spec: MViTSpec = model.spec
    wants = {
        "a class token": spec.class_token,
        "frames in time": not _is_image(spec),
        "projections before the pools": not spec.pool_first,
        "convolutional pools": spec.pool_mode == "conv",
        "positions in space and time apart": spec.separable_positions
        or not spec.absolute_positions,
        "zeros beyond the clip": spec.temporal_padding == "zero",
        "the class token at the head": not spec.mean_pooling,
    }
    if absent := [what for what, there in wants.items() if not there]:
        raise InputError(f"torchvision's MViT has {', '.join(absent)}; this model has not")
    state, _ = reconcile(dict(model.state_dict()), replace(spec, separate_qkv=False))
    exported = translate(state, rules, "the model")
    if exported.unknown:
        raise InputError(f"torchvision's MViT has no place for {', '.join(exported.unknown)}")
    return _contiguous(exported.state)


def slowfast_config(spec: MViTSpec) -> str:
    """The YAML of the model's part of a SlowFast config."""
    pads = spec.patch_kernel, spec.patch_stride, spec.patch_padding
    kernel, stride, padding = (list(size[1:] if _is_image(spec) else size) for size in pads)
    mvit = {
        "MODE": spec.pool_mode,
        "POOL_FIRST": spec.pool_first,
        "CLS_EMBED_ON": spec.class_token,
        "PATCH_2D": _is_image(spec),
        "PATCH_KERNEL": kernel,
        "PATCH_STRIDE": stride,
        "PATCH_PADDING": padding,
        "EMBED_DIM": spec.embed_dim,
        "NUM_HEADS": spec.num_heads,
        "MLP_RATIO": spec.mlp_ratio,
        "QKV_BIAS": spec.qkv_bias,
        "DROPPATH_RATE": spec.drop_path_rate,
        "DEPTH": spec.depth,
        "NORM": "layernorm",
        "DIM_MUL": _lists(spec.dim_mul),
        "HEAD_MUL": _lists(spec.head_mul),
        "POOL_KV_STRIDE": _lists(spec.pool_kv_stride),
        "POOL_KV_STRIDE_ADAPTIVE": list(spec.pool_kv_stride_adaptive or ()) or None,
        "POOL_Q_STRIDE": _lists(spec.pool_q_stride),
        "POOL_KVQ_KERNEL": list(spec.pool_kernel or ()) or None,
        "NORM_STEM": spec.norm_stem,
        "SEP_POS_EMBED": spec.separable_positions,
        "DROPOUT_RATE": spec.block_dropout_rate,
        "USE_ABS_POS": spec.absolute_positions,
        "REL_POS_SPATIAL": spec.relative_positions_space,
        "REL_POS_TEMPORAL": spec.relative_positions_time,
        "REL_POS_ZERO_INIT": spec.relative_positions_zero_init,
        "RESIDUAL_POOLING": spec.residual_pooling,
        "DIM_MUL_IN_ATT": spec.dim_mul_in_attention,
        "SEPARATE_QKV": spec.separate_qkv,
        "HEAD_INIT_SCALE": spec.head_init_scale,
        "USE_MEAN_POOLING": spec.mean_pooling,
    }
    data = {
        "NUM_FRAMES": spec.num_frames,
        "TRAIN_CROP_SIZE": spec.crop_size,
        "TEST_CROP_SIZE": spec.crop_size,
        "INPUT_CHANNEL_NUM": [spec.in_channels],
    }
    model = {
        "ARCH": "mvit",
        "MODEL_NAME": "MViT",
        "NUM_CLASSES": spec.num_classes,
        "DROPOUT_RATE": spec.dropout_rate,
    }
    return yaml.safe_dump({"DATA": data, "MODEL": model, "MVIT": mvit}, default_flow_style=None)


def _is_image(spec: MViTSpec) -> bool:
    return spec.num_frames == 1 and spec.patch_kernel[0] == 1


def _lists(entries: tuple[tuple[Any, ...], ...]) -> list[list[Any]]:
    return [list(entry) for entry in entries]


def _contiguous(state: dict[str, Tensor]) -> State:
    return {key: tensor.contiguous() for key, tensor in state.items()}
