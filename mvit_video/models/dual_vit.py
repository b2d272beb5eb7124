"""Dual-ViT (Yao et al., "Dual Vision Transformer", arXiv 2207.04976, TPAMI 2023) for clips.

Two paths run side by side. The pixel path holds the cube of tokens; the semantic path holds a few
tokens that stand for the whole. In the first two stages (dual blocks) semantics attend to each
other, then to the pixels, and the pixels attend to the semantics: the cost is linear in the pixels.
In the last two (merge blocks) all tokens attend to all.

In a clip the semantic tokens are pooled over `semantic_pool_t` time steps, so a semantic token and
a pixel stand for different numbers of steps. Wherever both are keys of one softmax, each key's
logit gains the log of the steps it stands for, and their mean is weighted by it. So a clip that
stands still gives exactly what its frame gives.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mvit_video.errors import InputError
from mvit_video.layers.attention import LowRankBias, key_bias
from mvit_video.layers.convolution import (
    ConvNorm,
    CubeConv,
    DepthwiseConv,
    FrameConv,
    average_pool,
    init_convolution_,
)
from mvit_video.layers.heads import multi_head
from mvit_video.layers.layer_scale import LayerScale
from mvit_video.layers.mlp import DropPath, Mlp
from mvit_video.layers.recomputed import normalise, recomputed
from mvit_video.models.blocks import Block
from mvit_video.models.dual_vit_spec import MERGE_FROM, DualViTSpec
from mvit_video.models.inflated import InflatedModel, temporal_position

Grid = tuple[int, int, int]

QUERY_SIDE = 8  # the learned semantic queries are an 8 x 8 grid
SEMANTIC_SIDE = 7  # a semantic token begins as an average of 7 x 7 tokens of the stem
NORM_EPS = 1e-6  # of the blocks' norms; the norms of embeddings and semantics have torch's 1e-5, as published


class DualViT(InflatedModel):
    """Clip (B, 3, T, H, W), or images (B, 3, H, W), of 28 pixels a side or more to logits (B,
    num_classes).
    """

    def __init__(self, spec: DualViTSpec) -> None:
        super().__init__(spec)
        self.stem = Stem(spec)
        self.position = temporal_position(spec)
        self.semantics = SemanticTokens(spec.widths[0], spec.semantic_pool_t)
        rates = iter(spec.drop_path_rates(sum(spec.depths)))
        self.stages = nn.ModuleList(
            Stage(spec, index, [next(rates) for _ in range(depth)])
            for index, depth in enumerate(spec.depths)
        )
        width = spec.widths[-1]
        self.class_block = ClassBlock(width, spec.heads[-1], spec.class_mlp_ratio)
        self.norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.dropout = nn.Dropout(spec.dropout_rate)
        self.head = nn.Linear(width, spec.num_classes)
        self.aux_head = nn.Linear(width, spec.num_classes) if spec.aux_head else None
        self.init_weights()

    def forward(self, clip: Tensor) -> Tensor:
        tokens, thw = self.forward_features(clip)
        logits = self.head(self.dropout(tokens[:, 0]))
        if self.aux_head is not None:
            pixels = tokens[:, 1 : 1 + math.prod(thw)]
            logits = logits + 0.5 * self.aux_head(pixels).amax(dim=1)
        return logits

    def forward_features(self, clip: Tensor) -> tuple[Tensor, Grid]:
        """Normalised tokens (B, 1 + N + M, C) as the heads read them, class token, pixels,
        semantics, and the pixels' grid.
        """
        pixels, semantics, steps = self._stages(clip)[-1]
        return self.norm(self.class_block(pixels, semantics, steps)), tuple(pixels.shape[1:4])

    def _cubes(self, clip: Tensor) -> list[Tensor]:
        """Each stage's normalised pixels (B, T', H', W', C), at strides 4, 8, 16 and 32."""
        *cubes, last = (pixels for pixels, _, _ in self._stages(clip))
        return [*cubes, self.norm(last)]

    def _stages(self, clip: Tensor) -> list[tuple[Tensor, Tensor, int]]:
        """Of each stage: pixels (B, T', H', W', C), semantics (B, M, C), and the semantics' time
        steps.
        """
        outputs = []
        pixels = self.position(self.stem(self.as_clip(clip)))
        semantics, steps = self.semantics(pixels)
        for stage in self.stages:
            pixels, semantics = stage(pixels, semantics, steps)
            outputs.append((pixels, semantics, steps))
        return outputs

    @torch.no_grad()
    def init_weights(self) -> None:
        """Fresh weights, drawn as published, also after `to_empty` on a model built on the meta
        device.
        """
        super().init_weights()
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
            elif isinstance(module, CubeConv | FrameConv | DepthwiseConv):
                init_convolution_(module)


class Stem(nn.Module):
    """Three convolutions, the first a cube embedding, then the first stage's embedding; together
    they quarter height and width.
    """

    def __init__(self, spec: DualViTSpec) -> None:
        super().__init__()
        width = spec.stem_width
        kernel, stride = (spec.stem_kernel_t, 7), (spec.stem_stride_t, 2)
        embedding = CubeConv(3, width, kernel, stride, spec.temporal_padding, bias=False)
        self.convs = nn.Sequential(
            ConvNorm(embedding, width, nn.ReLU()),
            ConvNorm(FrameConv(width, width, 3, bias=False), width, nn.ReLU()),
            ConvNorm(FrameConv(width, width, 3, bias=False), width, nn.ReLU()),
        )
        self.embed = Embed(FrameConv(width, spec.widths[0], 3, stride=2), spec.widths[0])

    def forward(self, clip: Tensor) -> Tensor:
        return self.embed(self.convs(clip))


class Embed(nn.Module):
    """To a stage's width: pixels by an overlapping 3 x 3 convolution that halves height and width,
    semantics by a linear layer; then LayerNorm.
    """

    def __init__(self, proj: nn.Module, width: int) -> None:
        super().__init__()
        self.proj = proj
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.norm(self.proj(tokens))


class SemanticTokens(nn.Module):
    """The first semantic tokens: learned queries read the pooled pixels, and a gate per channel
    mixes what they read with the pool.

    (In the code of the paper, not in its text.) There are as many tokens as pooled pixels; the 64
    queries are resized to them.
    """

    def __init__(self, width: int, pool_t: int) -> None:
        super().__init__()
        self.pool_t = pool_t
        self.query = nn.Parameter(torch.empty(QUERY_SIDE**2, width))
        self.query_norm = nn.LayerNorm(width)
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(width, 2 * width)
        self.gate = Mlp(width, width, 2 * width, activation=F.relu)
        self.norm = nn.LayerNorm(width)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Small random queries."""
        nn.init.trunc_normal_(self.query, std=0.02)

    def forward(self, pixels: Tensor) -> tuple[Tensor, int]:
        """pixels (B, T, H, W, C) -> semantic tokens (B, M, C) in time-major order, and their time
        steps.
        """
        if min(pixels.shape[2:4]) < SEMANTIC_SIDE:
            raise InputError(
                "the frames are too small for Dual-ViT, which takes 28 pixels a side or more"
            )
        pooled = average_pool(pixels, self.pool_t, SEMANTIC_SIDE)
        batch, steps, height, width, _ = pooled.shape
        pooled = pooled.flatten(1, 3)
        query = self.q(self.query_norm(self._queries(height, width)))
        key, value = self.kv(pooled).chunk(2, dim=-1)
        # The queries are the same at every step, so what they read is too.
        read = multi_head(query.expand(batch, -1, -1), key, value, heads=1).repeat(1, steps, 1)
        gates = self.gate((read + pooled).mean(dim=1, keepdim=True)).unflatten(-1, (2, -1))
        read_gate, pool_gate = gates.softmax(dim=-2).unbind(dim=-2)
        return self.norm(read_gate * read + pool_gate * pooled), steps

    def _queries(self, height: int, width: int) -> Tensor:
        # By count, as published: a grid of 4 x 16 takes the 8 x 8 queries as they are.
        if height * width == len(self.query):
            return self.query
        grid = self.query.t().unflatten(1, (QUERY_SIDE, QUERY_SIDE))[None]
        return F.interpolate(grid, size=(height, width), mode="bicubic")[0].flatten(1).t()


class Stage(nn.Module):
    """Embeds both paths (but for the first stage, whose input is embedded), runs its blocks,
    normalises (but for the last).
    """

    def __init__(self, spec: DualViTSpec, index: int, drop_paths: list[float]) -> None:
        super().__init__()
        width, last = spec.widths[index], index == len(spec.widths) - 1
        self.merges = index >= MERGE_FROM
        self.embed = self.semantic_embed = nn.Identity()
        if index:
            self.embed = Embed(FrameConv(spec.widths[index - 1], width, 3, stride=2), width)
            self.semantic_embed = Embed(nn.Linear(spec.widths[index - 1], width), width)
        block = MergeBlock if self.merges else DualBlock
        self.blocks = nn.ModuleList(
            block(spec, index, j, rate) for j, rate in enumerate(drop_paths)
        )
        self.norm = nn.Identity() if last else nn.LayerNorm(width, eps=NORM_EPS)
        self.semantic_norm = nn.Identity() if last else nn.LayerNorm(width, eps=NORM_EPS)

    def forward(self, pixels: Tensor, semantics: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        pixels, semantics = self.embed(pixels), self.semantic_embed(semantics)
        if self.merges:
            pixels, semantics = self._merge(pixels, semantics, steps)
        else:
            for block in self.blocks:
                pixels, semantics = block(pixels, semantics)
        return self.norm(pixels), self.semantic_norm(semantics)

    def _merge(self, pixels: Tensor, semantics: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        thw = pixels.shape[1:4]
        tokens = torch.cat((pixels.flatten(1, 3), semantics), dim=1)
        bias = step_bias(tokens, (0, thw.numel(), semantics.shape[1]), thw[0], steps)
        for block in self.blocks:
            tokens = block(tokens, thw, bias)
        return tokens[:, : thw.numel()].unflatten(1, thw), tokens[:, thw.numel() :]


class DualBlock(Block):
    """Semantics gather from the pixels, pixels read the semantics, and a convolutional MLP follows."""

    def __init__(self, spec: DualViTSpec, stage: int, block: int, drop_path: float) -> None:
        super().__init__()
        width, heads, self.stage = spec.widths[stage], spec.heads[stage], stage
        self.norm1 = nn.LayerNorm(width, eps=NORM_EPS)
        self.semantic_path = SemanticPath(width, heads, spec.layer_scale, drop_path)
        self.semantic_norm = nn.LayerNorm(width)
        self.attn = CrossAttention(width, heads)
        self.scale1 = LayerScale(width, spec.layer_scale)
        self.norm2 = nn.LayerNorm(width, eps=NORM_EPS)
        self.mlp = ConvMlp(spec, width, spec.mlp_ratio(stage, block))
        self.scale2 = LayerScale(width, spec.layer_scale)
        self.drop_path = DropPath(drop_path)

    def forward(self, pixels: Tensor, semantics: Tensor) -> tuple[Tensor, Tensor]:
        thw = pixels.shape[1:4]
        normed = normalise(self.norm1, pixels).flatten(1, 3)
        semantics = self.semantic_path(semantics, normed)
        read = self.attn(normed, self.semantic_norm(semantics)).unflatten(1, thw)
        pixels = pixels + self.drop_path(self.scale1(read))
        normed = normalise(self.norm2, pixels)
        pixels = pixels + self.drop_path(self.scale2(self.mlp(normed)))
        return pixels, semantics


class SemanticPath(nn.Module):
    """Semantic tokens attend to each other, then to the pixels, then pass an MLP. The attentions
    have no output projection.
    """

    def __init__(self, width: int, heads: int, layer_scale: float, drop_path: float) -> None:
        super().__init__()
        self.heads = heads
        self.self_norm = nn.LayerNorm(width)
        self.self_qkv = nn.Linear(width, 3 * width)
        self.self_scale = LayerScale(width, layer_scale)
        self.cross_norm = nn.LayerNorm(width)
        self.cross_q = nn.Linear(width, width)
        self.cross_kv = nn.Linear(width, 2 * width)
        self.cross_scale = LayerScale(width, layer_scale)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = Mlp(width, 4 * width, activation=F.relu)
        self.mlp_scale = LayerScale(width, layer_scale)
        self.drop_path = DropPath(drop_path)

    def forward(self, semantics: Tensor, pixels: Tensor) -> Tensor:
        """semantics (B, M, C), pixels (B, N, C) already normalised -> (B, M, C)."""
        q, k, v = self.self_qkv(self.self_norm(semantics)).chunk(3, dim=-1)
        semantics = semantics + self.drop_path(self.self_scale(multi_head(q, k, v, self.heads)))
        q = self.cross_q(self.cross_norm(semantics))
        k, v = self.cross_kv(pixels).chunk(2, dim=-1)
        semantics = semantics + self.drop_path(self.cross_scale(multi_head(q, k, v, self.heads)))
        return semantics + self.drop_path(self.mlp_scale(self.mlp(self.mlp_norm(semantics))))


class MergeBlock(Block):
    """Pixels and semantics in one attention; then each has its own MLP under a common norm and
    scale.
    """

    def __init__(self, spec: DualViTSpec, stage: int, block: int, drop_path: float) -> None:
        super().__init__()
        width, self.stage = spec.widths[stage], stage
        self.norm1 = nn.LayerNorm(width, eps=NORM_EPS)
        self.attn = CrossAttention(width, spec.heads[stage])
        self.scale1 = LayerScale(width, spec.layer_scale)
        self.norm2 = nn.LayerNorm(width, eps=NORM_EPS)
        self.mlp = ConvMlp(spec, width, spec.mlp_ratio(stage, block))
        self.semantic_mlp = Mlp(width, 2 * width)
        self.scale2 = LayerScale(width, spec.layer_scale)
        self.drop_path = DropPath(drop_path)

    def forward(self, tokens: Tensor, thw: torch.Size, bias: LowRankBias | None) -> Tensor:
        """tokens (B, N + M, C), pixels first -> the same."""
        normed = normalise(self.norm1, tokens)
        tokens = tokens + self.drop_path(self.scale1(self.attn(normed, normed, bias)))
        normed = normalise(self.norm2, tokens)
        pixels, semantics = normed[:, : thw.numel()].unflatten(1, thw), normed[:, thw.numel() :]
        mixed = torch.cat((self.mlp(pixels).flatten(1, 3), self.semantic_mlp(semantics)), dim=1)
        return tokens + self.drop_path(self.scale2(mixed))


class CrossAttention(nn.Module):
    """Multi-head attention of one token sequence to another, with output projection."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor, context: Tensor, bias: LowRankBias | None = None) -> Tensor:
        key, value = self.kv(context).chunk(2, dim=-1)
        return self.proj(multi_head(self.q(tokens), key, value, self.heads, bias))


class ConvMlp(nn.Module):
    """Linear, depthwise 3 x 3 convolution, GELU, linear, on a cube."""

    def __init__(self, spec: DualViTSpec, width: int, ratio: int) -> None:
        super().__init__()
        hidden = ratio * width
        self.fc1 = nn.Linear(width, hidden)
        self.depthwise = spec.depthwise(hidden, 3)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, cube: Tensor) -> Tensor:
        return self.fc2(recomputed(F.gelu, self.depthwise(self.fc1(cube))))


class ClassBlock(nn.Module):
    """Makes a class token, the mean of all tokens, and lets it attend to them and itself."""

    def __init__(self, width: int, heads: int, mlp_ratio: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=NORM_EPS)
        self.attn = CrossAttention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=NORM_EPS)
        self.mlp = Mlp(width, mlp_ratio * width)

    def forward(self, pixels: Tensor, semantics: Tensor, steps: int) -> Tensor:
        """pixels (B, T, H, W, C), semantics (B, M, C) of `steps` time steps -> class token, pixels,
        semantics (B, 1 + N + M, C).
        """
        frames, ratio = pixels.shape[1], pixels.shape[1] / steps
        tokens = torch.cat((pixels.flatten(1, 3), semantics), dim=1)
        num_pixels, num_semantics = tokens.shape[1] - semantics.shape[1], semantics.shape[1]
        total = tokens[:, :num_pixels].sum(dim=1) + ratio * semantics.sum(dim=1)
        token = (total / (num_pixels + ratio * num_semantics))[:, None]
        tokens = torch.cat((token, tokens), dim=1)
        normed = self.norm1(tokens)
        bias = step_bias(tokens, (1, num_pixels, num_semantics), frames, steps)
        token = token + self.attn(normed[:, :1], normed, bias)
        token = token + self.mlp(self.norm2(token))
        return torch.cat((token, tokens[:, 1:]), dim=1)


def step_bias(
    like: Tensor, counts: tuple[int, int, int], frames: int, steps: int
) -> LowRankBias | None:
    """Log of the time steps that each key stands for, as an attention bias; None where it is the
    same for all.

    Args:
        like: gives dtype and device.
        counts: class tokens, pixels and semantic tokens, in the keys' order.
        frames: time steps of the pixels, of which a pixel stands for one and a class token for all.
        steps: time steps of the semantics; one stands for frames / steps, also where pooling left a
            rest out.
    """
    if frames == steps and (frames == 1 or counts[0] == 0):
        return None
    logs = (math.log(frames), 0.0, math.log(frames / steps))
    parts = [like.new_full((count,), log) for count, log in zip(counts, logs, strict=True)]
    return key_bias(torch.cat(parts))
