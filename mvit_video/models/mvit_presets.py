"""The published MViTs.

Sizes from the configs of facebookresearch/SlowFast (Kinetics, ImageNet, masked_ssl) and the papers: MViT
(arXiv 2104.11227), MViTv2 (arXiv 2112.01526), MaskFeat (arXiv 2112.09133), MAE for video (arXiv
2205.09113). SSv2 models differ in their class count and drop path alone.
"""

from __future__ import annotations

from typing import Any

from mvit_video.models.mvit_spec import MViTSpec


def _v1(*starts: int, **changes: Any) -> MViTSpec:
    """MViTv1-B, whose width, heads and q stride change at the blocks `starts`."""
    doubled = tuple((block, 2.0) for block in starts)
    settings = {
        "dim_mul": doubled,
        "head_mul": doubled,
        "pool_q_stride": tuple((block, 1, 2, 2) for block in starts),
        "pool_kv_stride_adaptive": (1, 8, 8),
        "pool_kernel": (3, 3, 3),
        "separable_positions": True,
        "drop_path_rate": 0.2,
        "dropout_rate": 0.5,
    }
    return MViTSpec(**settings | changes)


def _v2(*starts: int, depth: int, **changes: Any) -> MViTSpec:
    """MViTv2: q pooled in every block, relative positions, residual pooling, width changed in the attention."""
    settings = {
        "depth": depth,
        "pool_q_stride": tuple((i, 1, 2, 2) if i in starts else (i, 1, 1, 1) for i in range(depth)),
        "dim_mul_in_attention": True,
        "residual_pooling": True,
        "absolute_positions": False,
        "separable_positions": False,
        "relative_positions_space": True,
        "relative_positions_time": True,
    }
    return _v1(*starts, **settings | changes)


_LARGE = {"embed_dim": 144, "num_heads": 2}
_IMAGE = {
    "num_classes": 1000,
    "num_frames": 1,
    "patch_kernel": (1, 7, 7),
    "patch_stride": (1, 4, 4),
    "patch_padding": (0, 3, 3),
    "pool_kv_stride_adaptive": (1, 4, 4),
    "pool_kernel": (1, 3, 3),
    "separable_positions": False,
    "drop_path_rate": 0.1,
    "dropout_rate": 0.0,
}
_IMAGE_V2 = _IMAGE | {"relative_positions_time": False, "class_token": False}
_MASKFEAT = {
    "dim_mul_in_attention": False,
    "mean_pooling": True,
    "head_init_scale": 0.001,
    "drop_path_rate": 0.1,
}
_VIT = {
    "patch_kernel": (2, 16, 16),
    "patch_stride": (2, 16, 16),
    "patch_padding": (0, 0, 0),
    "separable_positions": True,
    "mean_pooling": True,
    "head_init_scale": 0.001,
}

PRESETS: dict[str, MViTSpec] = {
    "MVIT_B_16x4": _v1(1, 3, 14),
    "MVIT_B_32x3": _v1(1, 3, 14, num_frames=32),
    "MVIT_B_64x3": _v1(1, 3, 14, num_frames=64),
    "MVIT_B24_32x3": _v1(2, 5, 21, depth=24, num_frames=32, pool_kernel=None, drop_path_rate=0.3),
    "MVITv2_S_16x4": _v2(1, 3, 14, depth=16),
    "MVITv2_B_32x3": _v2(2, 5, 21, depth=24, num_frames=32, drop_path_rate=0.3),
    "MVITv2_L_40x3": _v2(
        2, 8, 44, depth=48, num_frames=40, crop_size=312, drop_path_rate=0.75, **_LARGE
    ),
    "MASKFEAT_S_16x4": _v2(1, 3, 14, depth=16, **_MASKFEAT),
    "MASKFEAT_L_16x4": _v2(2, 8, 44, depth=48, **_MASKFEAT | _LARGE | {"drop_path_rate": 0.2}),
    "VIT_B_16x4": MViTSpec(embed_dim=768, num_heads=12, depth=12, **_VIT),
    "VIT_L_16x4": MViTSpec(embed_dim=1024, num_heads=16, depth=24, **_VIT),
    "VIT_H_16x4": MViTSpec(embed_dim=1280, num_heads=16, depth=32, **_VIT),
    "IN1K_MVIT_B": _v1(1, 3, 14, **_IMAGE),
    "IN1K_MVITv2_T": _v2(1, 3, 8, depth=10, **_IMAGE_V2),
    "IN1K_MVITv2_S": _v2(1, 3, 14, depth=16, **_IMAGE_V2),
    "IN1K_MVITv2_B": _v2(2, 5, 21, depth=24, **_IMAGE_V2 | {"drop_path_rate": 0.3}),
    # The published L changes its width in the MLP: 218 M parameters.
    "IN1K_MVITv2_L": _v2(
        2, 8, 44, depth=48, **_IMAGE_V2 | _LARGE | {"dim_mul_in_attention": False}
    ),
}
