"""Position tables at their own size, at others, and what eval keeps of them."""

from __future__ import annotations

import copy
import pickle

import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from mvit_video.layers.position import (
    EvalCache,
    relative_index,
    relative_vectors,
    resize_grid,
    separable_positions,
)


def test_at_its_own_size_a_table_is_untouched() -> None:
    table = torch.randn(1, 24, 5)
    assert resize_grid(table, (2, 3, 4), (2, 3, 4)) is table
    relative = torch.randn(9, 5)
    assert torch.equal(relative_vectors(relative, 5, 5)[2, 4], relative[2])


def test_separable_positions_are_the_sum_spread_over_the_grid() -> None:
    spatial, temporal = torch.randn(1, 12, 5), torch.randn(1, 2, 5)
    spread = separable_positions(spatial, temporal, (2, 3, 4), (2, 3, 4)).view(2, 12, 5)
    for t in range(2):
        assert torch.equal(spread[t], temporal[0, t] + spatial[0])


def test_separable_and_joint_tables_interpolate_alike() -> None:
    spatial, temporal = torch.randn(1, 12, 5).double(), torch.randn(1, 2, 5).double()
    grid, larger = (2, 3, 4), (5, 4, 7)
    joint = separable_positions(spatial, temporal, grid, grid)
    torch.testing.assert_close(
        separable_positions(spatial, temporal, grid, larger), resize_grid(joint, grid, larger)
    )


def test_half_precision_tables_are_interpolated_in_float32() -> None:
    table = torch.randn(1, 24, 5)
    resized = resize_grid(table.bfloat16(), (2, 3, 4), (4, 6, 5))
    assert resized.dtype == torch.bfloat16
    exact = resize_grid(table.bfloat16().float(), (2, 3, 4), (4, 6, 5)).bfloat16()
    assert torch.equal(resized, exact)


@given(st.integers(1, 80), st.integers(1, 80))
def test_relative_index_stays_in_its_table(num_queries: int, num_keys: int) -> None:
    index = relative_index(num_queries, num_keys)
    assert index.min() >= 0 and index.max() <= 2 * max(num_queries, num_keys) - 2
    assert index[0, -1] == 0  # the furthest key behind the first query
    assert (index[1:] >= index[:-1]).all() and (index[:, 1:] <= index[:, :-1]).all()


def test_relative_index_of_equal_sizes_is_the_shifted_difference() -> None:
    assert relative_index(3, 3).tolist() == [[2, 1, 0], [3, 2, 1], [4, 3, 2]]
    assert relative_index(4, 2).tolist() == [[2, 0], [3, 1], [4, 2], [5, 3]]
    assert relative_index(2, 4).tolist() == [[3, 2, 1, 0], [5, 4, 3, 2]]


def test_a_table_of_another_length_is_interpolated_linearly() -> None:
    """MViTv2-L at 312: tables of 37 rows, read by grids that need 39."""
    table = torch.randn(37, 6)
    resized = F.interpolate(table.T[None], size=39, mode="linear")[0].T
    assert torch.equal(relative_vectors(table, 20, 10), resized[relative_index(20, 10)])


def test_the_cache_serves_only_the_tables_it_was_made_from() -> None:
    cache, table, calls = EvalCache(), nn.Parameter(torch.zeros(3)), []

    def get(key: int = 0) -> torch.Tensor:
        def compute() -> torch.Tensor:
            calls.append(key)
            return table * 2

        return cache.get(key, (table, None), compute)

    get()
    get()
    assert len(calls) == 2  # grad is on
    with torch.no_grad():
        get()
        get()
        assert len(calls) == 3
        get(1)
        assert len(calls) == 4  # another size
        table.add_(1)
        assert get(1).eq(2).all() and len(calls) == 5
        table.data = table.data.double()
        assert get(1).dtype == torch.float64
        before = len(calls)
        cache.clear()
        get(1)
        assert len(calls) == before + 1


def test_the_cache_is_not_copied_or_saved() -> None:
    cache = EvalCache()
    with torch.no_grad():
        cache.get(0, (torch.zeros(2),), lambda: torch.ones(2))
    for other in (copy.deepcopy(cache), pickle.loads(pickle.dumps(cache))):
        calls = []
        with torch.no_grad():
            other.get(0, (torch.zeros(2),), lambda calls=calls: calls.append(1))
        assert calls == [1]
