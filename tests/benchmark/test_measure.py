"""The instrument itself: what it counts, and in which order it times."""

from __future__ import annotations

import pytest
import torch

from mvit_video.benchmark.flops import count_multiply_adds
from mvit_video.benchmark.measure import (
    alternate,
    in_fresh_process,
    median_and_spread,
    peak_resident_mib,
    ratio,
)
from mvit_video.build import build_model
from mvit_video.config import load_config
from tests.tiny_run import TINY_MODEL, overrides


@pytest.mark.parametrize(
    ("config", "billions"),
    [
        ("K400/MVIT_B_16x4", 70.599),
        ("K400/MVIT_B_32x3", 169.96),
        ("K400/MVITv2_S_16x4", 64.22),
        ("K400/MVITv2_L_40x3", 2823.40),
    ],
)
def test_multiply_adds_are_the_published_ones(config, billions):
    """../shared/reference/mvit.md, 1.9: folded biases and padded heads do not count."""
    cfg = load_config(f"configs/{config}.yaml")
    size = cfg.DATA.TRAIN_CROP_SIZE
    with torch.device("meta"):
        model = build_model(cfg)
    counted = count_multiply_adds(model, (1, 3, cfg.DATA.NUM_FRAMES, size, size))
    assert counted / 1e9 == pytest.approx(billions, abs=0.005)


def test_counting_leaves_the_model_working():
    model = build_model(load_config(None, overrides(TINY_MODEL))).eval()
    clip = torch.randn(1, 3, 4, 32, 32)
    before = model(clip)
    count_multiply_adds(model, clip.shape)
    assert torch.equal(model(clip), before)


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
