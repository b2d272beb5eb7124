"""The memory of a step: the largest batch that fits, and what another implementation takes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvit_video.benchmark.memory import _largest_batch, benchmark_memory
from mvit_video.benchmark.report import as_text
from mvit_video.config import load_config
from mvit_video.errors import InputError
from tests.tiny_run import TINY_MODEL, overrides

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


@pytest.mark.parametrize("name", ["materialised", "pytorchvideo"])
def test_another_implementation_keeps_more(name):
    # pytorchvideo has separable positions only
    cfg = load_config(None, overrides(TINY_MODEL | {"MVIT.SEP_POS_EMBED": True}))
    result = benchmark_memory(cfg, [name], batch=2)
    ours, theirs = result["candidates"]["0 of 2 blocks recomputed"], result["ratios"][name]
    assert theirs["pass_memory"] > 1.2
    candidate = result["candidates"][name]
    assert candidate["largest_batch"] < ours["largest_batch"]
    assert theirs["pass_memory"] == candidate["pass_memory_mib"] / ours["pass_memory_mib"]
    assert f"{name} takes" in as_text(result)


def test_a_model_that_the_other_does_not_have_is_refused():
    cfg = load_config("configs/K400/MVITv2_S_16x4.yaml")
    with pytest.raises(InputError, match="pytorchvideo does not have this model"):
        benchmark_memory(cfg, ["pytorchvideo"])
