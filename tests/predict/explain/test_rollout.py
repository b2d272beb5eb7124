"""Rollout: shares stay whole on every grid, and go where the attention goes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from mvit_video.models.mvit import MViT
from mvit_video.predict.explain.rollout import head_share, roll_back, rollout, trace
from tests.weights.small_models import IMAGE_V2, MASKFEAT, V1, V2, VIT, clip_for

SPECS = {
    "v1": V1,
    "v2": V2,
    "maskfeat": MASKFEAT,
    "vit": VIT,
    "image": IMAGE_V2,
    "max": replace(V1, pool_mode="max"),
    "avg": replace(V2, pool_mode="avg"),
    "pool first": replace(V1, pool_first=True, pool_mode="conv_unshared"),
    "replicate": replace(V2, temporal_padding="replicate"),
    "kernels by stride": replace(V1, pool_kernel=None),
}


@pytest.mark.parametrize("which", SPECS)
def test_every_row_of_the_rollout_sums_to_one(which):
    torch.manual_seed(0)
    model = MViT(SPECS[which]).eval()
    steps = trace(model, clip_for(SPECS[which])[:1])
    num_tokens = len(head_share(model, steps))
    rows = [torch.eye(num_tokens)[row] for row in (0, 1, num_tokens // 2, num_tokens - 1)]
    for share in (*rows, head_share(model, steps)):
        for blind in (False, True):
            back = roll_back(steps, share, blind)
            assert (back >= 0).all()
            torch.testing.assert_close(back.sum(), torch.tensor(1.0))
    assert len(back) == torch.tensor(steps[0].thw).prod() + SPECS[which].class_token


@pytest.mark.parametrize("which", ["v1", "v2", "maskfeat", "vit", "max", "avg", "pool first"])
def test_a_model_that_attends_to_one_place_lights_that_place(which):
    spec = SPECS[which]
    model = attends_to_brightness(spec)
    for place in ((1, 2, 3), (0, 1, 0)):
        clip = torch.zeros(1, 3, spec.num_frames, spec.crop_size, spec.crop_size)
        t, h, w = (slice(i * s, (i + 1) * s) for i, s in zip(place, spec.patch_stride, strict=True))
        clip[:, :, t, h, w] = 1.0
        heat = rollout(model, clip)
        brightest = torch.tensor(heat.shape)
        brightest = torch.unravel_index(heat.argmax(), heat.shape)
        reach = max((pool.stride[1] for pool in _pools(spec)), default=1)
        assert all(abs(int(b) - p) <= reach for b, p in zip(brightest, place, strict=True))
        near = tuple(slice(max(p - reach, 0), p + reach + 1) for p in place)
        assert heat[near].sum() > 0.5 * heat.sum()


def _pools(spec):
    return [block.pool_kv for block in spec.blocks if block.pool_kv]


@torch.no_grad()
def attends_to_brightness(spec) -> MViT:
    """Every token carries the brightness of its cube in channel 0, unchanged; every query asks for it."""
    model = MViT(spec).eval()
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    model.patch_embed.proj.weight[0] = 1.0
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
    for block in model.blocks:
        attn = block.attn
        if block.proj is not None:
            block.proj.weight.copy_(torch.eye(*block.proj.weight.shape))
        for name in ("pool_q", "pool_k", "pool_v"):
            pool = getattr(attn, name)
            if hasattr(pool, "weight"):
                middle = tuple(k // 2 for k in pool.kernel)
                pool.weight[(slice(None), 0, *middle)] = 1.0
        dim = attn.proj.weight.shape[1]
        heads = torch.arange(attn.num_heads) * (dim // attn.num_heads)
        if hasattr(attn, "qkv"):
            weight, bias = attn.qkv.weight, attn.qkv.bias
            weight[dim + heads, 0] = 10.0
            bias[heads] = 100.0
        else:
            attn.k.weight[heads, 0] = 10.0
            attn.q.bias[heads] = 100.0
        for norm in (attn.norm_q, attn.norm_k):
            if norm is not None:
                norm.weight.fill_(30.0)
    return model


def test_the_head_reads_the_class_token_or_the_mean_of_the_others():
    for spec, wanted in ((V1, "token"), (MASKFEAT, "others"), (IMAGE_V2, "all")):
        model = MViT(spec).eval()
        share = head_share(model, trace(model, clip_for(spec)[:1]))
        if wanted == "token":
            assert share[0] == 1 and share[1:].sum() == 0
        elif wanted == "others":
            assert share[0] == 0 and len(share[1:].unique()) == 1
        else:
            assert len(share.unique()) == 1


def test_even_attention_leaves_nothing_to_draw():
    model = attends_to_brightness(VIT)
    heat = rollout(model, torch.zeros(1, 3, VIT.num_frames, VIT.crop_size, VIT.crop_size))
    assert heat.shape == VIT.grid
    torch.testing.assert_close(heat, torch.zeros(VIT.grid))
