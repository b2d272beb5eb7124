"""MViT v1 and v2: vision transformers whose token grid shrinks as their channels grow.

Papers: Multiscale Vision Transformers (arXiv 2104.11227), MViTv2 (arXiv 2112.01526). State-dict
names are facebookresearch/SlowFast's, and so are the numbers that come out.

Shapes: B batch, N tokens of a grid thw = (T, H, W) after the class token if there is one, C
channels, n heads of width d.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mvit_video.errors import InputError
from mvit_video.layers.attention import attention, one_hot_grid, relative_position_bias
from mvit_video.layers.embedding import CubeEmbedding
from mvit_video.layers.mlp import DropPath, Mlp
from mvit_video.layers.pieces import in_parts
from mvit_video.layers.pooling import (
    AvgPool3d,
    DepthwiseConv3d,
    MaxPool3d,
    pool_and_norm,
    pool_tokens,
)
from mvit_video.layers.position import (
    EvalCache,
    relative_vectors,
    resize_grid,
    separable_positions,
)
from mvit_video.layers.recomputed import normalise, recomputed
from mvit_video.models.blocks import Block
from mvit_video.models.features import FeatureInfo
from mvit_video.models.mvit_spec import BlockSpec, Grid, MViTSpec, PoolSpec

NORM_EPS = 1e-6


class MultiScaleAttention(nn.Module):
    """Multi-head pooling attention: queries, keys and values are pooled on the grid before they
    meet.

    The queries' pool decides the grid that comes out, the keys' and values' pool what it costs.
    """

    def __init__(self, spec: MViTSpec, block: BlockSpec) -> None:
        super().__init__()
        dim, dim_out = block.dim, block.attention_dim
        self.num_heads, self.num_extra = block.num_heads, int(spec.class_token)
        self.pool_first, self.residual_pooling = spec.pool_first, spec.residual_pooling
        if spec.separate_qkv or spec.pool_first:
            self.q, self.k, self.v = (nn.Linear(dim, dim_out, spec.qkv_bias) for _ in range(3))
        else:
            self.qkv = nn.Linear(dim, 3 * dim_out, spec.qkv_bias)
        self.proj = nn.Linear(dim_out, dim_out)
        self.dropout = nn.Dropout(spec.block_dropout_rate)
        pooled = dim if spec.pool_first else dim_out
        width = pooled if spec.pool_mode == "conv_unshared" else pooled // block.num_heads
        for name, pool in (("q", block.pool_q), ("k", block.pool_kv), ("v", block.pool_kv)):
            normed = pool is not None and spec.pool_mode.startswith("conv")
            self.add_module(f"pool_{name}", _make_pool(spec, width, pool))
            self.add_module(f"norm_{name}", nn.LayerNorm(width, NORM_EPS) if normed else None)
        for axis, rows in zip("thw", block.relative_rows, strict=True):
            table = nn.Parameter(torch.zeros(rows, dim_out // block.num_heads)) if rows else None
            self.register_parameter(f"rel_pos_{axis}", table)
        self.pool_and_norm = pool_and_norm  # see `fuse_pooling`
        self.cache = EvalCache()

    def forward(self, x: Tensor, thw: Grid) -> tuple[Tensor, Grid]:
        """x (B, N, C) on the grid thw -> (B, N', C'), and the grid the queries were pooled to."""
        q, k, v, q_thw, k_thw = (
            self._pool_project(x, thw) if self.pool_first else self._project_pool(x, thw)
        )
        q, k, v = (tokens.unflatten(-1, (self.num_heads, -1)) for tokens in (q, k, v))
        bias = self._relative_bias(q, q_thw, k_thw)
        x = attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), bias).transpose(1, 2)
        if self.residual_pooling:
            x = recomputed(self._add_query, x, q)
        return self.dropout(self.proj(recomputed(torch.flatten, x, 2))), q_thw

    def _project_pool(self, x: Tensor, thw: Grid) -> tuple[Tensor, Tensor, Tensor, Grid, Grid]:
        if hasattr(self, "qkv"):
            projected = in_parts(self.qkv, x, 3)
        else:
            projected = (linear(x) for linear in (self.q, self.k, self.v))
        q, q_thw = self._pool(next(projected), thw, self.pool_q, self.norm_q)
        k, k_thw = self._pool(next(projected), thw, self.pool_k, self.norm_k)
        v, _ = self._pool(next(projected), thw, self.pool_v, self.norm_v)
        return q, k, v, q_thw, k_thw

    def _pool_project(self, x: Tensor, thw: Grid) -> tuple[Tensor, Tensor, Tensor, Grid, Grid]:
        q, q_thw = self._pool(x, thw, self.pool_q, self.norm_q)
        k, k_thw = self._pool(x, thw, self.pool_k, self.norm_k)
        v, _ = self._pool(x, thw, self.pool_v, self.norm_v)
        return self.q(q), self.k(k), self.v(v), q_thw, k_thw

    def _pool(
        self, x: Tensor, thw: Grid, pool: nn.Module | None, norm: nn.LayerNorm | None
    ) -> tuple[Tensor, Grid]:
        """Pool the grid tokens, then normalise all of them, head by head (the class token too)."""
        return (x, thw) if pool is None else self.pool_and_norm(x, thw, pool, norm, self.num_extra)

    def _relative_bias(self, q: Tensor, q_thw: Grid, k_thw: Grid) -> tuple[Tensor, Tensor] | None:
        tables = (self.rel_pos_t, self.rel_pos_h, self.rel_pos_w)
        if all(table is None for table in tables):
            return None

        def spread() -> tuple[tuple[Tensor | None, ...], Tensor]:
            sizes = zip(tables, q_thw, k_thw, strict=True)
            vectors = tuple(
                t if t is None else relative_vectors(t, *size).to(q.dtype) for t, *size in sizes
            )
            axes = tuple(table is not None for table in tables)
            return vectors, one_hot_grid(k_thw, axes, self.num_extra, q.dtype, q.device)

        vectors, key_rows = self.cache.get((q_thw, k_thw, q.dtype), tables, spread)
        return relative_position_bias(q, q_thw, vectors, key_rows, self.num_extra)

    def _add_query(self, x: Tensor, q: Tensor) -> Tensor:
        """MViTv2's residual pooling: x + q (B, N, n, d), but for the class token."""
        if not self.num_extra:
            return q + x
        (extra, grid), (_, q) = (t.split((1, t.shape[1] - 1), dim=1) for t in (x, q))
        return torch.cat((extra, q + grid), dim=1)

    def train(self, mode: bool = True) -> MultiScaleAttention:
        self.cache.clear()
        return super().train(mode)


