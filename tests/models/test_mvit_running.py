"""How an MViT runs: sizes, precision, compilation, checkpointing, features, gradients."""

from __future__ import annotations

import copy
import math
import re
import sys
from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mvit_video import layers
from mvit_video.build import build_model
from mvit_video.config import load_config
from mvit_video.errors import InputError
from mvit_video.models import mvit
from mvit_video.models.blocks import recompute
from mvit_video.models.mvit import MViT, fuse_pooling
from mvit_video.models.mvit_presets import PRESETS
from mvit_video.models.mvit_spec import MViTSpec
from tests.models.test_mvit import V1, V2, VARIANTS, clip_for, gradients, randomised
from tests.tiny_run import TINY_MODEL, overrides


@pytest.mark.parametrize("spec", VARIANTS.values(), ids=VARIANTS.keys())
def test_every_parameter_learns_from_a_fresh_start(spec) -> None:
    torch.manual_seed(0)
    model = MViT(spec).train()
    logits, grads = gradients(model, clip_for(spec, dtype=torch.float32))
    assert logits.shape == (2, 7) and logits.isfinite().all()
    # The head reads the class token, which the last block's q pool and relative positions pass by.
    idle = rf"blocks\.{spec.depth - 1}\.attn\.(pool_q|rel_pos)"
    reads_class_token = spec.class_token and not spec.mean_pooling
    for name, grad in grads.items():
        assert grad is not None and grad.isfinite().all(), name
        assert grad.any() or (reads_class_token and re.match(idle, name)), name


@pytest.mark.parametrize("spec", [V1, V2], ids=["v1", "v2"])
@pytest.mark.parametrize("size", [(8, 32, 32), (4, 32, 32), (6, 40, 24), (12, 64, 48), (1, 17, 33)])
def test_any_clip_size_runs(spec, size) -> None:
    model = MViT(spec).eval()
    clip = torch.randn(2, 3, *size)
    with torch.no_grad():
        tokens, thw = model.forward_features(clip)
        logits = model(clip)
    assert tokens.shape == (2, 1 + math.prod(thw), 64)
    assert thw == (math.ceil(size[0] / 2), *(math.ceil(math.ceil(s / 4) / 4) for s in size[1:]))
    assert logits.shape == (2, 7) and logits.isfinite().all()
    torch.testing.assert_close(model.forward_head(tokens), logits)


def test_positions_at_another_size_are_interpolated() -> None:
    """A constant table stays constant at any size, and one that differs does not go unnoticed."""
    model = randomised(MViT(V1)).eval()
    large = torch.randn(1, 3, 16, 48, 64)
    with torch.no_grad():
        before = model(large)
        model.pos_embed_spatial.fill_(0.5)
        model.pos_embed_temporal.fill_(0.25)
        assert not torch.equal(model(large), before)
        assert torch.allclose(model._positions((8, 12, 16))[:, 1:], torch.tensor(0.75))


def test_a_clip_can_be_an_image_for_a_one_frame_model() -> None:
    model = MViT(VARIANTS["image"]).eval()
    image = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(model(image), model(image[:, :, None]))


@pytest.mark.parametrize("shape", [(3, 8, 32, 32), (1, 4, 8, 32, 32), (1, 8, 3, 32, 32)])
def test_a_tensor_that_is_no_clip_is_refused(shape) -> None:
    with pytest.raises(InputError, match=r"batch, channels, frames, height, width"):
        MViT(V1)(torch.zeros(shape))


def test_what_only_the_grid_decides_is_made_once_in_inference(monkeypatch) -> None:
    """The keys' one-hot rows, and the relative vectors of tables of another size."""
    made = Counter()

    def counting(make):
        def count(*args):
            made[make.__name__] += 1
            return make(*args)

        return count

    for make in (mvit.one_hot_grid, mvit.relative_vectors):
        monkeypatch.setattr(mvit, make.__name__, counting(make))
    model, clip = MViT(V2).eval(), torch.randn(1, 3, 8, 32, 32)
    once = {"one_hot_grid": V2.depth, "relative_vectors": 3 * V2.depth}
    for times in (1, 1, 2):
        with torch.set_grad_enabled(times == 2):  # what is trained is made anew
            model(clip)
        assert made == {name: number * times for name, number in once.items()}


