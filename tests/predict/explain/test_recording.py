"""The attention that is recorded is the attention that was computed."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mvit_video.build import build_model
from mvit_video.errors import InputError
from mvit_video.models.mvit import MViT
from mvit_video.predict.explain import recording
from mvit_video.predict.explain.recording import recorded
from mvit_video.predict.explain.semantic import _GATHER, semantic_maps
from tests.weights.small_models import MASKFEAT, V1, V2, VIT, clip_for

SPECS = {
    "v1": V1,
    "v2": V2,
    "maskfeat": MASKFEAT,
    "vit": VIT,
    "pool first": replace(V1, pool_first=True),
    "max": replace(V1, pool_mode="max"),
}


def seeded(spec) -> MViT:
    torch.manual_seed(0)
    model = MViT(spec).eval()
    for name, table in model.named_parameters():
        if "rel_pos" in name:
            torch.nn.init.normal_(table, std=0.5)
    return model


@pytest.mark.parametrize("which", SPECS)
@torch.no_grad()
def test_recorded_weights_give_the_blocks_own_output(which, monkeypatch):
    monkeypatch.setattr(recording, "_CHUNK", 500)  # several chunks in every block
    model = seeded(SPECS[which])
    inputs, mixed = {}, {}
    for block in model.blocks:
        block.attn.register_forward_pre_hook(lambda attn, given: inputs.update({attn: given}))
        block.attn.proj.register_forward_pre_hook(
            lambda proj, given: mixed.update({proj: given[0]})
        )
    with recorded(block.attn for block in model.blocks) as calls:
        model(clip_for(SPECS[which])[:1])
    for block in model.blocks:
        attn, (call,) = block.attn, calls[block.attn]
        project = attn._pool_project if attn.pool_first else attn._project_pool
        query, _, value, *_ = (
            t.unflatten(-1, (attn.num_heads, -1))[0].transpose(0, 1) if torch.is_tensor(t) else t
            for t in project(*inputs[attn])
        )
        parts = [weights @ value for _, weights in call.weights()]
        assert len(parts) > 1
        out = torch.cat(parts, dim=1)
        if attn.residual_pooling:
            out[:, attn.num_extra :] += query[:, attn.num_extra :]
        torch.testing.assert_close(out.transpose(0, 1).flatten(1), mixed[attn.proj][0])


@torch.no_grad()
def test_what_was_watched_is_left_as_it_was():
    model = seeded(V1)
    clip = clip_for(V1)[:1]
    before = model(clip)
    with pytest.raises(InputError), recorded(block.attn for block in model.blocks):
        model(clip[:, :1])
    with recorded(block.attn for block in model.blocks) as calls:
        torch.testing.assert_close(model(clip), before, rtol=0, atol=0)
    model(clip)
    assert [len(found) for found in calls.values()] == [1] * len(model.blocks)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@torch.no_grad()
def test_a_semantic_tokens_map_is_its_attention_to_the_pixels():
    torch.manual_seed(0)
    model = build_model("DUALVIT_TINY", num_classes=5, num_frames=8, crop_size=64).eval()
    clip = torch.randn(1, 3, 8, 64, 64)
    path = model.stages[1].blocks[-1].semantic_path
    seen = {}
    path.register_forward_pre_hook(lambda _, given: seen.update(pixels=given[1]))
    path.cross_scale.register_forward_pre_hook(lambda _, given: seen.update(read=given[0]))
    with recorded([path]) as calls:
        model(clip)
    value = path.cross_kv(seen["pixels"]).chunk(2, dim=-1)[1][0]
    value = value.unflatten(-1, (path.heads, -1)).transpose(0, 1)
    (read,) = [weights @ value for _, weights in calls[path][_GATHER].weights()]
    torch.testing.assert_close(read.transpose(0, 1).flatten(1), seen["read"][0])
    maps = semantic_maps(model, clip, most=2)
    weights = calls[path][_GATHER].mean_weights()
    assert len(maps) == 2 and maps[0][2] >= maps[1][2] > 0
    for heat, token, _ in maps:
        assert heat.shape == (4, 8, 8)
        torch.testing.assert_close(heat.flatten(), weights[token])
        torch.testing.assert_close(heat.sum(), torch.tensor(1.0))