def fuse_pooling(model: nn.Module) -> None:
    """Lets the attentions of an MViT pool and normalise in one Triton kernel on CUDA; elsewhere, and
    for shapes without a kernel, they do as before.

    Raises:
        InputError: there is a GPU, but no triton.
    """
    try:
        from mvit_video.layers import pooling_triton
    except ModuleNotFoundError as error:
        if not torch.cuda.is_available():
            return  # a model that was trained with the kernel is used on a CPU
        raise InputError(
            f"MVIT.POOL_BACKEND triton needs {error.name}, which is not installed: pip install triton in the"
            " version that this torch asks for, or set MVIT.POOL_BACKEND torch"
        ) from error
    for module in model.modules():
        if isinstance(module, MultiScaleAttention):
            module.pool_and_norm = pooling_triton.pool_and_norm


def _make_pool(spec: MViTSpec, width: int, pool: PoolSpec | None) -> nn.Module | None:
    if pool is None:
        return None
    if spec.pool_mode.startswith("conv"):
        return DepthwiseConv3d(width, pool.kernel, pool.stride, spec.temporal_padding)
    return (MaxPool3d if spec.pool_mode == "max" else AvgPool3d)(pool.kernel, pool.stride)


class MultiScaleBlock(Block):
    """Attention and MLP, each with a residual; either may change the width, the attention the grid."""

    def __init__(self, spec: MViTSpec, block: BlockSpec) -> None:
        super().__init__()
        dim, self.stage = block.attention_dim, block.stage
        self.num_extra, self.widens_in_attention = int(spec.class_token), spec.dim_mul_in_attention
        self.norm1 = nn.LayerNorm(block.dim, NORM_EPS)
        self.attn = MultiScaleAttention(spec, block)
        self.norm2 = nn.LayerNorm(dim, NORM_EPS)
        self.mlp = Mlp(dim, int(dim * spec.mlp_ratio), block.dim_out, spec.block_dropout_rate)
        self.drop_path = DropPath(block.drop_path_rate)
        self.proj = nn.Linear(block.dim, block.dim_out) if block.dim != block.dim_out else None
        self.pool_skip = None
        if block.pools_grid:
            stride = block.pool_q.stride
            self.pool_skip = MaxPool3d(tuple(s + 1 if s > 1 else 1 for s in stride), stride)

    def forward(self, x: Tensor, thw: Grid) -> tuple[Tensor, Grid]:
        """x (B, N, C) on the grid thw -> (B, N', C') and its grid."""
        normed = normalise(self.norm1, x)
        out, new_thw = self.attn(normed, thw)
        x = self._skip(x, normed, thw) + self.drop_path(out)
        normed = normalise(self.norm2, x)
        out = self.mlp(normed)
        # Where the width changes, the residual is a projection of the *normed* tokens.
        x = x if self.proj is None or self.widens_in_attention else self.proj(normed)
        return x + self.drop_path(out), new_thw

    def _skip(self, x: Tensor, normed: Tensor, thw: Grid) -> Tensor:
        """The residual around the attention, brought to its width and grid."""
        if self.proj is not None and self.widens_in_attention:
            x = self.proj(normed)
        if self.pool_skip is not None:
            x, _ = pool_tokens(x, thw, self.pool_skip, self.num_extra)
        return x


