"""MViT as the textbook and the public code write it: the N x M attention matrix in memory, heads in
the batch.

What the package's fast forms are held against, in tests for equality and in `tools/benchmark.py`
(`--against materialised`) for speed and memory. Nothing here uses `mvit_video.layers`; the spec
gives the sizes, and state-dict names are the same, so that weights go across.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mvit_video.models.mvit_spec import BlockSpec, MViTSpec


def attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """softmax(q kᵀ / sqrt(d) + bias) v for (B, n, N, d), (B, n, M, d), (B, n, M, dv) and (B, n, N, M)."""
    logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    if bias is not None:
        logits = logits + bias
    return logits.softmax(dim=-1) @ v


def relative_vectors(table: Tensor, num_queries: int, num_keys: int) -> Tensor:
    """(num_queries, num_keys, d), each pair's row of the table, resized where its length does not fit."""
    length = 2 * max(num_queries, num_keys) - 1
    if len(table) != length:
        table = F.interpolate(table.t()[None], size=length, mode="linear")[0].t()
    q_ratio, k_ratio = max(num_keys / num_queries, 1.0), max(num_queries / num_keys, 1.0)
    distance = torch.arange(num_queries, dtype=torch.float32)[:, None] * q_ratio
    distance = distance - torch.arange(num_keys, dtype=torch.float32)[None, :] * k_ratio
    return table[(distance + (num_keys - 1) * k_ratio).long()]


def relative_bias(q: Tensor, q_thw: tuple, k_thw: tuple, tables: tuple, num_extra: int) -> Tensor:
    """Decomposed relative positions as the full (B, n, N, M) matrix; q (B, n, N, d) is not scaled."""
    batch, heads, num_queries, width = q.shape
    grid = q[:, :, num_extra:].reshape(batch, heads, *q_thw, width)
    bias = q.new_zeros(batch, heads, *q_thw, *k_thw)
    forms = (
        ("bnthwc,tkc->bnthwk", (..., slice(None), None, None)),
        ("bnthwc,hkc->bnthwk", (..., None, slice(None), None)),
        ("bnthwc,wkc->bnthwk", (..., None, None, slice(None))),
    )
    for table, n_q, n_k, (form, spread) in zip(tables, q_thw, k_thw, forms, strict=True):
        if table is not None:
            bias = bias + torch.einsum(form, grid, relative_vectors(table, n_q, n_k))[spread]
    bias = bias.reshape(batch, heads, num_queries - num_extra, math.prod(k_thw))
    return F.pad(bias, (num_extra, 0, num_extra, 0))


