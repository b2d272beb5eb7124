"""The Triton kernels against torch's form: on a GPU where there is one, else on the CPU in triton's interpreter, in a
process of its own, because triton reads TRITON_INTERPRET when it is imported."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mvit_video.layers import pooling
from mvit_video.layers.pooling import DepthwiseConv3d, MaxPool3d
from mvit_video.models.blocks import compile_blocks
from mvit_video.models.mvit import MViT, fuse_pooling
from tests.benchmark.test_hot_spots import V1, V2

if "REQUIRE_TRITON" not in os.environ:
    pytest.importorskip("triton", reason="triton is not installed")
from mvit_video.layers import pooling_triton

INTERPRETED = pooling_triton.DEVICE == "cpu"
runs_kernels = pytest.mark.skipif(
    not INTERPRETED and not torch.cuda.is_available(),
    reason="no GPU; run by test_all_of_this_holds_in_tritons_interpreter",
)
needs_gpu = pytest.mark.skipif(
    INTERPRETED or not torch.cuda.is_available(), reason="compiled kernels need a GPU"
)


@pytest.mark.slow
@pytest.mark.skipif(INTERPRETED, reason="this is the interpreter")
def test_all_of_this_holds_in_tritons_interpreter() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    environment = {**os.environ, "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-5000:]
    assert " passed" in run.stdout


def _layers(width, stride, kernel=(3, 3, 3)):
    pool, norm = DepthwiseConv3d(width, kernel, stride), nn.LayerNorm(width, 1e-6)
    for parameter in (*pool.parameters(), *norm.parameters()):
        nn.init.normal_(parameter)
    return pool, norm


def _pooled(form, qkv, thw, pool, norm, num_extra):
    """What a pool gives of the projection's middle third, its grid, and the gradients, all in
    float64."""
    qkv = qkv.detach().requires_grad_()
    out, grid = form(qkv.chunk(3, dim=-1)[1], thw, pool, norm, num_extra)
    head = torch.randn(out.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    leaves = (qkv, *pool.parameters(), *norm.parameters())
    grads = torch.autograd.grad(out, leaves, head.to(out))
    return grid, [x.double().cpu() for x in (out, *grads)]


def _errors(qkv, thw, pool, norm, num_extra):
    """Of the output and each gradient: |kernel - exact| / |exact|."""
    on_device = [x.to(pooling_triton.DEVICE) for x in (qkv, pool, norm)]
    kernel = pooling_triton.pool_and_norm
    assert pooling_triton._has_kernel(on_device[0], on_device[1], norm)
    grid, ours = _pooled(kernel, on_device[0], thw, *on_device[1:], num_extra)
    exact = (copy.deepcopy(layer).cpu().double() for layer in (pool, norm))
    wanted_grid, wanted = _pooled(pooling.pool_and_norm, qkv.double(), thw, *exact, num_extra)
    assert grid == wanted_grid
    return [(a - b).norm() / b.norm().clamp(min=1e-3) for a, b in zip(ours, wanted, strict=True)]


@runs_kernels
@pytest.mark.parametrize("num_extra", [0, 1])
@pytest.mark.parametrize(
    ("width", "heads", "thw", "stride"),
    [
        (96, 1, (2, 3, 4), (1, 1, 1)),
        (96, 2, (2, 5, 3), (1, 2, 2)),
        (64, 2, (2, 5, 6), (1, 4, 4)),
        (32, 1, (2, 9, 11), (1, 8, 8)),
        (32, 2, (3, 4, 5), (2, 2, 2)),
    ],
)
def test_the_kernel_is_the_torch_form(width, heads, thw, stride, num_extra) -> None:
    tokens = num_extra + thw[0] * thw[1] * thw[2]
    qkv = torch.randn(2, tokens, 3 * heads * width)
    assert max(_errors(qkv, thw, *_layers(width, stride), num_extra)) < 1e-6


@runs_kernels
@settings(max_examples=8 if INTERPRETED else 60)
@given(
    batch=st.integers(1, 3),
    heads=st.integers(1, 3),
    width=st.sampled_from([8, 20, 32]),
    thw=st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 9)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 8)),
    taps_t=st.sampled_from([1, 3]),
    num_extra=st.integers(0, 2),
)
def test_the_kernel_takes_any_grid(batch, heads, width, thw, stride, taps_t, num_extra) -> None:
    tokens = num_extra + thw[0] * thw[1] * thw[2]
    qkv = torch.randn(batch, tokens, 3 * heads * width)
    assert max(_errors(qkv, thw, *_layers(width, stride, (taps_t, 3, 3)), num_extra)) < 1e-5


@runs_kernels
@pytest.mark.parametrize(("dtype", "limit"), [(torch.bfloat16, 1e-2), (torch.float16, 2e-3)])
def test_half_precision_is_rounded_once_on_each_way(dtype, limit) -> None:
    """The parameters stay in float32, as under autocast, and so do their gradients."""
    qkv = torch.randn(2, 1 + 2 * 5 * 3, 3 * 2 * 32).to(dtype)
    out, of_qkv, *of_parameters = _errors(qkv, (2, 5, 3), *_layers(32, (1, 2, 2)), 1)
    assert max(out, of_qkv) < limit
    assert max(of_parameters) < limit / 2


@runs_kernels
def test_few_programs_sum_what_many_do(monkeypatch) -> None:
    qkv, layers = torch.randn(1, 4 * 5 * 6, 3 * 96), _layers(96, (1, 1, 1))
    monkeypatch.setattr(pooling_triton, "_MOST_PARTS", 3)  # of eight blocks of rows
    assert max(_errors(qkv, (4, 5, 6), *layers, 0)) < 1e-6


@runs_kernels
def test_torch_knows_all_of_the_operator() -> None:
    device = pooling_triton.DEVICE
    x = torch.randn(1, 9, 3 * 16, device=device).chunk(3, dim=-1)[1].requires_grad_()
    pool, norm = (layer.to(device) for layer in _layers(8, (1, 2, 2)))
    arguments = (x, pool.weight, norm.weight, norm.bias, (2, 2, 2), (1, 2, 2), 1, 1e-6)
    torch.library.opcheck(pooling_triton._pool_and_norm, arguments)


@runs_kernels
@pytest.mark.parametrize("spec", [V1, replace(V2, class_token=False)], ids=["v1", "v2"])
def test_a_model_computes_the_same_with_it(spec, monkeypatch) -> None:
    model = MViT(spec).to(pooling_triton.DEVICE)
    clip = torch.randn(2, 3, 4, 32, 32, device=pooling_triton.DEVICE)
    wanted = _logits_and_gradients(model, clip)
    fuse_pooling(model)
    launched = []
    kernel = pooling_triton._pool_and_norm
    monkeypatch.setattr(
        pooling_triton, "_pool_and_norm", lambda *args: launched.append(args) or kernel(*args)
    )
    torch.testing.assert_close(_logits_and_gradients(model, clip), wanted, rtol=1e-4, atol=1e-5)
    pools = [pool for block in spec.blocks for pool in (block.pool_q, *[block.pool_kv] * 2)]
    assert len(launched) == sum(pool is not None for pool in pools)


@runs_kernels
@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=needs_gpu)])
def test_a_block_with_it_is_compiled_in_one_graph(backend) -> None:
    model = MViT(replace(V2, depth=2)).to(pooling_triton.DEVICE)
    fuse_pooling(model)
    clip = torch.randn(2, 3, 4, 32, 32, device=pooling_triton.DEVICE)
    wanted = _logits_and_gradients(model, clip)
    torch._dynamo.reset()
    compile_blocks(model, backend)  # raises where a graph would break
    torch.testing.assert_close(_logits_and_gradients(model, clip), wanted, rtol=1e-4, atol=1e-5)


def _logits_and_gradients(model, clip):
    logits = model(clip)
    return logits, torch.autograd.grad(logits.square().sum(), list(model.parameters()))


@runs_kernels
@pytest.mark.parametrize(
    "pool",
    [
        DepthwiseConv3d(8, (1, 5, 5), (1, 4, 4)),
        DepthwiseConv3d(8, (3, 3, 3), (1, 1, 1), "replicate"),
        MaxPool3d((3, 3, 3), (1, 2, 2)),
    ],
    ids=["kernel 5", "replicate", "max"],
)
def test_other_pools_keep_to_torchs_form(pool) -> None:
    pool, norm = pool.to(pooling_triton.DEVICE), nn.LayerNorm(8).to(pooling_triton.DEVICE)
    tokens = torch.randn(1, 2 * 4 * 4, 16, device=pooling_triton.DEVICE)
    ours, grid = pooling_triton.pool_and_norm(tokens, (2, 4, 4), pool, norm)
    wanted, wanted_grid = pooling.pool_and_norm(tokens, (2, 4, 4), pool, norm)
    assert grid == wanted_grid and torch.equal(ours, wanted)


@needs_gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_same_bits_come_out_every_time(dtype) -> None:
    """A resumed training ends with the bits of an uninterrupted one; at the size of a model's."""
    qkv = torch.randn(2, 1 + 8 * 56 * 56, 3 * 96, device="cuda", dtype=dtype)
    for stride in ((1, 1, 1), (1, 8, 8)):
        layers = [layer.cuda() for layer in _layers(96, stride)]
        first, again = (
            _pooled(pooling_triton.pool_and_norm, qkv, (8, 56, 56), *layers, 1)[1] for _ in "12"
        )
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


