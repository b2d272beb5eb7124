"""MPViT against published logits and its building blocks against their formulas."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from mvit_video.errors import InputError
from mvit_video.models.mpvit import (
    FactorisedAttention,
    LocalBranch,
    RelativePosition,
    Stage,
    TransformerPath,
)
from mvit_video.weights import model_from_checkpoint
from tests.models.inflation import build, difference, randomise, spec_of
from tests.weights.seeded import seeded_input, seeded_state_dict

FIXTURE = json.loads((Path(__file__).parent.parent / "fixtures" / "mpvit_tiny.json").read_text())


def weights() -> dict[str, torch.Tensor]:
    state = seeded_state_dict(FIXTURE["state_dict"])
    return state | {alias: state[key] for alias, key in FIXTURE["aliases"].items()}


def test_published_logits_come_out():
    model = model_from_checkpoint(weights(), num_frames=1)
    for run in FIXTURE["runs"]:
        with torch.inference_mode():
            logits = model(seeded_input(run["input_shape"], run["input_seed"]))
        assert difference(logits, torch.tensor(run["logits"])) < 5e-6


def test_an_alias_that_differs_is_refused():
    state = weights()
    alias = next(iter(FIXTURE["aliases"]))
    state[alias] = state[alias] + 1
    with pytest.raises(InputError, match="should repeat"):
        model_from_checkpoint(state, num_frames=1)


def test_aliases_may_be_absent():
    state = {key: tensor for key, tensor in weights().items() if key not in FIXTURE["aliases"]}
    assert model_from_checkpoint(state).spec.num_frames == 1


@pytest.mark.parametrize("image", [True, False])
def test_factorised_attention_is_its_formula(image):
    """d^-0.5 q (softmax over all tokens of k)^T v + q * conv(v), head by head."""
    spec = spec_of("MPVIT_TINY", image=image, relative_time=not image)
    attn = randomise(FactorisedAttention(16, spec.heads))
    relative = randomise(RelativePosition(spec, 16))
    x = torch.randn(2, 1 if image else 3, 4, 5, 16)
    q, k, v = attn.qkv(x).flatten(1, 3).chunk(3, dim=-1)
    encoded = relative(v.view_as(x)).flatten(1, 3)
    out = []
    for head in range(spec.heads):
        part = slice(head * 4, head * 4 + 4)
        context = k[..., part].softmax(dim=1).mT @ v[..., part]
        out.append(q[..., part] @ context / 2 + q[..., part] * encoded[..., part])
    expected = attn.proj(torch.cat(out, dim=-1)).view_as(x)
    torch.testing.assert_close(attn(x, relative), expected)


def test_the_relative_encoding_gives_groups_of_heads_their_windows():
    spec = spec_of("MPVIT_T", image=True)
    relative = randomise(RelativePosition(spec, 64))
    assert [conv.weight.shape for conv in relative.convs] == [
        (16, 1, 3, 3), (24, 1, 5, 5), (24, 1, 7, 7),
    ]  # fmt: skip
    value = torch.randn(1, 1, 6, 6, 64)
    image = value[:, 0].permute(0, 3, 1, 2)
    last = relative.convs[2]
    expected = F.conv2d(image[:, 40:], last.weight, last.bias, padding=3, groups=24)
    torch.testing.assert_close(relative(value)[:, 0, ..., 40:].permute(0, 3, 1, 2), expected)


@pytest.mark.parametrize(("index", "fields"), [(0, (3, 5)), (1, (3, 7, 11))])
def test_the_chain_of_embeddings_sees_3_7_and_11_pixels(index, fields):
    """Of the stage's input: the first link of a later stage halves, so 3, 5, 7 are not its fields."""
    stage = randomise(Stage(spec_of("MPVIT_T", image=True), index, [0.0])).eval()
    cube = torch.randn(1, 1, 33, 33, (64, 96)[index], requires_grad=True)
    reached = cube
    for embed, field in zip(stage.embed, fields, strict=True):
        reached = embed(reached)
        middle = reached.shape[2] // 2
        (grad,) = torch.autograd.grad(reached[0, 0, middle, middle].sum(), cube, retain_graph=True)
        rows = grad.abs().sum(dim=(0, 1, 3, 4)).nonzero()
        assert rows.max() - rows.min() + 1 == field


def test_the_local_branch_is_a_residual_bottleneck_of_full_width():
    local = randomise(LocalBranch(spec_of("MPVIT_TINY", image=True), 16)).eval()
    x = torch.randn(1, 1, 6, 6, 16)
    y = x[:, 0].permute(0, 3, 1, 2)
    for layer, act in zip(local.layers, (F.hardswish, F.hardswish, lambda z: z), strict=True):
        weight = layer.conv.weight
        weight = weight[:, :, None, None] if weight.ndim == 2 else weight
        y = F.conv2d(y, weight, padding=weight.shape[-1] // 2, groups=16 // weight.shape[1])
        n = layer.norm
        y = act(F.batch_norm(y, n.running_mean, n.running_var, n.weight, n.bias))
    torch.testing.assert_close(local(x), x + y.permute(0, 2, 3, 1)[:, None])


def test_layers_of_a_path_share_one_position_encoding_of_each_kind():
    path = TransformerPath(spec_of("MPVIT_TINY", image=True), 0, [0.0, 0.0, 0.0])
    encodings = [key for key in path.state_dict() if key.startswith(("position", "relative"))]
    assert len(encodings) == 2 + 2 * 2
    path = randomise(path)
    with torch.no_grad():
        for block in path.blocks:  # attention and MLP give nothing: what is left is the encoding
            block.attn.proj.weight.zero_()
            block.attn.proj.bias.zero_()
            block.mlp.fc2.weight.zero_()
            block.mlp.fc2.bias.zero_()
    x = torch.randn(1, 1, 5, 5, 64)
    expected = x
    for _ in range(3):
        expected = expected + path.position(expected)
    torch.testing.assert_close(path(x), expected)


def test_every_path_and_the_local_branch_reach_the_next_width():
    stage = randomise(Stage(spec_of("MPVIT_S", image=True), 1, [0.0])).eval()
    with torch.no_grad():
        assert stage(torch.randn(1, 1, 8, 8, 128)).shape == (1, 1, 4, 4, 216)
    assert stage.join.conv.weight.shape == (216, 4 * 128)


def test_depthwise_embeddings_start_small_and_the_local_branch_does_not():
    torch.manual_seed(0)
    stage = build("MPVIT_T", image=True).stages[1]
    assert stage.embed[0].depthwise.weight.std().item() == pytest.approx(
        (2 / 9 / 96) ** 0.5, rel=0.1
    )
    assert stage.local.layers[1].conv.weight.std().item() == pytest.approx((2 / 9) ** 0.5, rel=0.1)
