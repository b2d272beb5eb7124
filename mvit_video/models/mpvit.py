"""MPViT (Lee et al., "MPViT: Multi-Path Vision Transformer for Dense Prediction", arXiv 2112.11010,
CVPR 2022) for clips.

A stage embeds its input at several scales: a chain of depthwise separable 3 x 3 convolutions, of
which every link feeds one path (the first link halves the cube, so the paths of a later stage see
3, 7 and 11 pixels of the stage's input, not 3, 5 and 7). Each path is a transformer with factorised
attention, whose cost is linear in the tokens (CoaT, arXiv 2104.06399). Beside the paths runs a
local convolution branch. The global-to-local feature interaction joins all of them, and widens to
the next stage's width.

In a clip the attention's context is one small matrix per head for the whole clip, so the order of
frames is read by the taps along time of the depthwise convolutions alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mvit_video.layers.convolution import (
    ConvNorm,
    CubeConv,
    DepthwiseConv,
    FrameConv,
    init_convolution_,
)
from mvit_video.layers.mlp import DropPath, Mlp
from mvit_video.layers.recomputed import normalise
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
class MPViTSpec(InflatedSpec):
    """Sizes of an MPViT, one entry per stage.

    Attributes:
        depths: transformer layers of every path of a stage.
        paths: paths of a stage.
        mlp_ratio: hidden width of the MLP over the stage's.
        windows: (side, heads) of the convolutional relative position encoding; its heads add up to
            the model's.
        relative_time: give the relative position encoding taps along time too.
    """

    depths: tuple[int, ...]
    paths: tuple[int, ...] = (2, 3, 3, 3)
    mlp_ratio: int = 4
    windows: tuple[tuple[int, int], ...] = ((3, 2), (5, 3), (7, 3))
    relative_time: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_stages("depths", "paths")
        self._check_heads((self.heads,) * len(self.widths))

    @property
    def heads(self) -> int:
        """Heads of every stage."""
        return sum(heads for _, heads in self.windows)


class MPViT(InflatedModel):
    """Clip (B, 3, T, H, W), or images (B, 3, H, W), of any size to logits (B, num_classes)."""

    def __init__(self, spec: MPViTSpec) -> None:
        super().__init__(spec)
        first = spec.widths[0]
        kernel, stride = (spec.stem_kernel_t, 3), (spec.stem_stride_t, 2)
        embedding = CubeConv(3, first // 2, kernel, stride, spec.temporal_padding, bias=False)
        self.stem = nn.Sequential(
            ConvNorm(embedding, first // 2, nn.Hardswish()),
            ConvNorm(FrameConv(first // 2, first, 3, stride=2, bias=False), first, nn.Hardswish()),
        )
        self.position = temporal_position(spec)
        rates = iter(spec.drop_path_rates(sum(spec.depths)))
        self.stages = nn.ModuleList(
            Stage(spec, index, [next(rates) for _ in range(depth)])
            for index, depth in enumerate(spec.depths)
        )
        self.dropout = nn.Dropout(spec.dropout_rate)
        self.head = nn.Linear(spec.widths[-1], spec.num_classes)
        self.init_weights()

    def forward(self, clip: Tensor) -> Tensor:
        tokens, _ = self.forward_features(clip)
        return self.head(self.dropout(tokens.mean(dim=1)))

    def forward_features(self, clip: Tensor) -> tuple[Tensor, Grid]:
        """Tokens (B, N, C) as the head reads them, and their grid. There is no final norm."""
        cube = self._cubes(clip)[-1]
        return cube.flatten(1, 3), tuple(cube.shape[1:4])

    @property
    def feature_widths(self) -> tuple[int, ...]:
        """A stage's output has the next stage's width already."""
        return (*self.spec.widths[1:], self.spec.widths[-1])

    def _cubes(self, clip: Tensor) -> list[Tensor]:
        """Each stage's output (B, T', H', W', C), at strides 4, 8, 16 and 32."""
        cubes = []
        cube = self.position(self.stem(self.as_clip(clip)))
        for stage in self.stages:
            cube = stage(cube)
            cubes.append(cube)
        return cubes

    @torch.no_grad()
    def init_weights(self) -> None:
        """Fresh weights, drawn as published, also after `to_empty` on a model built on the meta
        device.
        """
        super().init_weights()
        self.apply(_init_weights)


class Stage(nn.Module):
    """Multi-scale patch embedding; the transformer paths and the local convolution branch side by
    side; their interaction.
    """

    def __init__(self, spec: MPViTSpec, index: int, drop_paths: list[float]) -> None:
        super().__init__()
        width, paths = spec.widths[index], spec.paths[index]
        out_width = spec.widths[min(index + 1, len(spec.widths) - 1)]
        self.embed = MultiScaleEmbedding(spec, width, paths, stride=2 if index else 1)
        self.local = LocalBranch(spec, width)
        self.paths = nn.ModuleList(TransformerPath(spec, index, drop_paths) for _ in range(paths))
        self.join = GlobalLocalInteraction(paths + 1, width, out_width)

    def forward(self, cube: Tensor) -> Tensor:
        scales = self.embed(cube)
        local = self.local(scales[0])
        paths = [path(scale) for path, scale in zip(self.paths, scales, strict=True)]
        return self.join([local, *paths])


class MultiScaleEmbedding(nn.ModuleList):
    """A chain of embeddings, the first of which may halve the cube: one cube per scale, all of one
    size.
    """

    def __init__(self, spec: MPViTSpec, width: int, scales: int, stride: int) -> None:
        strides = [stride] + [1] * (scales - 1)
        super().__init__(PatchEmbed(spec, width, stride) for stride in strides)

    def forward(self, cube: Tensor) -> list[Tensor]:
        cubes = []
        for embed in self:
            cube = embed(cube)
            cubes.append(cube)
        return cubes


class GlobalLocalInteraction(ConvNorm):
    """Global-to-local feature interaction: a 1 x 1 convolution over all branches' channels, which
    also gives the next stage's width.
    """

    def __init__(self, branches: int, width: int, out_width: int) -> None:
        join = nn.Linear(branches * width, out_width, bias=False)
        super().__init__(join, out_width, nn.Hardswish())

    def forward(self, branches: list[Tensor]) -> Tensor:
        return super().forward(torch.cat(branches, dim=-1))


class PatchEmbed(nn.Module):
    """One link of the multi-scale chain: depthwise 3 x 3, pointwise, BatchNorm, Hardswish."""

    def __init__(self, spec: MPViTSpec, width: int, stride: int) -> None:
        super().__init__()
        self.depthwise = spec.depthwise(width, 3, stride=stride, bias=False)
        self.pointwise = ConvNorm(nn.Linear(width, width, bias=False), width, nn.Hardswish())

    def forward(self, cube: Tensor) -> Tensor:
        return self.pointwise(self.depthwise(cube))


class LocalBranch(nn.Module):
    """Depthwise residual bottleneck whose hidden width is the stage's."""

    def __init__(self, spec: MPViTSpec, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            ConvNorm(nn.Linear(width, width, bias=False), width, nn.Hardswish()),
            ConvNorm(spec.depthwise(width, 3, bias=False), width, nn.Hardswish()),
            ConvNorm(nn.Linear(width, width, bias=False), width),
        )

    def forward(self, cube: Tensor) -> Tensor:
        return cube + self.layers(cube)