@needs_gpu
@pytest.mark.parametrize("stride", [(1, 1, 1), (1, 2, 2), (1, 8, 8)])
def test_the_compiled_kernel_is_exact_at_a_models_size(stride) -> None:
    qkv = torch.randn(2, 1 + 8 * 28 * 28, 3 * 2 * 96)
    assert max(_errors(qkv, (8, 28, 28), *_layers(96, stride), 1)) < 1e-5


@pytest.mark.skipif(INTERPRETED, reason="the interpreter compiles nothing")
@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_the_kernels_compile_for_gpus_that_are_not_here(capability, dtype) -> None:
    """The interpreter takes what the compiler refuses, and knows nothing of registers."""
    for kernel in ("forward", "backward", "gather"):
        binary = _compiled(getattr(pooling_triton, f"_{kernel}_kernel"), capability, dtype)
        assert "STL" not in binary.asm["sass"]  # spilled registers


def _compiled(kernel, capability, dtype):
    """A kernel's binary for heads of 96, one head and frame (which triton knows at compile time), a
    class token."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile

    constants = {"WIDTH": 96, "LANES": 128, "ROWS": 16, "EXTRA": 1, "TAPS_T": 3, "SUMS": 32}
    constants |= {"STEP_T": 1, "STEP_H": 2, "STEP_W": 2, "num_heads": 1, "frames": 1}
    tokens = ("x_ptr", "out_ptr", "grad_ptr", "grad_conv_ptr", "grad_x_ptr")
    signature, known, hints = {}, {}, {}
    for number, name in enumerate(kernel.arg_names):
        if name in constants:
            signature[name], known[(number,)] = "constexpr", constants[name]
        elif name.endswith("_ptr"):
            signature[name] = f"*{dtype}" if name in tokens else "*fp32"
            hints[(number,)] = [["tt.divisibility", 16]]
        else:
            signature[name] = "fp32" if name == "eps" else "i32"
    source = ASTSource(kernel, signature, known, hints)
    return compile(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": 4})
