"""Dual-ViT against published logits and its building blocks against their formulas."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from mvit_video.errors import InputError
from mvit_video.models.dual_vit import ClassBlock, DualBlock, MergeBlock, SemanticTokens, step_bias
from mvit_video.models.dual_vit_spec import PRESETS
from mvit_video.weights import load_weights, model_from_checkpoint
from tests.models.inflation import build, build_random, difference, randomise, spec_of
from tests.weights.seeded import seeded_input, seeded_state_dict

FIXTURE = json.loads((Path(__file__).parent.parent / "fixtures" / "dualvit_s.json").read_text())


def attend(q, k, v, heads, log_counts=None):
    """Softmax attention spelled out, with an optional number added to each key's logits."""
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    logits = q @ k.mT / math.sqrt(q.shape[-1])
    if log_counts is not None:
        logits = logits + log_counts
    return (logits.softmax(dim=-1) @ v).transpose(1, 2).flatten(2)


def test_published_logits_come_out_with_the_auxiliary_head():
    model = model_from_checkpoint(seeded_state_dict(FIXTURE["state_dict"]), num_frames=1)
    assert model.spec.aux_head
    for run in FIXTURE["runs"]:
        with torch.inference_mode():
            logits = model(seeded_input(run["input_shape"], run["input_seed"]))
        assert difference(logits, torch.tensor(run["logits"])) < 2e-6


def test_without_auxiliary_head_only_its_term_is_gone():
    with_aux = build_random("DUALVIT_TINY", image=True, aux_head=True)
    without = build_random("DUALVIT_TINY", image=True)
    state = with_aux.state_dict()
    without.load_state_dict({k: t for k, t in state.items() if not k.startswith("aux_head")})
    image = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        tokens, thw = with_aux.forward_features(image)
        assert thw == (1, 2, 2)
        term = with_aux.aux_head(tokens[:, 1:5]).amax(dim=1)
        torch.testing.assert_close(with_aux(image), without(image) + 0.5 * term)


@pytest.mark.parametrize(
    ("size", "steps", "tokens"),
    [((8, 56, 56), 4, 64), ((8, 30, 20), 4, 8), ((5, 14, 21), 2, 6), ((1, 7, 7), 1, 1)],
)
def test_there_is_a_semantic_token_for_every_pooled_pixel(size, steps, tokens):
    semantics, found = SemanticTokens(8, pool_t=2)(torch.randn(2, *size, 8))
    assert found == steps and semantics.shape == (2, steps * tokens, 8)


def test_queries_are_resized_unless_their_number_fits():
    semantic = randomise(SemanticTokens(8, pool_t=1))
    assert semantic._queries(8, 8) is semantic.query
    assert semantic._queries(4, 16) is semantic.query  # by count, as published
    grid = semantic.query.t().view(1, 8, 8, 8)
    expected = F.interpolate(grid, size=(9, 5), mode="bicubic", align_corners=False)
    torch.testing.assert_close(semantic._queries(9, 5), expected[0].flatten(1).t())


def test_first_semantics_are_gated_between_what_they_read_and_the_pool():
    semantic = randomise(SemanticTokens(8, pool_t=2))
    pixels = torch.randn(1, 4, 14, 14, 8)
    pool = F.avg_pool3d(pixels.permute(0, 4, 1, 2, 3), (2, 7, 7)).flatten(2).transpose(1, 2)
    query = semantic.q(semantic.query_norm(semantic._queries(2, 2))).repeat(2, 1)[None]
    key, value = semantic.kv(pool).chunk(2, dim=-1)
    read = attend(query, key, value, heads=1)
    gate = semantic.gate.fc2(F.relu(semantic.gate.fc1((read + pool).mean(dim=1))))
    gate = gate.view(1, 2, 8).softmax(dim=1)
    expected = semantic.norm(gate[:, :1] * read + gate[:, 1:] * pool)
    torch.testing.assert_close(semantic(pixels)[0], expected)