class TransformerPath(nn.Module):
    """The transformer of one scale. Its layers share one convolutional position encoding and one
    relative one.
    """

    def __init__(self, spec: MPViTSpec, stage: int, drop_paths: list[float]) -> None:
        super().__init__()
        width = spec.widths[stage]
        self.position = spec.depthwise(width, 3)
        self.relative = RelativePosition(spec, width)
        self.blocks = nn.ModuleList(PathBlock(spec, stage, rate) for rate in drop_paths)

    def forward(self, cube: Tensor) -> Tensor:
        for block in self.blocks:
            cube = cube + self.position(cube)
            cube = block(cube, self.relative)
        return cube


class PathBlock(Block):
    """Pre-norm transformer layer with factorised attention."""

    def __init__(self, spec: MPViTSpec, stage: int, drop_path: float) -> None:
        super().__init__()
        width, self.stage = spec.widths[stage], stage
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = FactorisedAttention(width, spec.heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width, spec.mlp_ratio * width)
        self.drop_path = DropPath(drop_path)

    def forward(self, cube: Tensor, relative: RelativePosition) -> Tensor:
        cube = cube + self.drop_path(self.attn(normalise(self.norm1, cube), relative))
        return cube + self.drop_path(self.mlp(normalise(self.norm2, cube)))


