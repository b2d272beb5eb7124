"""Depthwise convolution and pools on channels-last cubes, against torch's on channels-first ones."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from mvit_video.layers.pooling import (
    AvgPool3d,
    DepthwiseConv3d,
    MaxPool3d,
    depthwise_conv3d,
    pool_tokens,
)


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(1, 6), st.integers(1, 9), st.integers(1, 9)),
    kernel=st.tuples(*[st.sampled_from([1, 2, 3, 5])] * 3),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4)),
    heads=st.integers(1, 3),
    with_bias=st.booleans(),
)
def test_depthwise_convolution_is_torchs(size, kernel, stride, heads, with_bias) -> None:
    cube = torch.randn(2, *size, heads * 3, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 1, *kernel, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(3, dtype=torch.float64, requires_grad=True) if with_bias else None
    out = depthwise_conv3d(cube, weight, bias, stride)
    expected = F.conv3d(
        cube.permute(0, 4, 1, 2, 3),
        weight.repeat(heads, 1, 1, 1, 1),
        bias.repeat(heads) if with_bias else None,
        stride,
        [k // 2 for k in kernel],
        groups=3 * heads,
    ).permute(0, 2, 3, 4, 1)
    torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12)
    leaves = (cube, weight, bias) if with_bias else (cube, weight)
    weights = torch.randn_like(expected)
    ours = torch.autograd.grad((out * weights).sum(), leaves)
    wanted = torch.autograd.grad((expected * weights).sum(), leaves)
    for a, b in zip(ours, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def test_depthwise_convolution_is_exact_in_float32_at_a_models_size() -> None:
    """The fast kernels are other code than float64's."""
    qkv = torch.randn(2, 4 * 14 * 14, 3, 2 * 96, requires_grad=True)
    weight = torch.randn(96, 1, 3, 3, 3, requires_grad=True)
    for stride in ((1, 1, 1), (1, 2, 2), (2, 2, 2)):
        cube = qkv[:, :, 1].unflatten(1, (4, 14, 14))  # a view, as the fused projection gives it
        out = depthwise_conv3d(cube, weight, stride=stride)
        exact = depthwise_conv3d(cube.double(), weight.double(), stride=stride)
        torch.testing.assert_close(out.double(), exact, rtol=1e-4, atol=1e-4)
        ours = torch.autograd.grad(out.square().mean(), (qkv, weight))
        wanted = torch.autograd.grad(exact.square().mean(), (qkv, weight))
        for a, b in zip(ours, wanted, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


def test_a_frozen_weight_or_input_gets_no_gradient() -> None:
    cube, weight = torch.randn(1, 2, 4, 4, 3), torch.randn(3, 1, 3, 3, 3)
    assert not depthwise_conv3d(cube, weight).requires_grad
    out = depthwise_conv3d(cube, weight.clone().requires_grad_())
    (grad,) = torch.autograd.grad(out.sum(), [out.grad_fn.next_functions[1][0].variable])
    assert grad.shape == weight.shape


def test_autocast_convolves_in_its_dtype() -> None:
    pool = DepthwiseConv3d(8, (3, 3, 3), (1, 1, 1))
    with torch.autocast("cpu", torch.bfloat16):
        out = pool(torch.randn(1, 2, 4, 4, 16))
    assert out.dtype == torch.bfloat16
    out.float().sum().backward()
    assert pool.weight.grad.dtype == torch.float32


@pytest.mark.parametrize("stride", [(1, 1, 1), (1, 2, 2), (2, 2, 4)])
def test_max_and_average_pools_are_torchs(stride) -> None:
    kernel = (3, 3, 3)
    cube = torch.randn(2, 4, 9, 7, 5, dtype=torch.float64)
    x = cube.permute(0, 4, 1, 2, 3).contiguous()
    wanted = F.max_pool3d(x, kernel, stride, 1).permute(0, 2, 3, 4, 1)
    torch.testing.assert_close(MaxPool3d(kernel, stride)(cube), wanted)
    wanted = F.avg_pool3d(x, kernel, stride, 1).permute(0, 2, 3, 4, 1)
    torch.testing.assert_close(AvgPool3d(kernel, stride)(cube), wanted)


def test_the_average_pool_takes_a_cube_smaller_than_its_kernel() -> None:
    cube = torch.ones(1, 1, 2, 2, 3)
    out = AvgPool3d((3, 3, 3), (1, 1, 1))(cube)
    torch.testing.assert_close(out, torch.full_like(cube, 4 / 27))


def test_the_class_token_passes_a_pool_untouched() -> None:
    tokens = torch.randn(2, 1 + 2 * 4 * 4, 6)
    pooled, thw = pool_tokens(tokens, (2, 4, 4), MaxPool3d((1, 3, 3), (1, 2, 2)), num_extra=1)
    assert thw == (2, 2, 2) and pooled.shape == (2, 9, 6)
    assert torch.equal(pooled[:, 0], tokens[:, 0])
    alone, _ = pool_tokens(tokens[:, 1:], (2, 4, 4), MaxPool3d((1, 3, 3), (1, 2, 2)))
    assert torch.equal(pooled[:, 1:], alone)
