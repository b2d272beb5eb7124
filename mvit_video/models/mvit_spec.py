"""What an MViT is made of: a frozen spec that expands into one spec per block, and the published
ones.

Sources: MViT (arXiv 2104.11227), MViTv2 (arXiv 2112.01526), MaskFeat (arXiv 2112.09133), MAE (arXiv
2111.06377), and the configs of facebookresearch/SlowFast, whose key names `spec_from_config` reads.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from mvit_video.errors import InputError
from mvit_video.layers.temporal import TemporalPadding

Grid = tuple[int, int, int]
PerBlock = tuple[tuple[Any, ...], ...]  # entries (block, ...)

POOL_MODES = ("conv", "conv_unshared", "max", "avg")


@dataclass(frozen=True)
class PoolSpec:
    """One pooling operator: kernel and stride along T, H, W. Padding is half the kernel."""

    kernel: Grid
    stride: Grid


@dataclass(frozen=True)
class BlockSpec:
    """One block, everything worked out.

    Attributes:
        dim, dim_out: width going in and coming out.
        attention_dim: width inside the attention; dim_out in v2, dim in v1, whose MLP changes the
        width.
        thw: the grid of the block's input at the spec's own clip size, rounded down as SlowFast
        does. pool_q, pool_kv: None where nothing is pooled.
        relative_rows: rows of the relative position tables along T, H, W; 0 for none.
        stage: blocks at one scale share a stage.
    """

    dim: int
    dim_out: int
    attention_dim: int
    num_heads: int
    thw: Grid
    pool_q: PoolSpec | None
    pool_kv: PoolSpec | None
    relative_rows: Grid
    drop_path_rate: float
    stage: int

    @property
    def pools_grid(self) -> bool:
        """Whether the block's output grid is coarser than its input's."""
        return self.pool_q is not None and math.prod(self.pool_q.stride) > 1


@dataclass(frozen=True)
class MViTSpec:
    """An MViT: plain data, checked when it is made. Entries of the PerBlock fields start with a
    block's number, from 0.

    Attributes:
        num_frames, crop_size: clip the position tables are made for; other sizes interpolate them.
        patch_kernel, patch_stride, patch_padding: of the cube embedding, along T, H, W.
        dim_mul, head_mul: (block, factor) where width and heads change.
        dim_mul_in_attention: the width changes in the block's own attention (v2), not in the MLP of
        the block before (v1).
        pool_mode: "conv" shares its filters over heads; "conv_unshared" does not and needs
        pool_first; "max"; "avg".
        pool_first: pool the block's input, then project it to q, k and v.
        pool_q_stride: (block, t, h, w); blocks that are not listed do not pool q.
        pool_kv_stride: (block, t, h, w), or
        pool_kv_stride_adaptive: stride of the first block, divided by each q stride on the way.
        pool_kernel: kernel of all pools; None: stride + 1 along axes with a stride above 1, else 1.
        unpooled_kv: blocks without k and v pools all the same (the first published MVIT_B_16x4
        weights: 14 and 15).
        temporal_padding: what the cube embedding and convolutional pools read before and after the
        clip: "zero", or "replicate" (the border frame again).
        separate_qkv: three projections instead of one.
        residual_pooling: add the pooled q to the attention's output (v2).
        separable_positions: absolute positions as space plus time; else one table for all tokens.
        mean_pooling: the head reads the normalised mean of the grid tokens, with or without a class
        token.
        block_dropout_rate: dropout after positions and linear layers; dropout_rate: before the
        head.
        drop_path_rate: stochastic depth of the last block, growing linearly from 0 at the first.
    """

    num_classes: int = 400
    num_frames: int = 16
    crop_size: int = 224
    in_channels: int = 3
    patch_kernel: Grid = (3, 7, 7)
    patch_stride: Grid = (2, 4, 4)
    patch_padding: Grid = (1, 3, 3)
    embed_dim: int = 96
    num_heads: int = 1
    depth: int = 16
    mlp_ratio: float = 4.0
    qkv_bias: bool = True
    separate_qkv: bool = False
    dim_mul: PerBlock = ()
    head_mul: PerBlock = ()
    dim_mul_in_attention: bool = False
    pool_mode: str = "conv"
    pool_first: bool = False
    pool_q_stride: PerBlock = ()
    pool_kv_stride: PerBlock = ()
    pool_kv_stride_adaptive: Grid | None = None
    pool_kernel: Grid | None = None
    unpooled_kv: tuple[int, ...] = ()
    temporal_padding: TemporalPadding = "zero"
    residual_pooling: bool = False
    class_token: bool = True
    absolute_positions: bool = True
    separable_positions: bool = False
    relative_positions_space: bool = False
    relative_positions_time: bool = False
    relative_positions_zero_init: bool = False
    norm_stem: bool = False
    mean_pooling: bool = False
    block_dropout_rate: float = 0.0
    drop_path_rate: float = 0.0
    dropout_rate: float = 0.0
    head_init_scale: float = 1.0
    blocks: tuple[BlockSpec, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._check()
        object.__setattr__(self, "blocks", tuple(_expand(self)))

    @property
    def grid(self) -> Grid:
        """Tokens along T, H, W after the cube embedding, at the spec's own clip size."""
        size = (self.num_frames, self.crop_size, self.crop_size)
        return tuple(
            extent // stride for extent, stride in zip(size, self.patch_stride, strict=True)
        )

    @property
    def dim_out(self) -> int:
        """Width of the tokens that the head reads."""
        return self.blocks[-1].dim_out

    def _check(self) -> None:
        if min(self.grid) < 1:
            raise InputError(
                f"a clip of {self.num_frames} frames of {self.crop_size} pixels gives an empty token"
                f" grid {self.grid} at patch stride {self.patch_stride}; raise DATA.NUM_FRAMES or"
                " DATA.TRAIN_CROP_SIZE, or lower MVIT.PATCH_STRIDE"
            )
        if self.num_classes < 1 or self.depth < 1:
            raise InputError(
                f"MODEL.NUM_CLASSES is {self.num_classes} and MVIT.DEPTH is {self.depth}; both must be at least 1"
            )
        if self.pool_mode not in POOL_MODES:
            raise InputError(
                f"MVIT.MODE is {self.pool_mode!r}; choose one of {', '.join(POOL_MODES)}"
            )
        if self.temporal_padding not in ("zero", "replicate"):
            raise InputError(
                f"temporal_padding is {self.temporal_padding!r}; choose zero or replicate"
            )
        if self.pool_mode == "conv_unshared" and not self.pool_first:
            raise InputError(
                "MVIT.MODE conv_unshared pools before the heads exist; set MVIT.POOL_FIRST True"
            )
        if self.pool_kv_stride and self.pool_kv_stride_adaptive:
            raise InputError(
                "pool_kv_stride and pool_kv_stride_adaptive are both given; leave one of them empty"
            )
        for key in ("drop_path_rate", "block_dropout_rate", "dropout_rate"):
            if not 0.0 <= getattr(self, key) < 1.0:
                raise InputError(f"{key} is {getattr(self, key)}; a rate lies in 0 <= rate < 1")
        lists = ("dim_mul", "head_mul", "pool_q_stride", "pool_kv_stride")
        for name, entry in [(n, e) for n in lists for e in getattr(self, n)] + [
            ("unpooled_kv", (block,)) for block in self.unpooled_kv
        ]:
            if not 0 <= entry[0] < self.depth:
                raise InputError(
                    f"MVIT.{name.upper()} names block {entry[0]}, but the {self.depth} blocks are 0 to {self.depth - 1}"
                )
            if min(entry[1:], default=1) <= 0:
                raise InputError(
                    f"MVIT.{name.upper()} has {list(entry)}; factors and strides are positive"
                )
        if 0 in dict(self.dim_mul) and not self.dim_mul_in_attention:
            raise InputError(
                "MVIT.DIM_MUL names block 0, which has no block before it to change the width in;"
                " change MVIT.EMBED_DIM instead"
            )


