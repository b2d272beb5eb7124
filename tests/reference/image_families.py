"""The published image models of Dual-ViT, MPViT and CloFormer, spelled out over weights with their official names.

Written from the description of what the public code does, operation by operation and slowly, sharing nothing with the
package: `p(name, *shape)` gives the weight of that name. With a `Recorder` for p a pass tells which weights there are.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# name: (function's name, its sizes)
SIZES = {
    "DUALVIT_S": {"dims": (64, 128, 320, 448), "depths": (3, 4, 6, 3), "stem": 32},
    "DUALVIT_B": {"dims": (64, 128, 320, 512), "depths": (3, 4, 15, 3), "stem": 64},
    "DUALVIT_L": {"dims": (96, 192, 384, 512), "depths": (3, 6, 21, 3), "stem": 64},
    "MPVIT_T": {"dims": (64, 96, 176, 216), "depths": (1, 2, 4, 1), "ratio": 2},
    "MPVIT_XS": {"dims": (64, 128, 192, 256), "depths": (1, 2, 4, 1), "ratio": 4},
    "MPVIT_S": {"dims": (64, 128, 216, 288), "depths": (1, 3, 6, 3), "ratio": 4},
    "MPVIT_B": {"dims": (128, 224, 368, 480), "depths": (1, 3, 8, 3), "ratio": 4},
    "CLOFORMER_XXS": {"dims": (32, 64, 128, 256), "heads": ((3, 1), (2, 2), (4, 4), (4, 12))},
    "CLOFORMER_XS": {"dims": (48, 96, 160, 352), "heads": ((2, 1), (3, 3), (5, 5), (7, 15))},
    "CLOFORMER_S": {"dims": (64, 128, 224, 448), "heads": ((3, 1), (4, 4), (7, 7), (7, 21))},
}


class Recorder(dict):
    """Weights without numbers; remembers which were asked for. Works on the meta device."""

    def __call__(self, name: str, *shape: int) -> Tensor:
        assert self.setdefault(name, shape) == shape, name
        return torch.empty(shape, device="meta")


class Weights(dict):
    """A state dict that checks the shape of what is asked for."""

    def __call__(self, name: str, *shape: int) -> Tensor:
        assert self[name].shape == shape, name
        return self[name]


def run(name: str, p: Recorder | Weights, image: Tensor) -> Tensor:
    """Logits (B, 1000) of the variant `name` for images (B, 3, H, W)."""
    family = {"D": dual_vit, "M": mpvit, "C": cloformer}[name[0]]
    return family(p, image, **SIZES[name])


def _linear(p, name: str, x: Tensor, width: int) -> Tensor:
    return F.linear(x, p(f"{name}.weight", width, x.shape[-1]), p(f"{name}.bias", width))


def _conv(p, name, x, width, kernel, stride=1, groups=1, bias=True) -> Tensor:
    weight = p(f"{name}.weight", width, x.shape[1] // groups, kernel, kernel)
    shift = p(f"{name}.bias", width) if bias else None
    return F.conv2d(x, weight, shift, stride, kernel // 2, groups=groups)


def _affine(p, name: str, width: int) -> tuple[Tensor, Tensor]:
    return p(f"{name}.weight", width), p(f"{name}.bias", width)


def _layer_norm(p, name: str, x: Tensor, eps: float = 1e-5) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], *_affine(p, name, x.shape[-1]), eps)


def _batch_norm(p, name: str, x: Tensor) -> Tensor:
    p(f"{name}.num_batches_tracked")
    mean, var = (p(f"{name}.running_{kind}", x.shape[1]) for kind in ("mean", "var"))
    weight, bias = _affine(p, name, x.shape[1])
    x = (x - mean[:, None, None]) / (var[:, None, None] + 1e-5).sqrt()
    return x * weight[:, None, None] + bias[:, None, None]


def _group_norm(p, name: str, x: Tensor) -> Tensor:
    return F.group_norm(x, 1, *_affine(p, name, x.shape[1]))


def _tokens(x: Tensor) -> Tensor:
    return x.flatten(2).transpose(1, 2)


def _map(x: Tensor, size: tuple[int, int]) -> Tensor:
    return x.transpose(1, 2).unflatten(2, size)


def _attend(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    weights = (q @ k.mT * q.shape[-1] ** -0.5).softmax(dim=-1)
    return (weights @ v).transpose(1, 2).flatten(2)


# ---------------------------------------------------------------------------------- Dual-ViT


def dual_vit(p, image: Tensor, dims, depths, stem: int) -> Tensor:
    """With its auxiliary head; heads of 32 channels everywhere."""
    x = image
    for conv, width, kernel in ((0, stem, 7), (3, stem, 3), (6, stem, 3)):
        x = _conv(p, f"patch_embed1.conv.{conv}", x, width, kernel, 1 if conv else 2, bias=False)
        x = _batch_norm(p, f"patch_embed1.conv.{conv + 1}", x).relu()
    x = _conv(p, "patch_embed1.proj", x, dims[0], 3, 2)
    size, x = x.shape[2:], _layer_norm(p, "patch_embed1.norm", _tokens(x))
    z = _semantics(p, _map(x, size), dims[0])
    for stage, (width, depth) in enumerate(zip(dims, depths, strict=True), start=1):
        if stage > 1:
            x = _conv(p, f"patch_embed{stage}.proj", _map(x, size), width, 3, 2)
            size, x = x.shape[2:], _layer_norm(p, f"patch_embed{stage}.norm", _tokens(x))
            z = _linear(p, f"proxy_embed{stage}.proj_proxy.0", z, width)
            z = _layer_norm(p, f"proxy_embed{stage}.proj_proxy.1", z)
        for j in range(depth):
            ratio = (8, 8, 4, 3)[stage - 1] - (stage == 3 and j % 2)
            block = _dual_block if stage < 3 else _merge_block
            x, z = block(p, f"block{stage}.{j}", x, z, size, ratio)
        if stage < 4:
            x = _layer_norm(p, f"norm{stage}", x, 1e-6)
            z = _layer_norm(p, f"norm_proxy{stage}", z, 1e-6)
    t = torch.cat((x, z), dim=1)
    t = torch.cat((t.mean(dim=1, keepdim=True), t), dim=1)
    normed, name = _layer_norm(p, "post_network.0.norm1", t, 1e-6), "post_network.0"
    k, v = _linear(p, f"{name}.attn.kv", normed, 2 * width).chunk(2, dim=-1)
    q = _linear(p, f"{name}.attn.q", normed[:, :1], width)
    c = t[:, :1] + _linear(p, f"{name}.attn.proj", _attend(q, k, v, width // 32), width)
    hidden = F.gelu(
        _linear(p, f"{name}.mlp.fc1", _layer_norm(p, f"{name}.norm2", c, 1e-6), 2 * width)
    )
    c = c + _linear(p, f"{name}.mlp.fc2", hidden, width)
    t = _layer_norm(p, "norm4", torch.cat((c, t[:, 1:]), dim=1), 1e-6)
    aux = _linear(p, "aux_head", t[:, 1 : 1 + x.shape[1]], 1000)
    return _linear(p, "head", t[:, 0], 1000) + 0.5 * aux.amax(dim=1)


def _semantics(p, x: Tensor, width: int) -> Tensor:
    pool = F.avg_pool2d(x, 7)
    size, pool, query = pool.shape[2:], _tokens(pool), p("q", 64, width)
    if size.numel() != 64:
        grid = query.t().reshape(1, width, 8, 8)
        query = _tokens(F.interpolate(grid, size=tuple(size), mode="bicubic"))[0]
    query = _linear(p, "q_embed.1", _layer_norm(p, "q_embed.0", query), width)
    k, v = _linear(p, "kv", pool, 2 * width).chunk(2, dim=-1)
    read = _attend(query.expand(len(pool), -1, -1), k, v, 1)
    gate = _linear(p, "se.0", (read + pool).mean(dim=1), width).relu()
    gate = _linear(p, "se.2", gate, 2 * width).view(-1, 2, 1, width).softmax(dim=1)
    return _layer_norm(p, "proxy_ln", gate[:, 0] * read + gate[:, 1] * pool)


def _dual_block(p, name: str, x: Tensor, z: Tensor, size, ratio: int) -> tuple[Tensor, Tensor]:
    width, attn = x.shape[-1], f"{name}.attn"
    heads, scales = width // 32, [p(f"{attn}.gamma{i}", width) for i in (1, 2, 3)]
    normed = _layer_norm(p, f"{name}.norm1", x, 1e-6)
    qkv = _linear(p, f"{attn}.qkv_proxy.1", _layer_norm(p, f"{attn}.qkv_proxy.0", z), 3 * width)
    z = z + scales[0] * _attend(*qkv.chunk(3, dim=-1), heads)
    q = _linear(p, f"{attn}.q_proxy", _layer_norm(p, f"{attn}.q_proxy_ln", z), width)
    k, v = _linear(p, f"{attn}.kv_proxy", normed, 2 * width).chunk(2, dim=-1)
    z = z + scales[1] * _attend(q, k, v, heads)
    hidden = _linear(p, f"{attn}.mlp_proxy.0", _layer_norm(p, f"{attn}.p_ln", z), 4 * width).relu()
    z = z + scales[2] * _linear(p, f"{attn}.mlp_proxy.2", hidden, width)
    kv = _linear(p, f"{attn}.kv", _layer_norm(p, f"{attn}.proxy_ln", z), 2 * width)
    read = _attend(_linear(p, f"{attn}.q", normed, width), *kv.chunk(2, dim=-1), heads)
    x = x + p(f"{name}.gamma1", width) * _linear(p, f"{attn}.proj", read, width)
    mixed = _conv_mlp(p, f"{name}.mlp", _layer_norm(p, f"{name}.norm2", x, 1e-6), size, ratio)
    return x + p(f"{name}.gamma2", width) * mixed, z


def _merge_block(p, name: str, x: Tensor, z: Tensor, size, ratio: int) -> tuple[Tensor, Tensor]:
    width, pixels, t = x.shape[-1], x.shape[1], torch.cat((x, z), dim=1)
    normed = _layer_norm(p, f"{name}.norm1", t, 1e-6)
    k, v = _linear(p, f"{name}.attn.kv", normed, 2 * width).chunk(2, dim=-1)
    read = _attend(_linear(p, f"{name}.attn.q", normed, width), k, v, width // 32)
    t = t + p(f"{name}.gamma1", width) * _linear(p, f"{name}.attn.proj", read, width)
    normed = _layer_norm(p, f"{name}.norm2", t, 1e-6)
    hidden = F.gelu(_linear(p, f"{name}.mlp.fc_proxy.0", normed[:, pixels:], 2 * width))
    mixed = _conv_mlp(p, f"{name}.mlp", normed[:, :pixels], size, ratio)
    mixed = torch.cat((mixed, _linear(p, f"{name}.mlp.fc_proxy.2", hidden, width)), dim=1)
    t = t + p(f"{name}.gamma2", width) * mixed
    return t[:, :pixels], t[:, pixels:]


def _conv_mlp(p, name: str, x: Tensor, size, ratio: int) -> Tensor:
    hidden = _map(_linear(p, f"{name}.fc1", x, ratio * x.shape[-1]), size)
    hidden = _conv(p, f"{name}.dwconv.dwconv", hidden, len(hidden[0]), 3, groups=len(hidden[0]))
    return _linear(p, f"{name}.fc2", F.gelu(_tokens(hidden)), x.shape[-1])


# ---------------------------------------------------------------------------------- MPViT


def mpvit(p, image: Tensor, dims, depths, ratio: int) -> Tensor:
    """Paths 2, 3, 3, 3; 8 heads everywhere, in windows of 3, 5 and 7."""
    x = image
    for i, width in enumerate((dims[0] // 2, dims[0])):
        x = F.hardswish(_conv_bn(p, f"stem.{i}", x, width, 3, 2))
    for stage, (width, depth) in enumerate(zip(dims, depths, strict=True)):
        name, scales = f"mhca_stages.{stage}", []
        for path in range(2 if stage == 0 else 3):
            embed = f"patch_embed_stages.{stage}.patch_embeds.{path}"
            stride = 2 if stage and not path else 1
            x = _conv(p, f"{embed}.patch_conv.dwconv", x, width, 3, stride, width, bias=False)
            x = _conv(p, f"{embed}.patch_conv.pwconv", x, width, 1, bias=False)
            x = F.hardswish(_batch_norm(p, f"{embed}.patch_conv.bn", x))
            scales.append(x)
        y = F.hardswish(_conv_bn(p, f"{name}.InvRes.conv1", scales[0], width, 1))
        y = _conv(p, f"{name}.InvRes.dwconv", y, width, 3, groups=width, bias=False)
        y = F.hardswish(_batch_norm(p, f"{name}.InvRes.norm", y))
        branches = [scales[0] + _conv_bn(p, f"{name}.InvRes.conv2", y, width, 1)]
        for path, scale in enumerate(scales):
            for layer in range(depth):
                scale = _mhca_layer(p, f"{name}.mhca_blks.{path}", layer, scale, ratio)
            branches.append(scale)
        joined, out = torch.cat(branches, dim=1), dims[min(stage + 1, 3)]
        x = F.hardswish(_conv_bn(p, f"{name}.aggregate", joined, out, 1))
    return _linear(p, "cls_head.cls", x.mean(dim=(2, 3)), 1000)


def _conv_bn(p, name: str, x: Tensor, width: int, kernel: int, stride: int = 1) -> Tensor:
    x = _conv(p, f"{name}.conv", x, width, kernel, stride, bias=False)
    return _batch_norm(p, f"{name}.bn", x)


def _mhca_layer(p, path: str, layer: int, x: Tensor, ratio: int) -> Tensor:
    width, size, name = x.shape[1], x.shape[2:], f"{path}.MHCA_layers.{layer}"
    attn, head = f"{name}.factoratt_crpe", x.shape[1] // 8
    x = _tokens(x + _conv(p, f"{path}.cpe.proj", x, width, 3, groups=width))
    normed = _layer_norm(p, f"{name}.norm1", x, 1e-6)
    q, k, v = _linear(p, f"{attn}.qkv", normed, 3 * width).chunk(3, dim=-1)
    windows = zip(
        (3, 5, 7), _map(v, size).split((2 * head, 3 * head, 3 * head), dim=1), strict=True
    )
    encoded = [
        _conv(p, f"{path}.crpe.conv_list.{i}", part, part.shape[1], side, groups=part.shape[1])
        for i, (side, part) in enumerate(windows)
    ]
    position = q * _tokens(torch.cat(encoded, dim=1))
    q, k, v = (t.unflatten(-1, (8, -1)).transpose(1, 2) for t in (q, k, v))
    read = head**-0.5 * (q @ (k.softmax(dim=2).mT @ v))
    x = x + _linear(p, f"{attn}.proj", read.transpose(1, 2).flatten(2) + position, width)
    hidden = _linear(p, f"{name}.mlp.fc1", _layer_norm(p, f"{name}.norm2", x, 1e-6), ratio * width)
    return _map(x + _linear(p, f"{name}.mlp.fc2", F.gelu(hidden), width), size)


# ---------------------------------------------------------------------------------- CloFormer


def cloformer(p, image: Tensor, dims, heads) -> Tensor:
    """Depths 2, 2, 6, 2; windows that reach over the edge average what there is."""
    x = image
    for i, (width, stride) in enumerate(
        ((dims[0] // 2, 2), (dims[0], 2), (dims[0], 1), (dims[0], 1)), 1
    ):
        x = _conv(p, f"patch_embed.conv{i}.conv.0", x, width, 3, stride)
        x = _batch_norm(p, f"patch_embed.conv{i}.conv.1", x).relu()
    x = _conv(p, "patch_embed.conv5", x, dims[0], 1)
    x = _group_norm(p, "patch_embed.layernorm", x)
    for stage, depth in enumerate((2, 2, 6, 2)):
        for j in range(depth):
            down = dims[stage + 1] if j == depth - 1 and stage < 3 else 0
            x = _clo_block(p, f"layers.{stage}.blocks.{j}", x, stage, heads[stage], down)
    x = _group_norm(p, "norm", x)
    return _linear(p, "head", x.mean(dim=(2, 3)), 1000)


def _clo_block(p, name: str, x: Tensor, stage: int, heads, down: int) -> Tensor:
    width, attn = x.shape[1], f"{name}.attn"
    high, low = (width // sum(heads) * number for number in heads)
    normed = _group_norm(p, f"{name}.norm1", x)
    qkv = _conv(p, f"{attn}.qkvs.0", normed, 3 * high, 1)
    q, k, v = _conv(p, f"{attn}.convs.0", qkv, 3 * high, 3 + 2 * stage, groups=3 * high).chunk(3, 1)
    gate = F.silu(_conv(p, f"{attn}.act_blocks.0.act_block.0", q * k, high, 1))
    gate = _conv(p, f"{attn}.act_blocks.0.act_block.2", gate, high, 1)
    local = (gate * (width // sum(heads)) ** -0.5).tanh() * v
    q = _conv(p, f"{attn}.global_q", normed, low, 1)
    side = 8 >> stage
    pooled = F.avg_pool2d(normed, side, ceil_mode=True, count_include_pad=False)
    k, v = _conv(p, f"{attn}.global_kv", pooled, 2 * low, 1).chunk(2, dim=1)
    read = _map(_attend(_tokens(q), _tokens(k), _tokens(v), heads[1]), x.shape[2:])
    x = x + _conv(p, f"{attn}.proj", torch.cat((local, read), dim=1), width, 1)
    hidden = F.gelu(_conv(p, f"{name}.mlp.fc1", _group_norm(p, f"{name}.norm2", x), 4 * width, 1))
    hidden = _conv(p, f"{name}.mlp.dwconv", hidden, 4 * width, 5, 2 if down else 1, 4 * width)
    mixed = _conv(p, f"{name}.mlp.fc2", hidden, down or width, 1)
    if down:
        x = _batch_norm(p, f"{name}.downsample.1", _conv(p, f"{name}.downsample.0", x, width, 5, 2))
        x = _conv(p, f"{name}.downsample.2", x, down, 1)
    return x + mixed
