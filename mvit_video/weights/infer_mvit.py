"""Which MViT a set of tensors is.

Depth, widths, heads, pools and their kernels, positions, class token, where the width changes and the
number of classes are read from the tensors. What they cannot tell comes from the published family:
queries are pooled by (1, 2, 2) where the heads double; key and value strides start at (1, 8, 8), or
(1, 4, 4) behind an image stem, and are divided by each query stride; relative positions together with
v1's width change are MaskFeat's fine-tuned models (residual pooling, mean pooling); no pools at all is
a ViT; the usual stems have stride 4 in space and 2 in time.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from mvit_video.errors import InputError
from mvit_video.models.mvit_spec import Grid, MViTSpec, PerBlock
from mvit_video.weights.resize import square_side

_CROP = 224  # where no table tells
_VIT_HEAD_WIDTHS = {1280: 80}  # all others 64


@dataclass(frozen=True)
class _Block:
    """What the tensors of one block say."""

    dim: int
    dim_out: int
    attention_dim: int
    hidden: int
    head_width: int | None
    kernel_q: Grid | None
    kernel_kv: Grid | None


def infer_mvit(state: Mapping[str, Tensor], num_frames: int | None = None) -> MViTSpec:
    """The spec of the MViT that `state` (our names) holds.

    Args:
        state: tensors; only their names and shapes are looked at.
        num_frames: clip length, for the one case where no table tells it: a joint table of all positions.

    Raises:
        InputError: a tensor that every MViT has is missing, shapes contradict each other, or the tensors
            fit several models.
    """
    blocks = _read_blocks(state)
    in_attention = _changes_in_attention(blocks)
    heads = _heads(blocks)
    stem = _shape(state, "patch_embed.proj.weight", 4, 5)
    kernel, stride, padding = _stem(stem)
    pools = any(block.kernel_q or block.kernel_kv for block in blocks)
    relative = "blocks.0.attn.rel_pos_h" in state
    # The published image model of that kind (MViTv2-L) normalises, then averages.
    mask_feat = relative and not in_attention and kernel[0] > 1
    size = _clip_size(state, stride, num_frames)
    spec = MViTSpec(
        num_classes=_shape(state, "head.projection.weight", 2)[0],
        num_frames=size[0],
        crop_size=size[1],
        in_channels=stem[1],
        patch_kernel=kernel,
        patch_stride=stride,
        patch_padding=padding,
        embed_dim=stem[0],
        num_heads=heads[0],
        depth=len(blocks),
        mlp_ratio=blocks[0].hidden / blocks[0].attention_dim,
        qkv_bias=any(f"blocks.0.attn.{name}.bias" in state for name in ("qkv", "q")),
        separate_qkv="blocks.0.attn.q.weight" in state,
        dim_mul=_factors([block.dim for block in blocks] + [blocks[-1].dim_out], in_attention),
        head_mul=_factors([heads[0], *heads], True),
        dim_mul_in_attention=in_attention,
        pool_q_stride=_query_strides(blocks, heads),
        pool_kv_stride_adaptive=_first_key_stride(blocks, kernel),
        pool_kernel=_common_kernel(blocks),
        residual_pooling=relative,
        class_token="cls_token" in state,
        absolute_positions=any(key.startswith("pos_embed") for key in state),
        separable_positions="pos_embed_spatial" in state,
        relative_positions_space=relative,
        relative_positions_time="blocks.0.attn.rel_pos_t" in state,
        norm_stem="norm_stem.weight" in state,
        mean_pooling=mask_feat or not pools,
    )
    spec = _with_key_strides(spec, state)
    without = [
        index
        for index, (block, made) in enumerate(zip(blocks, spec.blocks, strict=True))
        if made.pool_kv and not block.kernel_kv
    ]
    return replace(spec, unpooled_kv=tuple(without))


def _with_key_strides(spec: MViTSpec, state: Mapping[str, Tensor]) -> MViTSpec:
    """An inflated image model keeps its (1, 4, 4); the lengths of its relative tables then tell."""
    other = {(1, 8, 8): (1, 4, 4), (1, 4, 4): (1, 8, 8)}.get(spec.pool_kv_stride_adaptive)
    if other and spec.relative_positions_space and not _tables_fit(spec, state):
        changed = replace(spec, pool_kv_stride_adaptive=other)
        return changed if _tables_fit(changed, state) else spec
    return spec


def _tables_fit(spec: MViTSpec, state: Mapping[str, Tensor]) -> bool:
    return all(
        _shape(state, f"blocks.{index}.attn.rel_pos_h", 2)[0] == block.relative_rows[1]
        for index, block in enumerate(spec.blocks)
    )


def _shape(state: Mapping[str, Tensor], key: str, *num_axes: int) -> tuple[int, ...]:
    """Shape of a tensor that must be there, with one of these numbers of axes."""
    if key not in state:
        raise InputError(f"the tensor {key} is missing, without which this is no MViT")
    shape = tuple(state[key].shape)
    if len(shape) not in num_axes or 0 in shape:
        axes = " or ".join(map(str, num_axes))
        raise InputError(
            f"the tensor {key} has the shape {shape}; it takes {axes} axes, none of length 0"
        )
    return shape


def _read_blocks(state: Mapping[str, Tensor]) -> list[_Block]:
    found = {int(match[1]) for key in state if (match := re.match(r"blocks\.(\d+)\.", key))}
    absent = sorted(set(range(max(found, default=0) + 1)) - found)
    if absent:
        raise InputError(
            f"the blocks end at {max(found, default=0)}, but block {absent[0]} is missing"
        )
    blocks = [_read_block(state, f"blocks.{index}") for index in sorted(found)]
    for index, (before, after) in enumerate(itertools.pairwise(blocks)):
        if before.dim_out != after.dim:
            raise InputError(
                f"block {index} gives {before.dim_out} channels, block {index + 1} takes {after.dim}"
            )
    return blocks


def _read_block(state: Mapping[str, Tensor], name: str) -> _Block:
    attention_dim, _ = _shape(state, f"{name}.attn.proj.weight", 2)
    dim_out, hidden = _shape(state, f"{name}.mlp.fc2.weight", 2)
    rows = [
        shape[0] if key.startswith("pool") else shape[-1]
        for key in ("pool_q.weight", "pool_k.weight", "pool_v.weight", "rel_pos_h", "rel_pos_t")
        if (shape := _shape_or_none(state, f"{name}.attn.{key}", 2 if key.startswith("rel") else 5))
    ]
    if len(set(rows)) > 1:
        raise InputError(
            f"pools and tables of {name} disagree on the width of a head: {sorted(set(rows))}"
        )
    return _Block(
        dim=_shape(state, f"{name}.norm1.weight", 1)[0],
        dim_out=dim_out,
        attention_dim=attention_dim,
        hidden=hidden,
        head_width=rows[0] if rows else None,
        kernel_q=_kernel(state, f"{name}.attn.pool_q.weight"),
        kernel_kv=_kernel(state, f"{name}.attn.pool_k.weight"),
    )


def _shape_or_none(state: Mapping[str, Tensor], key: str, num_axes: int) -> tuple[int, ...] | None:
    return _shape(state, key, num_axes) if key in state else None


def _kernel(state: Mapping[str, Tensor], key: str) -> Grid | None:
    shape = _shape_or_none(state, key, 5)
    return shape and shape[2:]


def _heads(blocks: list[_Block]) -> list[int]:
    """Heads of each block. A head is equally wide all through, so one pool or table tells it for all."""
    width = next((block.head_width for block in blocks if block.head_width), None)
    if width is None:
        width = _VIT_HEAD_WIDTHS.get(blocks[0].attention_dim, 64)
    for index, block in enumerate(blocks):
        if block.attention_dim % width or block.head_width not in (None, width):
            raise InputError(
                f"block {index}: heads {block.head_width or width} wide where the first are {width} wide and "
                f"the attention {block.attention_dim}; its heads are not told by tensors, give the config"
            )
    return [block.attention_dim // width for block in blocks]


def _stem(shape: tuple[int, ...]) -> tuple[Grid, Grid, Grid]:
    """Kernel, stride, padding of the published stems by their kernel."""
    kernel = (1,) * (5 - len(shape)) + shape[2:]
    if kernel[1:] == (7, 7) and kernel[0] in (1, 3):
        return (kernel, (2, 4, 4), (1, 3, 3)) if kernel[0] == 3 else (kernel, (1, 4, 4), (0, 3, 3))
    if kernel[1:] == (16, 16):
        return kernel, kernel, (0, 0, 0)
    raise InputError(
        f"the first convolution's kernel is {kernel}, which no published MViT has, so that its stride is not known; "
        "give the model's config"
    )


def _changes_in_attention(blocks: list[_Block]) -> bool:
    in_attention = [i for i, block in enumerate(blocks) if block.attention_dim != block.dim]
    in_mlp = [i for i, block in enumerate(blocks) if block.dim_out != block.attention_dim]
    if in_attention and in_mlp:
        raise InputError(
            f"the width changes in the attention of block {in_attention[0]} and in the MLP of block {in_mlp[0]}; "
            "an MViT does one or the other"
        )
    if (in_attention or in_mlp) and not any(block.kernel_q for block in blocks):
        raise InputError(
            "the width changes, yet no query pool has weights: a model that pools by maximum or average, or Hiera. The "
            "tensors do not tell its strides; give its config"
        )
    return bool(in_attention)


def _factors(sizes: list[int], at_the_change: bool) -> PerBlock:
    """(block, factor) wherever a size differs from the one before.

    `sizes` has the size before the first block and after each. v1's list names the block that begins
    with the new width, whose change its predecessor's MLP makes: one further.
    """
    shift = 0 if at_the_change else 1
    return tuple(
        (index + shift, after / before)
        for index, (before, after) in enumerate(itertools.pairwise(sizes))
        if after != before
    )


def _query_strides(blocks: list[_Block], heads: list[int]) -> PerBlock:
    return tuple(
        (index, 1, 2, 2) if index and heads[index] > heads[index - 1] else (index, 1, 1, 1)
        for index, block in enumerate(blocks)
        if block.kernel_q
    )


def _common_kernel(blocks: list[_Block]) -> Grid | None:
    """The kernel of all pools; None where they differ, for then each is its stride + 1."""
    kernels = {kernel for block in blocks for kernel in (block.kernel_q, block.kernel_kv) if kernel}
    return kernels.pop() if len(kernels) == 1 else None


def _first_key_stride(blocks: list[_Block], stem_kernel: Grid) -> Grid | None:
    first = blocks[0].kernel_kv
    if not any(block.kernel_kv for block in blocks):
        return None
    if first and _common_kernel(blocks) is None:
        return tuple(max(extent - 1, 1) for extent in first)
    return (1, 8, 8) if stem_kernel[0] > 1 else (1, 4, 4)


def _clip_size(
    state: Mapping[str, Tensor], stride: Grid, num_frames: int | None
) -> tuple[int, int]:
    """(frames, pixels) the position tables are made for; where there are none, what was asked for and 224."""
    steps = 1 if stride[0] == 1 else None
    side = None
    if "pos_embed_spatial" in state:
        side = square_side(_shape(state, "pos_embed_spatial", 3)[1], "pos_embed_spatial")
        steps = _shape(state, "pos_embed_temporal", 3)[1]
    elif "blocks.0.attn.rel_pos_h" in state:
        side = _extent(state, "h")
        if side != _extent(state, "w"):
            raise InputError("its relative tables are for frames that are not square")
        if "blocks.0.attn.rel_pos_t" in state:
            steps = _extent(state, "t")
    elif "pos_embed" not in state:
        raise InputError(
            "it has no position tables, without which no MViT was published; give its config"
        )
    steps = steps or (num_frames and max(1, num_frames // stride[0]))
    if "pos_embed" in state:
        tokens = _shape(state, "pos_embed", 3)[1] - ("cls_token" in state)
        steps = steps or tokens // (_CROP // stride[1]) ** 2
        side = square_side(tokens // max(steps, 1), f"pos_embed over {steps} time steps")
    if not steps:
        raise InputError("no table tells the clip length of this video model; say num_frames")
    return steps * stride[0], (side or _CROP // stride[1]) * stride[1]


def _extent(state: Mapping[str, Tensor], axis: str) -> int:
    """Extent of the grid that the first block's relative table along an axis is for."""
    key = f"blocks.0.attn.rel_pos_{axis}"
    rows = _shape(state, key, 2)[0]
    if rows % 2 == 0:
        raise InputError(f"{key} has {rows} rows; a relative table has an odd number")
    return (rows + 1) // 2