def _expand(spec: MViTSpec) -> Iterable[BlockSpec]:
    """Block after block: width, heads, grid and strides follow from those before."""
    dim_mul, head_mul = dict(spec.dim_mul), dict(spec.head_mul)
    q_strides = {block: tuple(stride) for block, *stride in spec.pool_q_stride}
    kv_strides = {block: tuple(stride) for block, *stride in spec.pool_kv_stride}
    adaptive = spec.pool_kv_stride_adaptive
    dim, heads, thw, stage = spec.embed_dim, spec.num_heads, spec.grid, 0
    for index in range(spec.depth):
        q_stride = q_strides.get(index)
        if adaptive is not None:
            adaptive = _divide(adaptive, q_stride or (1, 1, 1))
        kv_stride = kv_strides.get(index) if adaptive is None else adaptive
        heads = _multiply(heads, head_mul.get(index, 1.0))
        # SlowFast's rule, its double use of the head factor included: the new width fits the heads
        # that will split it.
        change = index if spec.dim_mul_in_attention else index + 1
        divisor = _multiply(heads, head_mul.get(change, 1.0))
        dim_out = _multiply(dim, dim_mul.get(change, 1.0), divisor)
        attention_dim = dim_out if spec.dim_mul_in_attention else dim
        if attention_dim % heads or (spec.pool_first and dim % heads):
            width = attention_dim if attention_dim % heads else dim
            raise InputError(
                f"block {index}: width {width} does not split into {heads} heads; change"
                " MVIT.EMBED_DIM, MVIT.NUM_HEADS, MVIT.DIM_MUL or MVIT.HEAD_MUL"
            )
        q_thw, k_thw = _divide(thw, q_stride or (1, 1, 1)), _divide(thw, kv_stride or (1, 1, 1))
        if q_stride and math.prod(q_stride) > 1:
            stage += 1 if index else 0
        yield BlockSpec(
            dim=dim,
            dim_out=dim_out,
            attention_dim=attention_dim,
            num_heads=heads,
            thw=thw,
            pool_q=_pool(spec, q_stride),
            pool_kv=None if index in spec.unpooled_kv else _pool(spec, kv_stride),
            relative_rows=(
                2 * thw[0] - 1 if spec.relative_positions_time else 0,
                2 * max(q_thw[1], k_thw[1]) - 1 if spec.relative_positions_space else 0,
                2 * max(q_thw[2], k_thw[2]) - 1 if spec.relative_positions_space else 0,
            ),
            drop_path_rate=spec.drop_path_rate * index / max(1, spec.depth - 1),
            stage=stage,
        )
        dim, thw = dim_out, q_thw


