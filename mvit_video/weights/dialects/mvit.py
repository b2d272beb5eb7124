"""How others name MViT's tensors: SlowFast (our own names), torchvision, pytorchvideo.

Facts: SlowFast `video_model_builder.MViT` and facebookresearch/mvit, torchvision
`models/video/mvit.py`, pytorchvideo 0.1.5 and main. The three are numerically one model; only names
differ, and torchvision leaves out leading axes of length 1.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from mvit_video.weights import adapt_mvit, export_mvit
from mvit_video.weights.dialect import Dialect, copy, duplicate, join, reshape
from mvit_video.weights.family import FamilyReader
from mvit_video.weights.infer_mvit import infer_mvit

_P = r"(weight|bias)"
_BLOCK = r"blocks\.(\d+)\."


def _as_token(vector: Tensor) -> Tensor:
    """(C,) -> (1, 1, C)."""
    return vector[None, None]


def _as_table(table: Tensor) -> Tensor:
    """(N, C) -> (1, N, C)."""
    return table[None]


SLOWFAST = Dialect(
    name="slowfast",
    family="MViT",
    markers=(
        r"patch_embed\.proj\.weight",
        r"blocks\.0\.attn\.(qkv|q)\.weight",
        r"blocks\.0\.mlp\.fc1\.weight",
    ),
    rules=(
        copy(rf"(patch_embed\.proj|norm_stem|norm|head\.projection)\.{_P}"),
        copy(r"cls_token|pos_embed|pos_embed_(spatial|temporal|class)"),
        copy(rf"{_BLOCK}(norm1|norm2|proj|mlp\.fc[12])\.{_P}"),
        copy(rf"{_BLOCK}attn\.(qkv|q|k|v|proj|norm_[qkv])\.{_P}"),
        copy(rf"{_BLOCK}attn\.(pool_[qkv]\.weight|rel_pos_[hwt])"),
    ),
)

TORCHVISION = Dialect(
    name="torchvision",
    family="MViT",
    markers=(r"conv_proj\.weight", r"blocks\.0\.attn\.project\.0\.weight"),
    rules=(
        copy(rf"conv_proj\.{_P}", r"patch_embed.proj.\1"),
        reshape(r"pos_encoding\.class_token", "cls_token", _as_token),
        reshape(r"pos_encoding\.class_pos", "pos_embed_class", _as_token),
        reshape(r"pos_encoding\.(spatial|temporal)_pos", r"pos_embed_\1", _as_table),
        copy(rf"{_BLOCK}norm([12])\.{_P}"),
        copy(rf"{_BLOCK}attn\.qkv\.{_P}"),
        copy(rf"{_BLOCK}attn\.rel_pos_([hwt])"),
        copy(rf"{_BLOCK}attn\.project\.0\.{_P}", r"blocks.\1.attn.proj.\2"),
        copy(rf"{_BLOCK}attn\.pool_([qkv])\.pool\.weight", r"blocks.\1.attn.pool_\2.weight"),
        copy(rf"{_BLOCK}attn\.pool_([qkv])\.norm_act\.0\.{_P}", r"blocks.\1.attn.norm_\2.\3"),
        copy(rf"{_BLOCK}mlp\.0\.{_P}", r"blocks.\1.mlp.fc1.\2"),
        copy(rf"{_BLOCK}mlp\.3\.{_P}", r"blocks.\1.mlp.fc2.\2"),
        copy(rf"{_BLOCK}project\.{_P}", r"blocks.\1.proj.\2"),
        copy(rf"norm\.{_P}"),
        copy(rf"head\.1\.{_P}", r"head.projection.\1"),
    ),
)

# pytorchvideo keeps query, key and value apart. Its main branch registers every pool twice.
PYTORCHVIDEO = Dialect(
    name="pytorchvideo",
    family="MViT",
    markers=(
        r"patch_embed\.patch_model\.weight",
        r"cls_positional_encoding\..*",
        r"blocks\.0\.attn\.proj\.weight",
    ),
    rules=(
        copy(rf"patch_embed\.patch_model\.{_P}", r"patch_embed.proj.\1"),
        copy(
            r"cls_positional_encoding\.(cls_token|pos_embed|pos_embed_(?:spatial|temporal|class))",
            r"\1",
        ),
        copy(rf"{_BLOCK}(norm1|norm2|proj|mlp\.fc[12])\.{_P}"),
        join(rf"{_BLOCK}attn\.(?P<part>[qkv])\.{_P}", r"blocks.\1.attn.qkv.\3", ("q", "k", "v")),
        copy(rf"{_BLOCK}attn\.(qkv|proj|norm_[qkv])\.{_P}"),
        copy(rf"{_BLOCK}attn\.pool_([qkv])\.weight"),
        duplicate(
            rf"{_BLOCK}attn\._attention_pool_([qkv])\.pool\.weight",
            r"blocks.\1.attn.pool_\2.weight",
        ),
        duplicate(
            rf"{_BLOCK}attn\._attention_pool_([qkv])\.norm\.{_P}", r"blocks.\1.attn.norm_\2.\3"
        ),
        copy(rf"norm_embed\.{_P}", r"norm.\1"),
        copy(rf"head\.proj\.{_P}", r"head.projection.\1"),
    ),
)

# From our names to torchvision's, whose MViT keeps query, key and value together as we do.
TO_TORCHVISION = (
    copy(rf"patch_embed\.proj\.{_P}", r"conv_proj.\1"),
    reshape(r"cls_token", "pos_encoding.class_token", lambda token: token[0, 0]),
    reshape(r"pos_embed_class", "pos_encoding.class_pos", lambda token: token[0, 0]),
    reshape(r"pos_embed_(spatial|temporal)", r"pos_encoding.\1_pos", lambda table: table[0]),
    copy(rf"{_BLOCK}norm([12])\.{_P}"),
    copy(rf"{_BLOCK}attn\.qkv\.{_P}"),
    copy(rf"{_BLOCK}attn\.rel_pos_([hwt])"),
    copy(rf"{_BLOCK}attn\.proj\.{_P}", r"blocks.\1.attn.project.0.\2"),
    copy(rf"{_BLOCK}attn\.pool_([qkv])\.weight", r"blocks.\1.attn.pool_\2.pool.weight"),
    copy(rf"{_BLOCK}attn\.norm_([qkv])\.{_P}", r"blocks.\1.attn.pool_\2.norm_act.0.\3"),
    copy(rf"{_BLOCK}mlp\.fc1\.{_P}", r"blocks.\1.mlp.0.\2"),
    copy(rf"{_BLOCK}mlp\.fc2\.{_P}", r"blocks.\1.mlp.3.\2"),
    copy(rf"{_BLOCK}proj\.{_P}", r"blocks.\1.project.\2"),
    copy(rf"norm\.{_P}"),
    copy(rf"head\.projection\.{_P}", r"head.1.\1"),
)

READER = FamilyReader(
    name="MViT",
    dialects=(SLOWFAST, TORCHVISION, PYTORCHVIDEO),
    infer=infer_mvit,
    with_frames=adapt_mvit.with_frames,
    describe=adapt_mvit.describe,
    stem="patch_embed.proj.weight",
    head=r"head\.projection\.(weight|bias)",
    tables=(
        (r".*\.rel_pos_[hwt]", adapt_mvit.resize_relative),
        (r"pos_embed_temporal", adapt_mvit.resize_temporal),
        (r"pos_embed_spatial", adapt_mvit.resize_spatial),
        (r"pos_embed", adapt_mvit.resize_joint),
    ),
    begins=((r"pos_embed_temporal|.*\.rel_pos_t", torch.zeros_like),),
    reconcile=adapt_mvit.reconcile,
    exports={
        "slowfast": export_mvit.to_slowfast,
        "torchvision": partial(export_mvit.to_torchvision, rules=TO_TORCHVISION),
    },
)
