"""pytorchvideo's MViT v1 from our spec, and our weights under its names.

`pytorchvideo.models` imports RoIAlign from torchvision, which neither it nor we declare and MViT
does not use: a stub stands in, for one that is installed need not fit this torch.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from torch import Tensor, nn

from mvit_video.models.mvit_spec import MViTSpec


def build(spec: MViTSpec) -> nn.Module:
    """pytorchvideo's MViT of the sizes of `spec` (v1: no relative positions, no residual pooling).

    Its release 0.1.5 forgets to hand the norm's epsilon on to the attention (1e-5 there instead of the
    1e-6 of SlowFast and of its own later code); that is put right here.
    """
    with _torchvision_stubbed():
        from pytorchvideo.models.vision_transformers import create_multiscale_vision_transformers

    adaptive = spec.pool_kv_stride_adaptive
    model = create_multiscale_vision_transformers(
        spatial_size=spec.crop_size,
        temporal_size=spec.num_frames,
        cls_embed_on=spec.class_token,
        sep_pos_embed=spec.separable_positions,
        depth=spec.depth,
        patch_embed_dim=spec.embed_dim,
        conv_patch_embed_kernel=spec.patch_kernel,
        conv_patch_embed_stride=spec.patch_stride,
        conv_patch_embed_padding=spec.patch_padding,
        num_heads=spec.num_heads,
        mlp_ratio=spec.mlp_ratio,
        qkv_bias=spec.qkv_bias,
        pooling_mode=spec.pool_mode,
        pool_first=spec.pool_first,
        embed_dim_mul=[list(entry) for entry in spec.dim_mul],
        atten_head_mul=[list(entry) for entry in spec.head_mul],
        pool_q_stride_size=[list(entry) for entry in spec.pool_q_stride],
        pool_kv_stride_size=None if adaptive else [list(entry) for entry in spec.pool_kv_stride],
        pool_kv_stride_adaptive=list(adaptive) if adaptive else None,
        pool_kvq_kernel=list(spec.pool_kernel) if spec.pool_kernel else None,
        head_dropout_rate=0.0,
        head_num_classes=spec.num_classes,
    )
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = 1e-6
    return model


def named_as_pytorchvideo(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our state dict under the names of pytorchvideo 0.1.5."""
    renamed = {}
    for name, tensor in weights.items():
        name = re.sub(r"^patch_embed\.proj", "patch_embed.patch_model", name)
        name = re.sub(r"^(cls_token|pos_embed)", r"cls_positional_encoding.\1", name)
        name = re.sub(r"^norm\.", "norm_embed.", name)
        name = re.sub(r"^head\.projection", "head.proj", name)
        if ".attn.qkv." in name:
            for letter, part in zip("qkv", tensor.chunk(3), strict=True):
                renamed[name.replace(".qkv.", f".{letter}.")] = part
        else:
            renamed[name] = tensor
    return renamed


@contextmanager
def _torchvision_stubbed() -> Iterator[None]:
    names, none = ("torchvision", "torchvision.ops"), object()
    root, ops = map(ModuleType, names)
    root.ops, ops.RoIAlign = ops, nn.Identity
    before = {name: sys.modules.get(name, none) for name in names}
    sys.modules.update(zip(names, (root, ops), strict=True))
    try:
        yield
    finally:
        for name, module in before.items():
            if module is none:
                del sys.modules[name]
            else:
                sys.modules[name] = module
