"""CloFormer (Fan et al., "Rethinking Local Perception in Lightweight Vision Transformer", arXiv
2303.17803) for clips.

A Clo block splits its heads in two. The local heads (AttnConv) mix neighbours with shared weights,
a depthwise convolution of query, key and value, and then weigh the value by a context-aware gate
made of query times key; they carry high frequencies. The pooled heads attend from every token to an
average-pooled cube; they carry low frequencies. The feed-forward network (ConvFFN) holds a
depthwise convolution as well, which in the last block of a stage halves height and width.

In a clip the depthwise convolutions read along time, the gate is pointwise, and the pooled heads
attend over space and time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mvit_video.layers.convolution import (
    ConvNorm,
    CubeConv,
    FrameConv,
    FrameNorm,
    average_pool,
)
from mvit_video.layers.heads import multi_head
from mvit_video.layers.mlp import DropPath
from mvit_video.layers.recomputed import normalise, recomputed
from mvit_video.models.blocks import Block
from mvit_video.models.inflated import (
    InflatedModel,
    InflatedSpec,
    spec_from_section,
    temporal_position,
    with_image_models,
)

Grid = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class CloFormerSpec(InflatedSpec):
    """Sizes of a CloFormer, one entry per stage.

    Attributes:
        depths: blocks of each stage.
        heads: (local, pooled) heads of each stage.
        kernels: side of the local heads' depthwise convolution.
        pools: side of the window that the pooled heads' keys and values are averaged over.
        pool_t: time steps of that window.
        mlp_ratio: hidden width of the ConvFFN over the stage's.
        mlp_kernel: side of the ConvFFN's depthwise convolution.
        norm_scope: norms take their statistics per frame (as in the image model) or per clip.
    """

    heads: tuple[tuple[int, int], ...]
    depths: tuple[int, ...] = (2, 2, 6, 2)
    kernels: tuple[int, ...] = (3, 5, 7, 9)
    pools: tuple[int, ...] = (8, 4, 2, 1)
    pool_t: int = 1
    mlp_ratio: int = 4
    mlp_kernel: int = 5
    norm_scope: Literal["frame", "clip"] = "frame"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_stages("heads", "depths", "kernels", "pools")
        self._check_choice("norm_scope", ("frame", "clip"))
        self._check_heads(tuple(map(sum, self.heads)))


class CloFormer(InflatedModel):
    """Clip (B, 3, T, H, W), or images (B, 3, H, W), of any size to logits (B, num_classes)."""

    def __init__(self, spec: CloFormerSpec) -> None:
        super().__init__(spec)
        self.stem = Stem(spec)
        self.position = temporal_position(spec)
        rates = iter(spec.drop_path_rates(sum(spec.depths)))
        self.stages = nn.ModuleList(
            nn.ModuleList(CloBlock(spec, stage, index, next(rates)) for index in range(depth))
            for stage, depth in enumerate(spec.depths)
        )
        self.norm = FrameNorm(spec.widths[-1], spec.norm_scope)
        self.dropout = nn.Dropout(spec.dropout_rate)
        self.head = nn.Linear(spec.widths[-1], spec.num_classes)

    def forward(self, clip: Tensor) -> Tensor:
        tokens, _ = self.forward_features(clip)
        return self.head(self.dropout(tokens.mean(dim=1)))

    def forward_features(self, clip: Tensor) -> tuple[Tensor, Grid]:
        """Normalised tokens (B, N, C) as the head reads them, and their grid."""
        cube = self._cubes(clip)[-1]
        return cube.flatten(1, 3), tuple(cube.shape[1:4])

    def _cubes(self, clip: Tensor) -> list[Tensor]:
        """Each stage's tokens (B, T', H', W', C) at strides 4, 8, 16 and 32, the last normalised.

        A stage ends in a ConvFFN that halves height and width, so its level is what goes into that.
        """
        cubes = []
        cube = self.position(self.stem(self.as_clip(clip)))
        for stage in self.stages:
            for block in stage:
                cube, mixed = block(cube)
            cubes.append(mixed)
        return [*cubes[:-1], self.norm(cube)]


class Stem(nn.Module):
    """Four 3 x 3 convolutions, the first a cube embedding, that quarter height and width, then a
    linear layer and a norm.
    """

    def __init__(self, spec: CloFormerSpec) -> None:
        super().__init__()
        width = spec.widths[0]
        embedding = CubeConv(
            3, width // 2, (spec.stem_kernel_t, 3), (spec.stem_stride_t, 2), spec.temporal_padding
        )
        self.convs = nn.Sequential(
            ConvNorm(embedding, width // 2, nn.ReLU()),
            ConvNorm(FrameConv(width // 2, width, 3, stride=2), width, nn.ReLU()),
            ConvNorm(FrameConv(width, width, 3), width, nn.ReLU()),
            ConvNorm(FrameConv(width, width, 3), width, nn.ReLU()),
        )
        self.proj = nn.Linear(width, width)
        self.norm = FrameNorm(width, spec.norm_scope)

    def forward(self, clip: Tensor) -> Tensor:
        return self.norm(self.proj(self.convs(clip)))


class CloBlock(Block):
    """Clo attention, then a ConvFFN, on a cube. The last block of every stage but the last halves
    the cube and widens it.
    """

    def __init__(self, spec: CloFormerSpec, stage: int, index: int, drop_path: float) -> None:
        super().__init__()
        width, self.stage = spec.widths[stage], stage
        halves = index == spec.depths[stage] - 1 and stage < len(spec.depths) - 1
        out_width = spec.widths[stage + 1] if halves else width
        self.norm1 = FrameNorm(width, spec.norm_scope)
        self.attn = CloAttention(spec, stage)
        self.norm2 = FrameNorm(width, spec.norm_scope)
        self.mlp = ConvFFN(spec, width, out_width, stride=2 if halves else 1)
        self.skip = Halving(width, out_width) if halves else nn.Identity()
        self.drop_path = DropPath(drop_path)

    def forward(self, cube: Tensor) -> tuple[Tensor, Tensor]:
        """cube -> what comes out, and what went into the ConvFFN."""
        mixed = cube + self.drop_path(self.attn(normalise(self.norm1, cube)))
        return self.skip(mixed) + self.drop_path(self.mlp(normalise(self.norm2, mixed))), mixed


class CloAttention(nn.Module):
    """Local heads (AttnConv) and pooled heads side by side, joined by one projection."""

    def __init__(self, spec: CloFormerSpec, stage: int) -> None:
        super().__init__()
        width = spec.widths[stage]
        local_heads, pooled_heads = spec.heads[stage]
        head_width = width // (local_heads + pooled_heads)
        self.local = AttnConv(spec, width, local_heads, head_width, spec.kernels[stage])
        window = (spec.pool_t, spec.pools[stage])
        self.pooled = PooledAttention(width, pooled_heads, head_width, window)
        self.proj = nn.Linear(width, width)

    def forward(self, cube: Tensor) -> Tensor:
        return self.proj(torch.cat([self.local(cube), self.pooled(cube)], dim=-1))


class AttnConv(nn.Module):
    """Shared weights, then context-aware ones: value after a depthwise convolution, times tanh of a
    small network on query * key.
    """

    def __init__(
        self, spec: CloFormerSpec, width: int, heads: int, head_width: int, kernel: int
    ) -> None:
        super().__init__()
        inner = heads * head_width
        self.scale = head_width**-0.5
        self.qkv = nn.Linear(width, 3 * inner)
        self.depthwise = spec.depthwise(3 * inner, kernel)
        self.gate = nn.Sequential(nn.Linear(inner, inner), nn.SiLU(), nn.Linear(inner, inner))

    def forward(self, cube: Tensor) -> Tensor:
        query, key, value = self.depthwise(self.qkv(cube)).chunk(3, dim=-1)
        return torch.tanh(self.gate(recomputed(torch.mul, query, key)) * self.scale) * value


class PooledAttention(nn.Module):
    """Every token attends to the cube averaged over windows (time, side). Windows at the far edges
    may be smaller, so any size works.
    """

    def __init__(self, width: int, heads: int, head_width: int, window: tuple[int, int]) -> None:
        super().__init__()
        self.heads = heads
        self.window = window
        self.q = nn.Linear(width, heads * head_width)
        self.kv = nn.Linear(width, 2 * heads * head_width)

    def forward(self, cube: Tensor) -> Tensor:
        query = self.q(cube).flatten(1, 3)
        pooled = average_pool(cube, *self.window, ceil_mode=True).flatten(1, 3)
        key, value = self.kv(pooled).chunk(2, dim=-1)
        return multi_head(query, key, value, self.heads).unflatten(1, cube.shape[1:4])


class ConvFFN(nn.Module):
    """Linear, GELU, depthwise convolution, linear; with stride 2 it is the way to the next stage."""

    def __init__(self, spec: CloFormerSpec, width: int, out_width: int, stride: int) -> None:
        super().__init__()
        hidden = spec.mlp_ratio * width
        self.fc1 = nn.Linear(width, hidden)
        self.depthwise = spec.depthwise(hidden, spec.mlp_kernel, stride)
        self.fc2 = nn.Linear(hidden, out_width)

    def forward(self, cube: Tensor) -> Tensor:
        return self.fc2(self.depthwise(recomputed(F.gelu, self.fc1(cube))))


class Halving(nn.Module):
    """The skip connection between stages: dense 5 x 5 convolution with stride 2, BatchNorm, linear.

    The paper draws a depthwise convolution here; the code, and the published parameter counts, have
    a dense one.
    """

    def __init__(self, width: int, out_width: int) -> None:
        super().__init__()
        self.down = ConvNorm(FrameConv(width, width, 5, stride=2), width)
        self.proj = nn.Linear(width, out_width)

    def forward(self, cube: Tensor) -> Tensor:
        return self.proj(self.down(cube))


PRESETS = with_image_models(
    {
        "CLOFORMER_XXS": CloFormerSpec(
            widths=(32, 64, 128, 256), heads=((3, 1), (2, 2), (4, 4), (4, 12))
        ),
        "CLOFORMER_XS": CloFormerSpec(
            widths=(48, 96, 160, 352), heads=((2, 1), (3, 3), (5, 5), (7, 15)), drop_path_rate=0.06
        ),
        "CLOFORMER_S": CloFormerSpec(
            widths=(64, 128, 224, 448), heads=((3, 1), (4, 4), (7, 7), (7, 21)), drop_path_rate=0.06
        ),
    }
) | {
    # For demos and tests.
    "CLOFORMER_TINY": CloFormerSpec(
        widths=(48, 64, 96, 128),
        heads=((2, 1), (2, 2), (2, 2), (2, 2)),
        depths=(2, 2, 1, 1),
        kernels=(3, 3, 3, 3),
        mlp_ratio=2,
        mlp_kernel=3,
    ),
}


def spec_from_config(cfg: Any) -> CloFormerSpec:
    """The spec that a config's CLOFORMER section describes."""
    section = cfg.CLOFORMER
    return spec_from_section(
        cfg, section, PRESETS, pool_t=section.POOL_T, norm_scope=section.NORM_SCOPE
    )