def test_a_dual_block_gathers_then_reads():
    spec = spec_of("DUALVIT_TINY", image=True)
    block = randomise(DualBlock(spec, stage=1, block=0, drop_path=0.0))
    path, x, z = block.semantic_path, torch.randn(2, 1, 4, 4, 64), torch.randn(2, 5, 64)
    pixels, semantics = block(x, z)

    normed = block.norm1(x).flatten(1, 3)
    z = z + path.self_scale(attend(*path.self_qkv(path.self_norm(z)).chunk(3, dim=-1), heads=2))
    q, (k, v) = path.cross_q(path.cross_norm(z)), path.cross_kv(normed).chunk(2, dim=-1)
    z = z + path.cross_scale(attend(q, k, v, heads=2))
    hidden = F.relu(path.mlp.fc1(path.mlp_norm(z)))
    z = z + path.mlp_scale(path.mlp.fc2(hidden))
    torch.testing.assert_close(semantics, z)

    k, v = block.attn.kv(block.semantic_norm(z)).chunk(2, dim=-1)
    read = block.attn.proj(attend(block.attn.q(normed), k, v, heads=2))
    x = x + block.scale1(read.view_as(x))
    hidden = block.mlp.fc1(block.norm2(x))[:, 0].permute(0, 3, 1, 2)
    weight, bias = block.mlp.depthwise.weight, block.mlp.depthwise.bias
    hidden = F.gelu(F.conv2d(hidden, weight, bias, padding=1, groups=len(weight)))
    x = x + block.scale2(block.mlp.fc2(hidden.permute(0, 2, 3, 1)[:, None]))
    torch.testing.assert_close(pixels, x)


def test_a_merge_block_weighs_its_keys_by_the_steps_they_stand_for():
    spec = spec_of("DUALVIT_TINY", image=True)
    block = randomise(MergeBlock(spec, stage=2, block=0, drop_path=0.0))
    thw, tokens = torch.Size((4, 2, 2)), torch.randn(2, 16 + 3, 96)
    bias = step_bias(tokens, (0, 16, 3), frames=4, steps=1)
    counts = torch.tensor([1.0] * 16 + [4.0] * 3)
    normed = block.norm1(tokens)
    k, v = block.attn.kv(normed).chunk(2, dim=-1)
    read = block.attn.proj(attend(block.attn.q(normed), k, v, 4, counts.log()))
    expected = tokens + block.scale1(read)
    normed = block.norm2(expected)
    pixels = block.mlp(normed[:, :16].view(2, *thw, 96)).flatten(1, 3)
    semantics = block.semantic_mlp(normed[:, 16:])
    expected = expected + block.scale2(torch.cat((pixels, semantics), dim=1))
    torch.testing.assert_close(block(tokens, thw, bias), expected)


def test_the_class_token_is_a_weighted_mean_and_counts_for_all_steps():
    block = randomise(ClassBlock(8, heads=2, mlp_ratio=2))
    pixels, semantics = torch.randn(1, 4, 2, 2, 8), torch.randn(1, 6, 8)  # 2 steps of 3
    tokens = torch.cat((pixels.flatten(1, 3), semantics), dim=1)
    counts = torch.tensor([1.0] * 16 + [2.0] * 6)
    token = (counts[:, None] * tokens).sum(dim=1, keepdim=True) / counts.sum()
    normed = block.norm1(torch.cat((token, tokens), dim=1))
    counts = torch.cat((torch.tensor([4.0]), counts))
    k, v = block.attn.kv(normed).chunk(2, dim=-1)
    read = attend(block.attn.q(normed[:, :1]), k, v, 2, counts.log())
    token = token + block.attn.proj(read)
    token = token + block.mlp(block.norm2(token))
    torch.testing.assert_close(block(pixels, semantics, steps=2), torch.cat((token, tokens), dim=1))


def test_image_models_need_no_bias():
    tokens = torch.randn(1, 10, 8)
    assert step_bias(tokens, (1, 6, 3), frames=1, steps=1) is None
    assert step_bias(tokens, (0, 6, 4), frames=4, steps=4) is None
    assert step_bias(tokens, (1, 6, 3), frames=4, steps=4) is not None


def test_every_second_block_of_the_third_stage_has_a_narrower_mlp():
    spec = PRESETS["DUALVIT_S"]
    assert [spec.mlp_ratio(2, block) for block in range(6)] == [4, 3, 4, 3, 4, 3]
    assert [spec.mlp_ratio(3, block) for block in range(3)] == [3, 3, 3]


def test_frames_below_28_pixels_are_refused():
    with pytest.raises(InputError, match="28 pixels"):
        build("DUALVIT_TINY")(torch.randn(1, 3, 4, 24, 32, dtype=torch.float64))


def test_a_new_class_count_drops_the_auxiliary_head_of_a_checkpoint():
    weights = seeded_state_dict(FIXTURE["state_dict"])
    model = build_random("DUALVIT_S", image=True).float()
    report = load_weights(model, weights)
    assert report.new_head and model.aux_head is None
    assert {key for key in report.unexpected if key.startswith("aux")} == {
        "aux_head.weight",
        "aux_head.bias",
    }
