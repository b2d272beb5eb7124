"""Learning rates at chosen moments, against SlowFast's formula (slowfast/utils/lr_policy.py) written out."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvit_video.config import load_config
from mvit_video.train.schedule import build_schedule, learning_rate_scale
from tests.tiny_run import overrides

K400 = {
    "SOLVER.BASE_LR": 1.6e-3,
    "SOLVER.WARMUP_START_LR": 1.6e-5,
    "SOLVER.COSINE_END_LR": 1.6e-5,
    "SOLVER.WARMUP_EPOCHS": 30,
    "SOLVER.MAX_EPOCH": 200,
}


def slowfast(epoch, base, start, end, warmup, length, after_warmup):
    def cosine(at):
        offset = warmup if after_warmup else 0.0
        return end + (base - end) * (math.cos(math.pi * (at - offset) / (length - offset)) + 1) / 2

    if epoch < warmup:
        return start + epoch * (cosine(warmup) - start) / warmup
    return cosine(epoch)


@pytest.mark.parametrize("after_warmup", [True, False])
@pytest.mark.parametrize("warmup", [0, 0.5, 30])
@given(epoch=st.floats(0, 199.999))
def test_values_are_slowfasts(after_warmup, warmup, epoch):
    cfg = load_config(
        None,
        overrides(
            {**K400, "SOLVER.WARMUP_EPOCHS": warmup, "SOLVER.COSINE_AFTER_WARMUP": after_warmup}
        ),
    )
    expected = slowfast(epoch, 1.6e-3, 1.6e-5, 1.6e-5, warmup, 200, after_warmup)
    # fvcore goes over to the cosine a millionth of the run early.
    tolerance = 1e-6 if abs(epoch - warmup) < 1e-3 else 1e-10
    assert build_schedule(cfg)(epoch) == pytest.approx(expected, rel=1e-9, abs=tolerance)


def test_k400_recipe_at_chosen_epochs():
    schedule = build_schedule(load_config(None, overrides(K400)))
    assert schedule(0) == pytest.approx(1.6e-5)
    assert schedule(15) == pytest.approx((1.6e-5 + 1.6e-3) / 2)
    assert schedule(30) == pytest.approx(1.6e-3)
    assert schedule(115) == pytest.approx((1.6e-5 + 1.6e-3) / 2)
    assert schedule(200 - 1e-9) == pytest.approx(1.6e-5)


def test_warmup_over_the_whole_run():
    cfg = load_config(None, overrides({**K400, "SOLVER.WARMUP_EPOCHS": 200}))
    assert build_schedule(cfg)(100) == pytest.approx((1.6e-5 + 1.6e-3) / 2)


@pytest.mark.parametrize(("scaling", "factor"), [("linear", 4.0), ("sqrt", 2.0)])
def test_rates_follow_the_clips_per_update(scaling, factor):
    keys = {
        **K400,
        "SOLVER.REFERENCE_BATCH_SIZE": 32,
        "SOLVER.LR_SCALING": scaling,
        "TRAIN.BATCH_SIZE": 64,
        "AUG.NUM_SAMPLE": 2,
    }
    cfg = load_config(None, overrides(keys))
    assert learning_rate_scale(cfg) == factor
    as_stated = build_schedule(load_config(None, overrides(K400)))
    for epoch in (0, 7.5, 30, 100):
        assert build_schedule(cfg)(epoch) == pytest.approx(factor * as_stated(epoch))


def test_rates_stand_as_they_are_without_a_reference():
    cfg = load_config(None, overrides({**K400, "TRAIN.BATCH_SIZE": 512}))
    assert learning_rate_scale(cfg) == 1.0
