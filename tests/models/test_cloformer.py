"""CloFormer against published logits and its building blocks against their formulas."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mvit_video.layers.convolution import FrameNorm, average_pool, to_frames
from mvit_video.models.cloformer import PRESETS, AttnConv, CloBlock, ConvFFN, PooledAttention
from mvit_video.weights import model_from_checkpoint
from tests.models.inflation import build_random, difference, randomise, spec_of
from tests.weights.seeded import seeded_input, seeded_state_dict

FIXTURE = json.loads((Path(__file__).parent.parent / "fixtures" / "cloformer_xxs.json").read_text())


def test_published_logits_come_out():
    model = model_from_checkpoint(seeded_state_dict(FIXTURE["state_dict"]), num_frames=1)
    for run in FIXTURE["runs"]:
        with torch.inference_mode():
            logits = model(seeded_input(run["input_shape"], run["input_seed"]))
        assert difference(logits, torch.tensor(run["logits"])) < 2e-6


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"state_dict": {f"module.{key}": t for key, t in state.items()}, "epoch": 3},
        lambda state: {"model": {"state_dict": state}},
        lambda state: {k: t for k, t in state.items() if not k.endswith("num_batches_tracked")},
    ],
    ids=["timm", "twice", "no counters"],
)
def test_wrapped_and_incomplete_files_are_understood(wrap):
    state = seeded_state_dict(FIXTURE["state_dict"])
    model = model_from_checkpoint(wrap(state))
    assert torch.equal(model.head.weight, state["head.weight"])


@pytest.mark.parametrize("size", [(112, 112), (240, 240), (256, 340), (32, 57)])
def test_sizes_that_the_public_code_refuses_run(size):
    model = build_random("CLOFORMER_XXS", image=True).float()
    with torch.no_grad():
        levels = model.forward_pyramid(torch.randn(1, 3, *size))
        assert model(torch.randn(1, 3, *size)).isfinite().all()
    for level, stride in zip(levels, (4, 8, 16, 32), strict=True):
        assert level.shape[-2:] == tuple(-(-extent // stride) for extent in size)


@pytest.mark.parametrize("scope", ["frame", "clip"])
def test_the_norm_is_a_group_norm_with_one_group(scope):
    norm = randomise(FrameNorm(6, scope))
    cube = torch.randn(2, 3, 4, 5, 6)
    if scope == "frame":
        expected = F.group_norm(to_frames(cube), 1, norm.weight, norm.bias)
        expected = expected.permute(0, 2, 3, 1).view_as(cube)
    else:
        expected = F.group_norm(cube.permute(0, 4, 1, 2, 3), 1, norm.weight, norm.bias)
        expected = expected.permute(0, 2, 3, 4, 1)
    torch.testing.assert_close(norm(cube), expected)


def test_local_heads_gate_the_convolved_value():
    """x -> q, k, v by one depthwise convolution; tanh(W2 swish(W1 (q * k)) / sqrt(d)) * v."""
    spec = spec_of("CLOFORMER_TINY", image=True)
    local = randomise(AttnConv(spec, width=16, heads=2, head_width=4, kernel=5))
    x = torch.randn(1, 1, 6, 7, 16)
    image = x[:, 0].permute(0, 3, 1, 2)
    qkv = F.conv2d(image, local.qkv.weight[:, :, None, None], local.qkv.bias)
    qkv = F.conv2d(qkv, local.depthwise.weight, local.depthwise.bias, padding=2, groups=24)
    q, k, v = qkv.chunk(3, dim=1)
    first, _, second = local.gate
    gate = F.conv2d(q * k, first.weight[:, :, None, None], first.bias)
    gate = F.conv2d(F.silu(gate), second.weight[:, :, None, None], second.bias)
    expected = torch.tanh(gate / 4**0.5) * v
    torch.testing.assert_close(local(x)[:, 0].permute(0, 3, 1, 2), expected)


def test_pooled_heads_attend_to_window_means_over_the_whole_clip():
    pooled = randomise(PooledAttention(width=8, heads=2, head_width=4, window=(2, 4)))
    x = torch.randn(2, 3, 9, 8, 8)  # with a rest in time and in height
    means = F.avg_pool3d(x.permute(0, 4, 1, 2, 3), (2, 4, 4), ceil_mode=True)
    means = means.flatten(2).transpose(1, 2)
    assert means.shape[1] == 2 * 3 * 2
    q = pooled.q(x.flatten(1, 3))
    k, v = pooled.kv(means).chunk(2, dim=-1)
    for head in range(2):
        part = slice(4 * head, 4 * head + 4)
        weights = (q[..., part] @ k[..., part].mT / 2).softmax(dim=-1)
        torch.testing.assert_close(pooled(x).flatten(1, 3)[..., part], weights @ v[..., part])


def test_rest_windows_average_the_tokens_there_are():
    cube = torch.randn(1, 3, 5, 7, 2)
    found = average_pool(cube, 2, 4, ceil_mode=True)
    assert found.shape == (1, 2, 2, 2, 2)
    torch.testing.assert_close(found[0, 1, 1, 1], cube[0, 2:, 4:, 4:].mean(dim=(0, 1, 2)))


def test_a_stage_ends_in_a_block_that_halves_and_widens():
    spec = spec_of("CLOFORMER_TINY", image=True)
    block = randomise(CloBlock(spec, stage=0, index=1, drop_path=0.0)).eval()
    x = torch.randn(1, 1, 9, 8, 48)
    out, mixed = block(x)
    assert out.shape == (1, 1, 5, 4, 64)
    torch.testing.assert_close(mixed, x + block.attn(block.norm1(x)))
    down = block.skip.down
    assert (
        isinstance(down.conv, nn.Conv2d) and down.conv.groups == 1
    )  # dense, whatever the paper draws
    expected = block.skip.proj(down(mixed)) + block.mlp(block.norm2(mixed))
    torch.testing.assert_close(out, expected)


def test_the_feed_forward_convolves_after_the_activation():
    mlp = randomise(ConvFFN(spec_of("CLOFORMER_TINY", image=True), 8, 12, stride=2))
    x = torch.randn(1, 1, 6, 6, 8)
    hidden = F.gelu(mlp.fc1(x))[:, 0].permute(0, 3, 1, 2)
    hidden = F.conv2d(
        hidden, mlp.depthwise.weight, mlp.depthwise.bias, stride=2, padding=1, groups=16
    )
    torch.testing.assert_close(mlp(x)[:, 0], mlp.fc2(hidden.permute(0, 2, 3, 1)))


def test_frame_statistics_do_not_depend_on_the_clip_length():
    """With nothing else along time, a frame's features are the image's, whatever surrounds it."""
    changes = {"stem_kernel_t": 1, "stem_stride_t": 1, "depthwise_time": "none"}
    clip = torch.randn(1, 3, 4, 32, 32, dtype=torch.float64)
    for scope, same in (("frame", True), ("clip", False)):
        model = build_random("CLOFORMER_TINY", norm_scope=scope, **changes)
        with torch.no_grad():
            whole, single = model.stem(clip), model.stem(clip[:, :, 2:3])
        assert (difference(whole[:, 2:3], single) < 1e-12) is same


def test_presets_split_their_heads_as_published():
    for name, width in (("CLOFORMER_XXS", (8, 16, 16, 16)), ("CLOFORMER_S", (16, 16, 16, 16))):
        spec = PRESETS[name]
        found = [w // sum(h) for w, h in zip(spec.widths, spec.heads, strict=True)]
        assert tuple(found) == width