def test_cached_tables_never_outlive_the_weights_they_came_from() -> None:
    spec = replace(V2, absolute_positions=True, separable_positions=True)
    model = randomised(MViT(spec).double()).eval()
    clip = torch.randn(1, 3, 6, 40, 24, dtype=torch.float64)

    def fresh() -> Tensor:
        return copy.deepcopy(model)(clip).detach()  # grad on: nothing is cached

    with torch.no_grad():
        first = model(clip)
        torch.testing.assert_close(model(clip), first)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "pos" in name:
                parameter.mul_(-1.5)  # an optimiser step, or an EMA swap
    with torch.no_grad():
        assert not torch.allclose(model(clip), first)
        torch.testing.assert_close(model(clip), fresh())
    other = randomised(MViT(spec).double(), seed=3)
    model.load_state_dict(other.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(model(clip), other.eval()(clip))
    model.load_state_dict({k: v.clone() for k, v in model.state_dict().items()}, assign=True)
    model.float()
    with torch.no_grad():
        assert model(clip.float()).dtype == torch.float32
        assert model.double()(clip).dtype == torch.float64
    with torch.inference_mode():
        in_inference = model(clip)
    logits = model(clip)  # what inference mode cached must not reach a graph
    logits.sum().backward()
    torch.testing.assert_close(in_inference, logits.detach())


def test_writing_through_data_is_seen_after_eval() -> None:
    """`p.data` writes leave no trace in the version; train() and eval() clear the cache for them."""
    model = randomised(MViT(V2).double()).eval()
    clip = clip_for(V2)
    with torch.no_grad():
        before = model(clip)
        model.blocks[0].attn.rel_pos_h.data.mul_(3)
        model.train().eval()
        assert not torch.allclose(model(clip), before)


@pytest.mark.parametrize("spec", [V1, V2], ids=["v1", "v2"])
def test_bf16_autocast_stays_near_float32(spec) -> None:
    torch.manual_seed(0)
    model = MViT(spec).train()
    clip = clip_for(spec, dtype=torch.float32)
    expected, wanted = gradients(model, clip)
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(clip)
    assert logits.dtype == torch.bfloat16
    torch.testing.assert_close(logits.float(), expected, rtol=0.05, atol=0.02)
    weights = torch.linspace(-1, 1, logits.numel()).view_as(logits)
    (logits.float() * weights).sum().backward()
    largest = max(grad.norm().item() for grad in wanted.values())
    for name, parameter in model.named_parameters():
        assert parameter.grad.dtype == torch.float32
        error = (parameter.grad - wanted[name]).norm().item()
        assert error < 0.1 * wanted[name].norm().item() + 1e-3 * largest, name


def test_a_bf16_model_runs() -> None:
    model = MViT(V2).bfloat16().eval()
    with torch.no_grad():
        assert model(clip_for(V2, dtype=torch.bfloat16)).dtype == torch.bfloat16


def check_compiled(spec: MViTSpec, backend: str) -> None:
    torch._dynamo.reset()
    starts = tuple(entry for entry in spec.pool_q_stride if entry[0] < 2)
    double = ((1, 2.0),)
    spec = replace(spec, depth=2, dim_mul=double, head_mul=double, pool_q_stride=starts)
    model = randomised(MViT(spec)).eval()
    clip = clip_for(spec, dtype=torch.float32)
    expected, wanted = gradients(model, clip)
    model.zero_grad()
    compiled = torch.compile(model, fullgraph=True, backend=backend)
    logits, _ = gradients(compiled, clip)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
    largest = max(grad.abs().max().item() for grad in wanted.values())
    for name, parameter in model.named_parameters():
        # The gradient of a key's bias is rounding noise around zero: softmax does not see a shift.
        tolerance = 1e-4 * wanted[name].abs().max().item() + 1e-6 * largest
        assert (parameter.grad - wanted[name]).abs().max().item() < tolerance, name


@pytest.mark.slow
@pytest.mark.parametrize("spec", [V1, V2], ids=["v1", "v2"])
def test_compiles_in_one_graph_with_the_same_results(spec) -> None:
    check_compiled(spec, "aot_eager")


def test_exports_with_a_free_batch_size() -> None:
    model = randomised(MViT(replace(V2, depth=2, dim_mul=(), head_mul=(), pool_q_stride=()))).eval()
    batch = torch.export.Dim("batch", min=1, max=8)
    clip = clip_for(V2, dtype=torch.float32)
    with torch.no_grad():
        exported = torch.export.export(model, (clip,), dynamic_shapes=({0: batch},)).module()
        for several in (clip[:1], clip, torch.cat((clip, clip))):
            torch.testing.assert_close(exported(several), model(several), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("spec", [V1, V2], ids=["v1", "v2"])
def test_inductor_gives_the_same_results(spec) -> None:
    check_compiled(spec, "inductor")


@pytest.mark.parametrize("spec", [V1, V2], ids=["v1", "v2"])
def test_activation_checkpointing_changes_nothing_but_memory(spec) -> None:
    """Drop path included: the recomputed pass draws what the first one drew."""
    spec = replace(spec, drop_path_rate=0.5, block_dropout_rate=0.1)
    plain = MViT(spec).train()
    checkpointed = MViT(spec).train()
    recompute(checkpointed)
    checkpointed.load_state_dict(plain.state_dict())
    clip = clip_for(spec, batch=4, dtype=torch.float32)
    results = []
    for model in (plain, checkpointed):
        torch.manual_seed(5)
        results.append(gradients(model, clip))
    assert torch.equal(results[0][0], results[1][0])
    for name, grad in results[0][1].items():
        assert torch.equal(grad, results[1][1][name]), name


def test_lives_on_the_meta_device_and_can_be_brought_to_life() -> None:
    with torch.device("meta"):
        model = MViT(V2)
        assert model(torch.empty(2, 3, 8, 32, 32)).shape == (2, 7)
    assert all(p.is_meta for p in model.parameters())
    model = model.to_empty(device="cpu")
    model.init_weights()
    ordinary = MViT(V2)
    for (name, ours), (_, theirs) in zip(
        model.named_parameters(), ordinary.named_parameters(), strict=True
    ):
        assert abs(ours.std() - theirs.std()) < 0.01 and abs(ours.mean() - theirs.mean()) < 0.02, (
            name
        )
    assert model(torch.randn(1, 3, 8, 32, 32)).isfinite().all()
    assert model.state_dict().keys() == ordinary.state_dict().keys()


def test_initial_weights_follow_the_documented_choice() -> None:
    torch.manual_seed(0)
    model = MViT(replace(V2, head_init_scale=0.01, embed_dim=64))
    assert model.blocks[1].attn.pool_k.weight.std().item() == pytest.approx(0.02, rel=0.15)
    assert model.patch_embed.proj.weight.std().item() == pytest.approx(0.02, rel=0.15)
    assert model.blocks[1].attn.rel_pos_t.std().item() == pytest.approx(0.02, rel=0.15)
    assert model.head.projection.weight.std().item() == pytest.approx(0.0002, rel=0.2)
    assert not any(p.any() for n, p in model.named_parameters() if n.endswith("bias"))
    zeroed = MViT(replace(V2, relative_positions_zero_init=True))
    assert not any(p.any() for n, p in zeroed.named_parameters() if "rel_pos" in n)


@pytest.mark.parametrize("name", ["v1", "v2", "v2 pooling time", "vit", "image"])
def test_the_pyramid_is_what_its_metadata_says(name: str) -> None:
    spec = VARIANTS[name]
    model = MViT(spec).eval()
    clip = torch.randn(2, 3, spec.num_frames, 64, 32)
    levels = model.forward_pyramid(clip)
    assert len(levels) == len(model.feature_info) == (1 if name == "vit" else 3)
    for level, info in zip(levels, model.feature_info, strict=True):
        size = tuple(n // s for n, s in zip(clip.shape[2:], info.stride, strict=True))
        assert level.shape == (2, info.channels, *size)
    last = model.norm(levels[-1].flatten(2).transpose(1, 2))
    if not spec.mean_pooling:
        tokens, _ = model.forward_features(clip)
        torch.testing.assert_close(last, tokens[:, int(spec.class_token) :])


def test_a_model_can_be_built_for_its_features_alone() -> None:
    with torch.device("meta"):
        model = build_model("MVITv2_S_16x4", features_only=True)
        levels = model(torch.empty(1, 3, 16, 224, 224))
    assert [level.shape[1] for level in levels] == [96, 192, 384, 768]
    assert [info.stride for info in model.feature_info] == [(2, s, s) for s in (4, 8, 16, 32)]


def test_drop_path_grows_linearly_and_rests_in_eval() -> None:
    spec = replace(V1, drop_path_rate=0.3)
    rates = [block.drop_path.rate for block in MViT(spec).blocks]
    assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3])
    model = MViT(spec).eval()
    clip = clip_for(spec, dtype=torch.float32)
    assert torch.equal(model(clip), model(clip))


def test_the_order_of_frames_matters() -> None:
    for spec in (V1, V2):
        model = randomised(MViT(spec).double()).eval()
        clip = clip_for(spec)
        assert not torch.allclose(model(clip), model(clip.flip(2)), atol=1e-3)


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match="MVITv2_S_16x4"):
        build_model("MVITv2_S_16x5")
    assert "MVITv2_S_16x4" in PRESETS


@pytest.fixture
def without_triton(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.delitem(sys.modules, "mvit_video.layers.pooling_triton", raising=False)
    monkeypatch.delattr(layers, "pooling_triton", raising=False)


def test_a_model_trained_with_triton_runs_on_a_cpu_without_it(without_triton) -> None:
    torch.manual_seed(0)
    cfg = load_config(None, [*overrides(TINY_MODEL), "MVIT.POOL_BACKEND", "triton"])
    model = build_model(cfg).eval()
    torch.manual_seed(0)
    plain = build_model(load_config(None, overrides(TINY_MODEL))).eval()
    clip = torch.randn(1, 3, cfg.DATA.NUM_FRAMES, 32, 32)
    assert torch.equal(model(clip), plain(clip))


def test_a_gpu_without_triton_is_told_what_to_install(without_triton, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(InputError, match=r"POOL_BACKEND triton needs triton, .*pip install triton"):
        fuse_pooling(MViT(V2))
