"""The computed memory of a training step against the measured one, and what a budget makes of it."""

from __future__ import annotations

import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.profiler import ProfilerActivity, profile

from mvit_video.build import build_model
from mvit_video.config import load_config
from mvit_video.errors import InputError
from mvit_video.evaluate.scoring import autocast
from mvit_video.models.blocks import blocks_of
from mvit_video.train.loop import train
from mvit_video.train.memory import (
    GIB,
    activation_bytes,
    fit_to_budget,
    recompute_first,
    state_bytes,
)
from mvit_video.world import World
from tests.tiny_run import TINY_MODEL, overrides
from tests.train.test_training import Stop

CLIPS = 8  # few, and what a convolution takes inside itself, whatever their number, would weigh
SIZE = {"DATA.NUM_FRAMES": 8, "DATA.TRAIN_CROP_SIZE": 64, "DATA.TEST_CROP_SIZE": 64,
        "DATA.TRAIN_JITTER_SCALES": [64, 72], "TRAIN.BATCH_SIZE": CLIPS}  # fmt: skip
MVIT = {
    **TINY_MODEL,
    **SIZE,
    "MVIT.DEPTH": 4,
    "MVIT.DROPPATH_RATE": 0.2,
    "MVIT.REL_POS_SPATIAL": True,
    "MVIT.REL_POS_TEMPORAL": True,
    "MVIT.RESIDUAL_POOLING": True,
}
FAMILIES = {
    "MViT": MVIT,
    "DualViT": SIZE | {"MODEL.MODEL_NAME": "DualViT", "DUALVIT.VARIANT": "DUALVIT_TINY"},
    "MPViT": SIZE | {"MODEL.MODEL_NAME": "MPViT", "MPVIT.VARIANT": "MPVIT_TINY"},
    "CloFormer": SIZE | {"MODEL.MODEL_NAME": "CloFormer", "CLOFORMER.VARIANT": "CLOFORMER_TINY"},
}


def make(keys: dict[str, object]):
    cfg = load_config(None, overrides(keys))
    torch.manual_seed(0)
    return cfg, build_model(cfg).train()


def measured(model: nn.Module, cfg, clips: int) -> int:
    """Most bytes that torch's CPU allocator held in a step beyond what it held before."""
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    side = cfg.DATA.TRAIN_CROP_SIZE

    def step() -> None:
        raw = torch.zeros(clips, 3, cfg.DATA.NUM_FRAMES, side, side, dtype=torch.uint8)
        batch = raw.float()
        with autocast(torch.device("cpu"), cfg.TRAIN.PRECISION):
            loss = F.cross_entropy(model(batch), torch.zeros(clips, dtype=torch.int64))
        loss.backward()
        del raw

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak


# No MViT in bfloat16: a CPU without such instructions unfolds the input of a 3D convolution, which a GPU does not.
_slowly = pytest.mark.slow


@pytest.mark.parametrize(
    ("family", "precision"),
    [
        ("MViT", "float32"),
        pytest.param("CloFormer", "float32", marks=_slowly),
        pytest.param("MPViT", "float32", marks=_slowly),
        pytest.param("CloFormer", "bfloat16", marks=_slowly),
    ],
)
def test_the_computed_peak_is_near_the_measured_one(family, precision):
    cfg, model = make(FAMILIES[family] | {"TRAIN.PRECISION": precision})
    for recomputed in (0, len(blocks_of(model))):
        recompute_first(model, recomputed)
        computed = activation_bytes(model, cfg, CLIPS, recomputed)
        assert computed == pytest.approx(measured(model, cfg, CLIPS), rel=0.08), recomputed


