"""The folded biases against the materialised ones."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mvit_video.layers.attention import (
    attention,
    key_bias,
    one_hot_grid,
    relative_position_bias,
)
from mvit_video.layers.position import relative_vectors
from tests.reference import materialised

grids = st.tuples(st.integers(1, 4), st.integers(1, 6), st.integers(1, 6))


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


@settings(max_examples=40, deadline=None)
@given(
    q_thw=grids,
    k_thw=grids,
    heads=st.integers(1, 3),
    width=st.sampled_from([4, 7, 16]),
    extra=st.integers(0, 2),
    axes=st.tuples(st.booleans(), st.booleans(), st.booleans()).filter(any),
)
def test_folded_relative_positions_are_the_materialised_ones(
    q_thw, k_thw, heads, width, extra, axes
) -> None:
    """Forward and backward, any two grids, any axes, tables of a length that does not fit."""
    q = draw(2, extra + math.prod(q_thw), heads, width)
    k, v = (draw(2, heads, extra + math.prod(k_thw), width) for _ in range(2))
    tables = tuple(draw(5 + axis, width) if wanted else None for axis, wanted in enumerate(axes))
    sizes = list(zip(tables, q_thw, k_thw, strict=True))
    vectors = tuple(t if t is None else relative_vectors(t, n, m) for t, n, m in sizes)
    rows = one_hot_grid(k_thw, axes, extra, q.dtype)
    bias = relative_position_bias(q, q_thw, vectors, rows, extra)
    folded = attention(q.transpose(1, 2), k, v, bias)
    matrix = materialised.relative_bias(q.transpose(1, 2), q_thw, k_thw, tables, extra)
    expected = materialised.attention(q.transpose(1, 2), k, v, matrix)
    torch.testing.assert_close(folded, expected, rtol=1e-10, atol=1e-10)
    leaves = [q, k, v, *(table for table in tables if table is not None)]
    weights = torch.randn_like(expected)
    ours = torch.autograd.grad((folded * weights).sum(), leaves)
    wanted = torch.autograd.grad((expected * weights).sum(), leaves)
    for a, b in zip(ours, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("value_width", [3, 8, 21])
def test_a_key_bias_is_an_additive_mask(value_width: int) -> None:
    q, k, v = draw(2, 3, 11, 8), draw(2, 3, 5, 8), draw(2, 3, 5, value_width)
    bias = draw(5)
    out = attention(q, k, v, key_bias(bias), scale=0.3)
    mask = bias.expand(2, 3, 11, 5)
    expected = (0.3 * q @ k.mT + mask).softmax(-1) @ v
    torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12)
    ours, wanted = (torch.autograd.grad(x.square().sum(), (q, k, v, bias)) for x in (out, expected))
    for a, b in zip(ours, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def test_without_a_bias_it_is_the_textbooks() -> None:
    q, k, v = draw(2, 3, 11, 8), draw(2, 3, 5, 8), draw(2, 3, 5, 8)
    torch.testing.assert_close(attention(q, k, v), materialised.attention(q, k, v))


def test_a_biased_key_counts_as_often_as_its_bias_says() -> None:
    """exp(log m) = m: a key with bias log m acts as m copies of itself."""
    q, k, v = draw(1, 1, 4, 8), draw(1, 1, 3, 8), draw(1, 1, 3, 8)
    out = attention(q, k, v, key_bias(torch.tensor([1.0, 3.0, 2.0], dtype=torch.float64).log()))
    copies = torch.tensor([0, 1, 1, 1, 2, 2])
    torch.testing.assert_close(out, attention(q, k[:, :, copies], v[:, :, copies]))


def test_fused_attention_never_makes_the_matrix() -> None:
    """What autograd keeps is a small multiple of the inputs, though N x M would be 100 times that."""
    thw = (4, 24, 24)
    q = torch.randn(1, math.prod(thw), 1, 16, requires_grad=True)
    k, v = (torch.randn(1, 1, math.prod(thw), 16, requires_grad=True) for _ in range(2))
    vectors = tuple(torch.randn(n, n, 16) for n in thw)
    kept = []

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        bias = relative_position_bias(q, thw, vectors, one_hot_grid(thw))
        attention(q.transpose(1, 2), k, v, bias)
    assert max(kept) < 10 * q.numel() < math.prod(thw) ** 2 / 10


def test_one_hot_rows_name_each_tokens_place() -> None:
    rows = one_hot_grid((2, 3, 4), num_extra=1)
    assert rows.shape == (25, 9) and not rows[0].any()
    t, h, w = 1, 2, 3
    assert rows[1 + (t * 3 + h) * 4 + w].nonzero().flatten().tolist() == [t, 2 + h, 5 + w]
    assert torch.equal(one_hot_grid((2, 3, 4), (False, True, False)), rows[1:, 2:5])