def _pool(spec: MViTSpec, stride: Grid | None) -> PoolSpec | None:
    """The pool of this stride; a kernel and a stride of 1 pool nothing."""
    if stride is None:
        return None
    kernel = spec.pool_kernel or tuple(s + 1 if s > 1 else 1 for s in stride)
    if math.prod(kernel) == math.prod(stride) == 1:
        return None
    return PoolSpec(tuple(kernel), tuple(stride))


def _divide(extents: Grid, strides: Grid) -> Grid:
    return tuple(max(e // s, 1) for e, s in zip(extents, strides, strict=True))


def _multiply(width: int, factor: float, divisor: int = 1) -> int:
    """width * factor, rounded to a multiple of `divisor` that is no less than nine tenths of it."""
    wanted = width * factor
    rounded = max(divisor, int(wanted + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * wanted else rounded


def spec_from_config(cfg: Any) -> MViTSpec:
    """The spec that a config (SlowFast's keys) describes."""
    m = cfg.MVIT
    adaptive = tuple(m.POOL_KV_STRIDE_ADAPTIVE) or None
    return MViTSpec(
        num_classes=cfg.MODEL.NUM_CLASSES,
        num_frames=cfg.DATA.NUM_FRAMES,
        crop_size=cfg.DATA.TRAIN_CROP_SIZE,
        in_channels=cfg.DATA.INPUT_CHANNEL_NUM[0],
        patch_kernel=_with_time(m.PATCH_KERNEL, 1),
        patch_stride=_with_time(m.PATCH_STRIDE, 1),
        patch_padding=_with_time(m.PATCH_PADDING, 0),
        embed_dim=m.EMBED_DIM,
        num_heads=m.NUM_HEADS,
        depth=m.DEPTH,
        mlp_ratio=m.MLP_RATIO,
        qkv_bias=m.QKV_BIAS,
        separate_qkv=m.SEPARATE_QKV,
        dim_mul=_per_block(m.DIM_MUL),
        head_mul=_per_block(m.HEAD_MUL),
        dim_mul_in_attention=m.DIM_MUL_IN_ATT,
        pool_mode=m.MODE,
        pool_first=m.POOL_FIRST,
        pool_q_stride=_per_block(m.POOL_Q_STRIDE),
        # SlowFast's saved configs carry both, the adaptive one already expanded into the other.
        pool_kv_stride=() if adaptive else _per_block(m.POOL_KV_STRIDE),
        pool_kv_stride_adaptive=adaptive,
        pool_kernel=tuple(m.POOL_KVQ_KERNEL) or None,
        unpooled_kv=tuple(m.UNPOOLED_KV),
        temporal_padding=m.TEMPORAL_PADDING,
        residual_pooling=m.RESIDUAL_POOLING,
        class_token=m.CLS_EMBED_ON,
        absolute_positions=m.USE_ABS_POS,
        separable_positions=m.SEP_POS_EMBED,
        relative_positions_space=m.REL_POS_SPATIAL,
        relative_positions_time=m.REL_POS_TEMPORAL,
        relative_positions_zero_init=m.REL_POS_ZERO_INIT,
        norm_stem=m.NORM_STEM,
        mean_pooling=m.USE_MEAN_POOLING,
        block_dropout_rate=m.DROPOUT_RATE,
        drop_path_rate=m.DROPPATH_RATE,
        dropout_rate=cfg.MODEL.DROPOUT_RATE,
        head_init_scale=m.HEAD_INIT_SCALE,
    )


def _per_block(entries: Iterable[Iterable[Any]]) -> PerBlock:
    """Block numbers may come as floats, beside factors that are."""
    return tuple((int(block), *values) for block, *values in entries)


def _with_time(sizes: Iterable[int], time: int) -> Grid:
    """(h, w), as SlowFast gives it for images (PATCH_2D), or (t, h, w) -> (t, h, w)."""
    sizes = tuple(sizes)
    return (time, *sizes) if len(sizes) == 2 else sizes