def test_computing_it_leaves_the_model_and_the_generator_alone():
    cfg, model = make(MVIT)
    recompute_first(model, 1)
    before = [block.recompute for block in blocks_of(model)], torch.get_rng_state()
    activation_bytes(model, cfg, CLIPS, 3)
    assert [block.recompute for block in blocks_of(model)] == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_least_is_recomputed_that_fits(caplog):
    caplog.set_level("INFO", "mvit_video")
    cfg, model = make(MVIT)
    state, blocks = state_bytes(model, cfg, 1), len(blocks_of(model))
    peaks = [state + activation_bytes(model, cfg, CLIPS, n) for n in range(blocks + 1)]
    assert peaks == sorted(peaks, reverse=True) and peaks[2] < peaks[1] < 0.85 * peaks[0]
    cfg, model = make(MVIT | {"TRAIN.MEMORY_BUDGET": (peaks[1] - 1) / GIB})
    assert fit_to_budget(model, cfg, World()) == 2
    assert [block.recompute for block in blocks_of(model)] == [True, True, False, False]
    assert "2 of 4 blocks recomputed, stage 0: 1 of 1, stage 1: 1 of 3" in caplog.text


def test_a_run_goes_on_with_another_budget_to_the_same_bits(words, caplog):
    caplog.set_level("INFO", "mvit_video")

    def run(output: str, stop: Stop, budget: float) -> nn.Module:
        changes = {"SOLVER__MAX_EPOCH": 1, "TRAIN__EVAL_PERIOD": 0, "TRAIN__MEMORY_BUDGET": budget}
        return train(load_config(None, words(output, **changes)), World(), stop).model

    cfg = load_config(None, words())
    model = build_model(cfg)
    clips = cfg.TRAIN.BATCH_SIZE
    least = state_bytes(model, cfg, 1) + activation_bytes(model, cfg, clips, len(blocks_of(model)))
    plain = run("plain", Stop(), 0)
    run("other", Stop(2), (least + 1) / GIB)
    other = run("other", Stop(), 0.5)
    assert re.search("with [12] of 3 blocks recomputed.*with 0 of 3", caplog.text, re.DOTALL)
    assert "and is now 0.5: numbers stay the same but for rounding" in caplog.text
    for name, tensor in plain.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name


def test_a_budget_that_nothing_fits_says_what_to_change():
    cfg, model = make(MVIT | {"TRAIN.MEMORY_BUDGET": 1e-3})
    with pytest.raises(InputError, match=r"TRAIN\.BATCH_SIZE"):
        fit_to_budget(model, cfg, World())
    with pytest.raises(InputError, match="GiB per rank"):
        make(MVIT | {"TRAIN.MEMORY_BUDGET": -1})


def test_shards_and_micro_batches_take_less():
    cfg, model = make(MVIT | {"SOLVER.EMA_DECAY": 0.9})
    weights = sum(p.numel() for p in model.parameters())
    assert state_bytes(model, cfg, 4) == 4 * 5 * weights  # weights, average, gradient, two moments
    sharded, _ = make(MVIT | {"SOLVER.EMA_DECAY": 0.9, "TRAIN.FSDP": True})
    assert state_bytes(model, sharded, 1) == state_bytes(model, cfg, 1)
    sizes = sorted(sum(p.numel() for p in block.parameters()) for block in blocks_of(model))
    whole_blocks = 2 * (sizes[-1] + sizes[-2])  # weights and gradients
    assert state_bytes(model, sharded, 8) == 4 * (5 * weights // 8 + whole_blocks)


@pytest.mark.parametrize("family", ("DualViT", "MPViT", "CloFormer"))  # MViT: tests/models
def test_a_budget_changes_no_gradient(family):
    results = []
    for recomputed in (0, 3):
        _, model = make(FAMILIES[family])
        recompute_first(model.double(), recomputed)
        torch.manual_seed(3)
        clip = torch.randn(2, 3, 4, 32, 32, dtype=torch.float64)
        model(clip).square().sum().backward()
        results.append([parameter.grad for parameter in model.parameters()])
    for plain, recomputed in zip(*results, strict=True):
        torch.testing.assert_close(plain, recomputed, rtol=1e-12, atol=1e-14)
