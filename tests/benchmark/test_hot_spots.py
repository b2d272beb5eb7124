"""What the hot spots are measured against computes what they do."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mvit_video.benchmark.hot_spots import (
    OURS,
    _attention,
    _kinds_of_blocks,
    _pooling,
    benchmark_attention,
    benchmark_pooling,
)
from mvit_video.benchmark.report import as_text
from mvit_video.config import load_config
from mvit_video.errors import InputError
from mvit_video.models.mvit import MultiScaleAttention
from mvit_video.models.mvit_spec import MViTSpec

V1 = MViTSpec(num_classes=3, num_frames=4, crop_size=32, embed_dim=8, depth=3, num_heads=1,
              dim_mul=((1, 2.0),), head_mul=((1, 2.0),), pool_q_stride=((1, 1, 2, 2),),
              pool_kv_stride_adaptive=(1, 4, 4), pool_kernel=(3, 3, 3))  # fmt: skip
V2 = replace(
    V1,
    residual_pooling=True,
    relative_positions_space=True,
    relative_positions_time=True,
    dim_mul_in_attention=True,
    absolute_positions=False,
)


def _same(make, spec, against, training=True):
    for block in _kinds_of_blocks(spec):
        module = MultiScaleAttention(spec, block).train(training)
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter)
        results = []
        for name in (OURS, *against):
            torch.manual_seed(0)
            run, leaves = make(name, module, spec, block, 2)
            out = run()
            out = [out] if isinstance(out, torch.Tensor) else out
            heads = [_by_head(x, block.num_heads) for x in out]
            assert all(leaf.requires_grad for leaf in leaves) or not training
            results.append(heads)
        for theirs in results[1:]:
            torch.testing.assert_close(theirs, results[0], rtol=1e-4, atol=1e-4)


def _by_head(x, heads):
    return x if x.ndim == 4 else x.unflatten(-1, (heads, -1)).transpose(1, 2)


@pytest.mark.parametrize("spec", [V1, V2], ids=["v1", "v2"])
def test_pools_equal_the_materialised_ones(spec):
    _same(_pooling, spec, ("materialised",))


@pytest.mark.parametrize("spec", [V1, V2], ids=["v1", "v2"])
def test_attention_equals_the_textbooks_and_the_masked_one(spec):
    _same(_attention, spec, ("materialised", "masked"))


@pytest.mark.slow
@torch.no_grad()
def test_attention_equals_flex_attention():
    _same(_attention, V2, ("flex",), training=False)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_flex_attention_is_not_trained_on_a_cpu():
    cfg = load_config("configs/demo/MVIT_XS_8x4.yaml", [])
    with pytest.raises(InputError, match="no backward pass on a CPU"):
        benchmark_attention(cfg, ["flex"], 1, 1, training=True)


@pytest.mark.parametrize("make", [_pooling, _attention])
def test_half_precision_begins_where_a_models_linear_layers_leave_it(make):
    block = next(iter(_kinds_of_blocks(V2)))
    run, leaves = make(OURS, MultiScaleAttention(V2, block), V2, block, 2, torch.bfloat16)
    assert leaves[0].dtype == torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        out = run()
    assert {x.dtype for x in (out if isinstance(out, list) else [out])} == {torch.bfloat16}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_the_kernel_is_not_timed_without_a_gpu():
    cfg = load_config("configs/demo/MVIT_XS_8x4.yaml", [])
    with pytest.raises(InputError, match="--against triton needs a GPU"):
        benchmark_pooling(cfg, ["triton"], 1, 1)


def test_every_block_is_in_the_table():
    cfg = load_config("configs/demo/MVIT_XS_8x4.yaml", ["NUM_THREADS", "1"])
    result = benchmark_pooling(cfg, ["materialised"], 1, 1)
    assert sum(row["blocks"] for row in result["blocks"]) == cfg.MVIT.DEPTH
    assert all(row["ms"] > 0 and row["materialised"] > 0 for row in result["blocks"])
    text = as_text(result)
    assert "kv stride" in text and "materialised takes" in text
