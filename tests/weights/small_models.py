"""Models of the published kinds, small enough to run in a moment, and weights for them."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from mvit_video.models.mvit import MViT
from mvit_video.models.mvit_spec import MViTSpec
from tests.weights.seeded import seeded_input, seeded_state_dict

V1 = MViTSpec(
    num_classes=5,
    num_frames=8,
    crop_size=64,
    embed_dim=8,
    depth=4,
    dim_mul=((1, 2.0), (3, 2.0)),
    head_mul=((1, 2.0), (3, 2.0)),
    pool_q_stride=((1, 1, 2, 2), (3, 1, 2, 2)),
    pool_kv_stride_adaptive=(1, 8, 8),
    pool_kernel=(3, 3, 3),
    separable_positions=True,
)
V2 = replace(
    V1,
    dim_mul_in_attention=True,
    pool_q_stride=((0, 1, 1, 1), (1, 1, 2, 2), (2, 1, 1, 1), (3, 1, 2, 2)),
    residual_pooling=True,
    absolute_positions=False,
    separable_positions=False,
    relative_positions_space=True,
    relative_positions_time=True,
)
MASKFEAT = replace(V2, dim_mul_in_attention=False, mean_pooling=True)
VIT = MViTSpec(
    num_classes=5,
    num_frames=4,
    crop_size=64,
    embed_dim=128,
    num_heads=2,
    depth=2,
    patch_kernel=(2, 16, 16),
    patch_stride=(2, 16, 16),
    patch_padding=(0, 0, 0),
    separable_positions=True,
    mean_pooling=True,
)
_IMAGE: dict[str, Any] = {
    "num_frames": 1,
    "patch_kernel": (1, 7, 7),
    "patch_stride": (1, 4, 4),
    "patch_padding": (0, 3, 3),
    "pool_kv_stride_adaptive": (1, 4, 4),
    "pool_kernel": (1, 3, 3),
    "separable_positions": False,
    "relative_positions_time": False,
}
IMAGE_V1 = replace(V1, **_IMAGE)
IMAGE_V2 = replace(V2, **_IMAGE, class_token=False)
ALL = {
    "v1": V1,
    "v2": V2,
    "kernels by stride": replace(V1, pool_kernel=None),
    "maskfeat": MASKFEAT,
    "vit": VIT,
    "image v1": IMAGE_V1,
    "image v2": IMAGE_V2,
    "apart": replace(V1, separate_qkv=True),
}


def weights_of(spec: MViTSpec, seed: int = 0) -> dict[str, Tensor]:
    """Seeded weights under the names SlowFast gives a model of `spec`."""
    with torch.device("meta"):
        keys = [(key, tuple(t.shape)) for key, t in MViT(spec).state_dict().items()]
    return seeded_state_dict(keys, seed)


def as_pytorchvideo(weights: dict[str, Tensor], repeated: bool = True) -> dict[str, Tensor]:
    """Under pytorchvideo's names; `repeated` as its main branch, which registers every pool twice."""
    theirs: dict[str, Tensor] = {}
    for key, tensor in weights.items():
        if ".qkv." in key:
            names = [key.replace(".qkv.", f".{part}.") for part in "qkv"]
            theirs |= dict(zip(names, tensor.chunk(3), strict=True))
            continue
        key = re.sub(r"^patch_embed\.proj", "patch_embed.patch_model", key)
        key = re.sub(r"^(cls_token|pos_embed.*)$", r"cls_positional_encoding.\1", key)
        key = re.sub(r"^norm\.", "norm_embed.", key)
        theirs[key.replace("head.projection", "head.proj")] = tensor
        pool = re.fullmatch(r"(.*\.attn)\.(pool|norm)_([qkv])\.(weight|bias)", key)
        if pool and repeated:
            theirs[f"{pool[1]}._attention_pool_{pool[3]}.{pool[2]}.{pool[4]}"] = tensor
    return theirs


def clip_for(spec: MViTSpec, num_frames: int | None = None) -> Tensor:
    """(2, 3, T, H, W)."""
    return seeded_input((2, 3, num_frames or spec.num_frames, spec.crop_size, spec.crop_size))


def largest_difference(found: Tensor, expected: Tensor) -> float:
    """As a share of the largest expected value."""
    return ((found - expected).abs().max() / expected.abs().max()).item()