class Head(nn.Module):
    """Dropout and a linear classifier; logits, never probabilities."""

    def __init__(self, dim: int, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.projection = nn.Linear(dim, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.projection(self.dropout(x))


class MViT(nn.Module):
    """A multiscale vision transformer, built from a spec (`mvit_spec.MViTSpec`)."""

    def __init__(self, spec: MViTSpec) -> None:
        super().__init__()
        self.spec = spec
        dim, (t, h, w) = spec.embed_dim, spec.grid
        self.patch_embed = CubeEmbedding(
            spec.in_channels,
            dim,
            spec.patch_kernel,
            spec.patch_stride,
            spec.patch_padding,
            spec.temporal_padding,
        )
        extra = int(spec.class_token)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim)) if extra else None
        sizes = {"pos_embed_spatial": h * w, "pos_embed_temporal": t, "pos_embed_class": extra}
        if not spec.separable_positions:
            sizes = {"pos_embed": t * h * w + extra}
        for name, size in sizes.items():
            wanted = spec.absolute_positions and size
            table = nn.Parameter(torch.zeros(1, size, dim)) if wanted else None
            self.register_parameter(name, table)
        self.pos_drop = nn.Dropout(spec.block_dropout_rate)
        self.norm_stem = nn.LayerNorm(dim, NORM_EPS) if spec.norm_stem else None
        self.blocks = nn.ModuleList(MultiScaleBlock(spec, block) for block in spec.blocks)
        self.norm = nn.LayerNorm(spec.dim_out, NORM_EPS)
        self.head = Head(spec.dim_out, spec.num_classes, spec.dropout_rate)
        self.cache = EvalCache()
        self.init_weights()

    def forward(self, clip: Tensor) -> Tensor:
        """clip (B, 3, T, H, W), or (B, 3, H, W) for a one-frame model -> logits (B, num_classes)."""
        tokens, _ = self.forward_features(clip)
        return self.forward_head(tokens)

    def forward_features(self, clip: Tensor) -> tuple[Tensor, Grid]:
        """Tokens (B, N, C) as the head reads them, class token first if there is one, and their
        grid.

        They are normalised but for `mean_pooling` models, whose norm comes after the mean.
        """
        x, thw = self.embed(clip)
        for block in self.blocks:
            x, thw = block(x, thw)
        return x if self.spec.mean_pooling else self.norm(x), thw

    def forward_head(self, tokens: Tensor) -> Tensor:
        """Tokens of `forward_features` -> logits."""
        spec = self.spec
        if spec.mean_pooling:
            return self.head(self.norm(tokens[:, int(spec.class_token) :].mean(dim=1)))
        return self.head(tokens[:, 0] if spec.class_token else tokens.mean(dim=1))

    def forward_pyramid(self, clip: Tensor) -> list[Tensor]:
        """Each stage's last tokens as (B, C, T, H, W), not normalised; see `feature_info`."""
        x, thw = self.embed(clip)
        levels: dict[int, Tensor] = {}
        for block, spec in zip(self.blocks, self.spec.blocks, strict=True):
            x, thw = block(x, thw)
            grid = x[:, int(self.spec.class_token) :]
            levels[spec.stage] = grid.transpose(1, 2).unflatten(-1, thw)
        return list(levels.values())

    @property
    def feature_info(self) -> tuple[FeatureInfo, ...]:
        """Channels and stride of each level of the pyramid."""
        stride, levels = self.spec.patch_stride, {}
        for block in self.spec.blocks:
            if block.pool_q is not None:
                stride = tuple(a * b for a, b in zip(stride, block.pool_q.stride, strict=True))
            levels[block.stage] = FeatureInfo(block.dim_out, stride)
        return tuple(levels.values())

    def embed(self, clip: Tensor) -> tuple[Tensor, Grid]:
        """Pixels to tokens: cubes, class token, positions, and their grid."""
        x, thw = self.patch_embed(self._as_clip(clip))
        if self.cls_token is not None:
            x = torch.cat((self.cls_token.expand(x.shape[0], -1, -1), x), dim=1)
        if self.spec.absolute_positions:
            x = x + self._positions(thw)
        x = self.pos_drop(x)
        return x if self.norm_stem is None else self.norm_stem(x), thw

    def _positions(self, thw: Grid) -> Tensor:
        """Absolute positions (1, N, C) of the class token and a grid of any size."""
        grid, extra = self.spec.grid, int(self.spec.class_token)
        if self.spec.separable_positions:
            tables = (self.pos_embed_spatial, self.pos_embed_temporal, self.pos_embed_class)

            def positions() -> Tensor:
                spread = separable_positions(*tables[:2], grid, thw)
                return torch.cat((tables[2], spread), dim=1) if extra else spread
        else:
            tables = (self.pos_embed,)

            def positions() -> Tensor:
                spread = resize_grid(self.pos_embed[:, extra:], grid, thw)
                return torch.cat((self.pos_embed[:, :extra], spread), dim=1)

        return self.cache.get(thw, tables, positions)

    def _as_clip(self, clip: Tensor) -> Tensor:
        if clip.ndim == 4 and self.spec.num_frames == 1:
            clip = clip[:, :, None]
        if clip.ndim != 5 or clip.shape[1] != self.spec.in_channels:
            image = " or (batch, channels, height, width)" if self.spec.num_frames == 1 else ""
            raise InputError(
                f"the model got a tensor of shape {tuple(clip.shape)}; it takes"
                f" (batch, channels, frames, height, width){image} with {self.spec.in_channels} channels"
            )
        return clip

    def train(self, mode: bool = True) -> MViT:
        self.cache.clear()
        return super().train(mode)

    @torch.no_grad()
    def init_weights(self) -> None:
        """Fresh weights, also after `to_empty` on a model built on the meta device.

        All weights are SlowFast's truncated normal of 0.02, the convolutions' too (which
        facebookresearch/mvit and pytorchvideo leave at torch's default). Biases start at zero, as
        in those two and torchvision, not at SlowFast's 0.02: pytorchvideo trained MViT-B 16x4 from
        zero to a higher top-1 (78.9 to 78.4), and the authors' own later code does the same.
        """
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv3d | DepthwiseConv3d):
                nn.init.trunc_normal_(module.weight, std=0.02)
            elif isinstance(module, nn.LayerNorm):
                nn.init.ones_(module.weight)
            if getattr(module, "bias", None) is not None:
                nn.init.zeros_(module.bias)
        for name, table in self.named_parameters():
            leaf = name.rpartition(".")[2]
            if leaf.startswith("rel_pos") and self.spec.relative_positions_zero_init:
                nn.init.zeros_(table)
            elif leaf.startswith(("rel_pos", "pos_embed", "cls_token")):
                nn.init.trunc_normal_(table, std=0.02)
        self.head.projection.weight.mul_(self.spec.head_init_scale)
        self.head.projection.bias.mul_(self.spec.head_init_scale)
