"""The instrument itself: in which order it times, and what it makes of it."""

from __future__ import annotations

import torch

from mvit_video.benchmark.measure import (
    alternate,
    in_fresh_process,
    median_and_spread,
    peak_resident_mib,
    ratio,
)


def test_jobs_take_turns_and_the_first_round_does_not_count():
    called = []
    jobs = {name: lambda name=name: called.append(name) for name in "abc"}
    seconds = alternate(jobs, 4, torch.device("cpu"))
    assert "".join(called) == "cba" + "abc" + "cba" + "abc" + "cba"
    assert {name: len(taken) for name, taken in seconds.items()} == {"a": 4, "b": 4, "c": 4}


def test_one_slow_round_moves_neither_median_nor_ratio():
    ours, theirs = [1.0, 1.0, 9.0, 1.0, 1.0], [2.0, 2.0, 18.0, 2.0, 2.0]
    assert median_and_spread(ours) == (1.0, 0.0)
    assert ratio(theirs, ours) == {"time": 2.0, "time_spread": 0.0}
    assert median_and_spread([3.0]) == (3.0, 0.0)


def hold_memory(mib: int) -> tuple[float, float]:
    before = peak_resident_mib()
    torch.ones(mib * 2**18)  # four bytes each; gone again at once
    return before, peak_resident_mib()


def test_peak_memory_is_that_of_the_process_asked():
    before, peak = in_fresh_process(hold_memory, 200)
    assert 195 < peak - before < 230