class FactorisedAttention(nn.Module):
    """softmax(key)^T value is a context of (head width)^2 numbers per head, which every query
    reads: linear in the tokens.

    The softmax runs over the tokens, not over the channels. The relative position term query *
    convolution(value) is not scaled.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.scale = (width // heads) ** -0.5
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, cube: Tensor, relative: RelativePosition) -> Tensor:
        query, key, value = self.qkv(cube).chunk(3, dim=-1)
        context = self._split(key).softmax(dim=2).transpose(2, 3) @ self._split(value)
        read = self._split(query) @ (self.scale * context)
        read = read.transpose(1, 2).reshape(cube.shape)
        return self.proj(read + query * relative(value))

    def _split(self, cube: Tensor) -> Tensor:
        """(B, T, H, W, C) -> (B, heads, N, C / heads)."""
        return cube.flatten(1, 3).unflatten(-1, (self.heads, -1)).transpose(1, 2)


class RelativePosition(nn.Module):
    """Convolutional relative position encoding: groups of heads see depthwise convolutions of
    different sides.
    """

    def __init__(self, spec: MPViTSpec, width: int) -> None:
        super().__init__()
        time = spec.depthwise_time if spec.relative_time else "none"
        self.widths = [width // spec.heads * heads for _, heads in spec.windows]
        self.convs = nn.ModuleList(
            DepthwiseConv(group, side, time=time, padding=spec.temporal_padding)
            for group, (side, _) in zip(self.widths, spec.windows, strict=True)
        )

    def forward(self, value: Tensor) -> Tensor:
        groups = value.split(self.widths, dim=-1)
        encoded = [conv(group) for conv, group in zip(self.convs, groups, strict=True)]
        return torch.cat(encoded, dim=-1)


def _init_weights(module: nn.Module) -> None:
    """The published initialisation; `nn.Module.apply` visits children first, so a ConvNorm has the
    last word on its linear layer.
    """
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, ConvNorm):
        init_convolution_(module.conv)
    elif isinstance(module, PatchEmbed):
        # Published without dividing by the groups: these convolutions start tiny, and the BatchNorm
        # behind them makes up for it.
        init_convolution_(module.depthwise, groups=1)


PRESETS = with_image_models(
    {
        "MPVIT_T": MPViTSpec(widths=(64, 96, 176, 216), depths=(1, 2, 4, 1), mlp_ratio=2),
        "MPVIT_XS": MPViTSpec(widths=(64, 128, 192, 256), depths=(1, 2, 4, 1)),
        "MPVIT_S": MPViTSpec(widths=(64, 128, 216, 288), depths=(1, 3, 6, 3), drop_path_rate=0.05),
        "MPVIT_B": MPViTSpec(widths=(128, 224, 368, 480), depths=(1, 3, 8, 3), drop_path_rate=0.3),
    }
) | {
    # For demos and tests.
    "MPVIT_TINY": MPViTSpec(
        widths=(64, 64, 96, 128),
        depths=(2, 2, 1, 1),
        paths=(1, 2, 2, 1),
        windows=((3, 2), (5, 2)),
        mlp_ratio=2,
    ),
}


def spec_from_config(cfg: Any) -> MPViTSpec:
    """The spec that a config's MPVIT section describes."""
    return spec_from_section(cfg, cfg.MPVIT, PRESETS, relative_time=cfg.MPVIT.RELATIVE_TIME)