class Attention(nn.Module):
    """Pooling attention with (B, n, N, d) tokens and (B * n, d, T, H, W) cubes."""

    def __init__(self, spec: MViTSpec, block: BlockSpec) -> None:
        super().__init__()
        self.spec, self.block, self.extra = spec, block, int(spec.class_token)
        dim, out, heads = block.dim, block.attention_dim, block.num_heads
        if spec.separate_qkv or spec.pool_first:
            for name in "qkv":
                self.add_module(name, nn.Linear(dim, out, spec.qkv_bias))
        else:
            self.qkv = nn.Linear(dim, 3 * out, spec.qkv_bias)
        self.proj = nn.Linear(out, out)
        self.shared = 1 if spec.pool_mode == "conv_unshared" else heads
        width = (dim if spec.pool_first else out) // self.shared
        for name, pool in (("q", block.pool_q), ("k", block.pool_kv), ("v", block.pool_kv)):
            if pool is None:
                continue
            padding = [k // 2 for k in pool.kernel]
            if spec.pool_mode in ("max", "avg"):
                kind = nn.MaxPool3d if spec.pool_mode == "max" else nn.AvgPool3d
                self.add_module(f"pool_{name}", kind(pool.kernel, pool.stride, padding))
                continue
            conv = nn.Conv3d(
                width, width, pool.kernel, pool.stride, padding, groups=width, bias=False
            )
            self.add_module(f"pool_{name}", conv)
            self.add_module(f"norm_{name}", nn.LayerNorm(width, 1e-6))
        for axis, rows in zip("thw", block.relative_rows, strict=True):
            table = nn.Parameter(torch.zeros(rows, out // heads)) if rows else None
            self.register_parameter(f"rel_pos_{axis}", table)

    def pool(self, x: Tensor, thw: tuple, name: str) -> tuple[Tensor, tuple]:
        if not hasattr(self, f"pool_{name}"):
            return x, thw
        batch, heads, _, width = x.shape
        extra, grid = x[:, :, : self.extra], x[:, :, self.extra :]
        cube = grid.reshape(batch * heads, *thw, width).permute(0, 4, 1, 2, 3).contiguous()
        cube = getattr(self, f"pool_{name}")(cube)
        grid = cube.reshape(batch, heads, width, -1).transpose(2, 3)
        x = torch.cat((extra, grid), dim=2)
        if hasattr(self, f"norm_{name}"):
            x = getattr(self, f"norm_{name}")(x)
        return x, tuple(cube.shape[2:])

    def forward(self, x: Tensor, thw: tuple) -> tuple[Tensor, tuple]:
        batch, _, _ = x.shape
        heads, spec = self.block.num_heads, self.spec

        def split(y: Tensor, parts: int) -> Tensor:
            return y.reshape(batch, y.shape[1], parts, -1).transpose(1, 2)

        if spec.pool_first:
            y = split(x, self.shared)
            pooled = {name: self.pool(y, thw, name) for name in "qkv"}
            tokens = {
                name: split(
                    getattr(self, name)(y.transpose(1, 2).reshape(batch, y.shape[2], -1)), heads
                )
                for name, (y, _) in pooled.items()
            }
            q, k, v = tokens.values()
            q_thw, k_thw = pooled["q"][1], pooled["k"][1]
        else:
            if spec.separate_qkv:
                q, k, v = self.q(x), self.k(x), self.v(x)
            else:
                q, k, v = self.qkv(x).reshape(batch, x.shape[1], 3, -1).unbind(2)
            q, q_thw = self.pool(split(q, heads), thw, "q")
            k, k_thw = self.pool(split(k, heads), thw, "k")
            v, _ = self.pool(split(v, heads), thw, "v")
        tables = (self.rel_pos_t, self.rel_pos_h, self.rel_pos_w)
        bias = None
        if any(table is not None for table in tables):
            bias = relative_bias(q, q_thw, k_thw, tables, self.extra)
        x = attention(q, k, v, bias)
        if spec.residual_pooling:
            x = torch.cat((x[:, :, : self.extra], (x + q)[:, :, self.extra :]), dim=2)
        return self.proj(x.transpose(1, 2).reshape(batch, -1, self.block.attention_dim)), q_thw


class Mlp(nn.Module):
    def __init__(self, dim: int, hidden: int, dim_out: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(dim, hidden), nn.Linear(hidden, dim_out)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """As published; drop path left out, for it is chance."""

    def __init__(self, spec: MViTSpec, block: BlockSpec) -> None:
        super().__init__()
        self.spec, self.block, self.extra = spec, block, int(spec.class_token)
        dim = block.attention_dim
        self.norm1, self.norm2 = nn.LayerNorm(block.dim, 1e-6), nn.LayerNorm(dim, 1e-6)
        self.attn = Attention(spec, block)
        self.mlp = Mlp(dim, int(dim * spec.mlp_ratio), block.dim_out)
        if block.dim != block.dim_out:
            self.proj = nn.Linear(block.dim, block.dim_out)

    def forward(self, x: Tensor, thw: tuple) -> tuple[Tensor, tuple]:
        normed = self.norm1(x)
        out, new_thw = self.attn(normed, thw)
        changes = self.block.dim != self.block.dim_out
        if changes and self.spec.dim_mul_in_attention:
            x = self.proj(normed)
        if self.block.pool_q is not None and math.prod(self.block.pool_q.stride) > 1:
            x = self.skip(x, thw)
        x = x + out
        normed = self.norm2(x)
        if changes and not self.spec.dim_mul_in_attention:
            return self.proj(normed) + self.mlp(normed), new_thw
        return x + self.mlp(normed), new_thw

    def skip(self, x: Tensor, thw: tuple) -> Tensor:
        stride = self.block.pool_q.stride
        kernel = [s + 1 if s > 1 else s for s in stride]
        cube = x[:, self.extra :].reshape(len(x), *thw, -1).permute(0, 4, 1, 2, 3).contiguous()
        cube = F.max_pool3d(cube, kernel, stride, [k // 2 for k in kernel])
        return torch.cat((x[:, : self.extra], cube.flatten(2).transpose(1, 2)), dim=1)


class MaterialisedMViT(nn.Module):
    """The whole model, at the spec's own clip size or, without absolute positions, at any."""

    def __init__(self, spec: MViTSpec) -> None:
        super().__init__()
        self.spec = spec
        dim, (t, h, w), extra = spec.embed_dim, spec.grid, int(spec.class_token)
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv3d(
            spec.in_channels, dim, spec.patch_kernel, spec.patch_stride, spec.patch_padding
        )
        if extra:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        if spec.absolute_positions and spec.separable_positions:
            self.pos_embed_spatial = nn.Parameter(torch.zeros(1, h * w, dim))
            self.pos_embed_temporal = nn.Parameter(torch.zeros(1, t, dim))
            if extra:
                self.pos_embed_class = nn.Parameter(torch.zeros(1, 1, dim))
        elif spec.absolute_positions:
            self.pos_embed = nn.Parameter(torch.zeros(1, t * h * w + extra, dim))
        if spec.norm_stem:
            self.norm_stem = nn.LayerNorm(dim, 1e-6)
        self.blocks = nn.ModuleList(Block(spec, block) for block in spec.blocks)
        self.norm = nn.LayerNorm(spec.dim_out, 1e-6)
        self.head = nn.Module()
        self.head.projection = nn.Linear(spec.dim_out, spec.num_classes)

    def forward(self, clip: Tensor) -> Tensor:
        spec, extra = self.spec, int(self.spec.class_token)
        cube = self.patch_embed.proj(clip)
        thw, x = tuple(cube.shape[2:]), cube.flatten(2).transpose(1, 2)
        if extra:
            x = torch.cat((self.cls_token.expand(len(x), -1, -1), x), dim=1)
        if spec.absolute_positions:
            x = x + self.positions()
        if spec.norm_stem:
            x = self.norm_stem(x)
        for block in self.blocks:
            x, thw = block(x, thw)
        if spec.mean_pooling:
            return self.head.projection(self.norm(x[:, extra:].mean(dim=1)))
        x = self.norm(x)
        return self.head.projection(x[:, 0] if extra else x.mean(dim=1))

    def positions(self) -> Tensor:
        if not self.spec.separable_positions:
            return self.pos_embed
        t, h, w = self.spec.grid
        spread = self.pos_embed_spatial.repeat(1, t, 1)
        spread = spread + self.pos_embed_temporal.repeat_interleave(h * w, dim=1)
        return torch.cat((self.pos_embed_class, spread), dim=1) if self.spec.class_token else spread
