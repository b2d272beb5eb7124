"""The largest batch that fits, where the worst moment of a pass depends on the batch."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvit_video.benchmark.memory import _largest_batch

_lines = st.lists(
    st.tuples(st.integers(0, 5000), st.integers(1, 400)), min_size=1, max_size=4
)  # bytes of a moment whatever the batch, and by clip


@given(_lines, st.integers(0, 40_000), st.integers(1, 8))
def test_the_largest_batch_fits(lines, room, batch):
    def pass_bytes(clips: int) -> int:
        return max(fixed + each * clips for fixed, each in lines)

    largest = _largest_batch(pass_bytes, room, batch)
    assert largest == 0 or pass_bytes(largest) <= room
    if len(lines) == 1:
        assert pass_bytes(largest + 1) > room


@pytest.mark.parametrize(("room", "largest"), [(114, 0), (115, 1), (5000, 43), (-50, 0)])
def test_and_no_larger_one_does(room, largest):
    def pass_bytes(clips: int) -> int:
        return max(50 + 50 * clips, 115 * clips)

    assert _largest_batch(pass_bytes, room, 4) == largest
