"""One update: micro-batches, clipping, averaging, number formats, seeds."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import nn

from mvit_video.build import build_model
from mvit_video.config import load_config
from mvit_video.data.augmentation.recipe import ClipChoices
from mvit_video.data.loader import TrainBatch
from mvit_video.data.preprocessing import Preprocessing
from mvit_video.evaluate.scoring import autocast
from mvit_video.models.blocks import compile_blocks
from mvit_video.train.checkpoint import differences
from mvit_video.train.inputs import TrainInputs
from mvit_video.train.update import Updater, forward_seed
from mvit_video.world import World
from tests.tiny_run import TINY_MODEL, overrides


class Double(nn.Module):
    """A model that computes in float64, whatever it is fed."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.inner = model.double()

    def forward(self, clip: torch.Tensor) -> torch.Tensor:
        return self.inner(clip.double())


def make_updater(double: bool = False, **changes: object) -> Updater:
    cfg = load_config(None, overrides({**TINY_MODEL, **changes}))
    torch.manual_seed(0)
    model = build_model(cfg)
    return Updater(Double(model) if double else model, cfg, Preprocessing.from_config(cfg), World())


def make_batch(videos: int, seed: int = 0) -> TrainBatch:
    random = torch.Generator().manual_seed(seed)
    return TrainBatch(
        clips=torch.randint(256, (videos, 3, 4, 32, 32), generator=random, dtype=torch.uint8),
        label=torch.randint(3, (videos,), generator=random),
        index=torch.arange(videos),
        choices=[ClipChoices()] * videos,
        substituted=torch.zeros(videos, dtype=torch.bool),
        undecodable=[],
    )


def split(batch: TrainBatch, parts: int) -> list[TrainBatch]:
    size = len(batch["label"]) // parts
    return [
        TrainBatch(**{name: value[i * size :][:size] for name, value in batch.items()})
        for i in range(parts)
    ]


def weights(updater: Updater) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in updater.model.parameters()])


@pytest.mark.parametrize("method", ["adamw", "sgd"])
@pytest.mark.parametrize("parts", [2, 4])
@pytest.mark.parametrize("mixing", ["batch", "elem"])
def test_micro_batches_give_the_update_of_the_whole_batch(method, parts, mixing):
    changes = {
        "MIXUP.ENABLE": True,
        "MIXUP.MODE": mixing,
        "SOLVER.OPTIMIZING_METHOD": method,
        "SOLVER.CLIP_GRAD_L2NORM": 0.5,
        "MIXUP.LABEL_SMOOTH_VALUE": 0.1,
    }
    whole, in_parts = (make_updater(double=True, **changes) for _ in range(2))
    for step in range(3):
        batch = make_batch(8, seed=step)
        a = whole.update([batch], step, 0.01)
        b = in_parts.update(split(batch, parts), step, 0.01)
        torch.testing.assert_close(a.loss, b.loss)
        torch.testing.assert_close(a.grad_norm, b.grad_norm, rtol=1e-10, atol=0)
    assert (weights(whole) - weights(in_parts)).abs().max() < 1e-10


def test_gradients_are_scaled_down_to_the_clipping_norm():
    changes = {"SOLVER.OPTIMIZING_METHOD": "sgd", "SOLVER.WEIGHT_DECAY": 0.0}
    updater = make_updater(**changes, **{"SOLVER.CLIP_GRAD_L2NORM": 0.1, "SOLVER.MOMENTUM": 0.0})
    before = weights(updater)
    outcome = updater.update([make_batch(4)], 0, 1.0)
    assert outcome.grad_norm > 0.1
    assert (weights(updater) - before).norm() == pytest.approx(0.1, rel=1e-3)


def averages(updater: Updater) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in updater.ema.module.parameters()])


@pytest.mark.parametrize(
    ("warmup", "decays"),
    [(1, [0.75] * 4), (10, [1 / 10, 2 / 11, 3 / 12, 4 / 13]), (2, [0.5, 2 / 3, 0.75, 0.75])],
)
def test_the_average_follows_the_weights(warmup, decays):
    updater = make_updater(**{"SOLVER.EMA_DECAY": 0.75, "SOLVER.EMA_WARMUP": warmup})
    expected = weights(updater)
    for step, decay in enumerate(decays):
        updater.update([make_batch(4, step)], step, 0.01)
        expected = decay * expected + (1 - decay) * weights(updater)
    torch.testing.assert_close(averages(updater), expected)
    assert (averages(updater) - weights(updater)).abs().max() > 1e-4


def test_compiled_blocks_train_average_and_evaluate_as_plain_ones(monkeypatch):
    compile_eagerly = partial(compile_blocks, backend="eager")
    monkeypatch.setattr("mvit_video.train.update.compile_blocks", compile_eagerly)
    torch._dynamo.reset()

    def evaluate(updater: Updater, views: int, precision: str = "float32") -> torch.Tensor:
        clips = make_batch(views, seed=9)["clips"].float()
        with torch.inference_mode(), autocast(clips.device, precision):
            return updater.ema.module.eval()(clips)

    with torch._dynamo.config.patch(recompile_limit=1):  # raised as far as blocks need
        one_block = {"MVIT.DEPTH": 1} | {
            f"MVIT.{k}": [] for k in ("DIM_MUL", "HEAD_MUL", "POOL_Q_STRIDE")
        }
        keys = {"SOLVER.EMA_DECAY": 0.5, "SOLVER.EMA_WARMUP": 1} | one_block
        plain, compiled = (make_updater(**keys, **{"MODEL.COMPILE": on}) for on in (False, True))
        for step in range(3):
            with torch.compiler.set_stance("fail_on_recompile" if step == 2 else "default"):
                for updater in (plain, compiled):
                    updater.update([make_batch(6 - step, step)], step, 0.01)
                for views in (1, 6 - step):
                    scores = (evaluate(updater, views) for updater in (plain, compiled))
                    torch.testing.assert_close(*scores, rtol=1e-4, atol=1e-4)
        for views in (1, 6):
            evaluate(compiled, views, "bfloat16")
    torch.testing.assert_close(averages(compiled), averages(plain), rtol=1e-3, atol=1e-4)


def poison(batch: TrainBatch) -> Callable[..., tuple[torch.Tensor, torch.Tensor]]:
    """Makes inputs as `TrainInputs.prepare` does, but for NaN in the first clip of `batch`."""

    def prepare(self, part, *place):
        clips, target = original(self, part, *place)
        if part["index"][0] == batch["index"][0]:
            clips[0, 0, 0, 0, 0] = float("nan")
        return clips, target

    original = TrainInputs.prepare
    return prepare


def batches(count: int) -> list[TrainBatch]:
    made = [make_batch(4, seed) for seed in range(count)]
    for number, batch in enumerate(made):
        batch["index"] += 100 * number
    return made


@pytest.mark.parametrize("method", ["adamw", "sgd"])
@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("bad", [0, 2])
def test_a_skipped_update_is_as_if_it_had_not_been(monkeypatch, method, precision, bad):
    """In a model with BatchNorm, whose statistics change before anyone knows that the loss is not finite."""
    changes = {
        "MODEL.MODEL_NAME": "MPViT",
        "MPVIT.VARIANT": "MPVIT_TINY",
        "SOLVER.OPTIMIZING_METHOD": method,
        "SOLVER.EMA_DECAY": 0.9,
        "SOLVER.CLIP_GRAD_L2NORM": 1.0,
        "TRAIN.NONFINITE": "skip",
        "TRAIN.PRECISION": precision,
    }
    spared, skipping = make_updater(**changes), make_updater(**changes)
    assert any(buffer.is_floating_point() for buffer in skipping.model.buffers())
    parts = batches(4)
    for step, part in enumerate(parts):
        if step != bad:
            spared.update([part], step, 0.01)
    monkeypatch.setattr(TrainInputs, "prepare", poison(parts[bad]))
    finite = [bool(skipping.update([part], step, 0.01).finite) for step, part in enumerate(parts)]
    assert finite == [step != bad for step in range(4)]
    assert int(skipping.skipped) == int(spared.skipped) + 1
    assert not differences(spared.state_dict(), skipping.state_dict())


def test_nothing_follows_a_bad_update_until_the_run_has_gone_back(monkeypatch):
    updater = make_updater()
    first, second, third = batches(3)
    updater.update([first], 0, 0.01)
    saved, before = copy.deepcopy(updater.state_dict()), weights(updater)
    monkeypatch.setattr(TrainInputs, "prepare", poison(second))
    assert not updater.update([second], 1, 0.01).finite
    assert not updater.update([third], 2, 0.01).finite
    assert torch.equal(weights(updater), before)
    updater.load_state_dict(saved, 1)
    assert updater.update([third], 1, 0.01).finite
    assert not torch.equal(weights(updater), before)


def test_a_gradient_that_overflows_at_any_scale_is_not_finite():
    updater = make_updater(**{"TRAIN.PRECISION": "float16"})
    updater.scaler.update(1.0)
    with torch.no_grad():
        updater.model.head.projection.weight.mul_(1e-3)
    updater.model.head.projection.weight.register_hook(lambda grad: grad * float("inf"))
    assert not updater.update([make_batch(2)], 0, 0.01).finite


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_each_precision_learns_a_batch(precision):
    updater = make_updater(**{"TRAIN.PRECISION": precision})
    batch = make_batch(6)
    losses = [float(updater.update([batch], step, 3e-3).loss) for step in range(12)]
    assert losses[-1] < 0.6 * losses[0]
    assert updater.scaler.is_enabled() == (precision == "float16")
    assert {p.dtype for p in updater.model.parameters()} == {torch.float32}


def test_float16_leaves_out_a_step_that_overflows():
    updater = make_updater(**{"TRAIN.PRECISION": "float16"})
    batch = make_batch(4)
    updater.update([batch], 0, 0.01)
    updater.scaler.update(2.0**40)
    before = weights(updater)
    outcome = updater.update([batch], 1, 0.01)
    assert not outcome.grad_norm.isfinite()
    assert outcome.finite  # nothing is wrong: the next one is scaled less
    assert torch.equal(weights(updater), before)
    assert updater.scaler.get_scale() < 2.0**40


def test_a_loss_that_is_not_finite_is_told():
    updater = make_updater()
    with torch.no_grad():
        updater.model.head.projection.weight.fill_(float("inf"))
    assert not updater.update([make_batch(2)], 0, 0.01).finite


def test_dropout_depends_on_the_place_and_on_nothing_else():
    changes = {"MODEL.DROPOUT_RATE": 0.5, "MVIT.DROPPATH_RATE": 0.5}
    batch = make_batch(4)

    def loss(step: int, seed: int = 0) -> float:
        updater = make_updater(**changes, RNG_SEED=seed)
        torch.manual_seed(step * 31 + seed)  # what the global generator was before does not matter
        torch.rand(seed + 1)
        return float(updater.update([batch], step, 0.0).loss)

    assert loss(5) == loss(5)
    assert len({loss(5), loss(6), loss(5, seed=1)}) == 3


def test_no_two_forward_passes_share_a_seed():
    places = [(step, part, rank) for step in range(20) for part in range(3) for rank in range(5)]
    assert len({forward_seed(7, *place) for place in places}) == len(places)
    assert forward_seed(-1, 0, 0, 0) != forward_seed(0, 0, 0, 0)


def test_state_goes_on_where_it_was_saved():
    changes = {"SOLVER.EMA_DECAY": 0.9, "MODEL.DROPOUT_RATE": 0.5}
    undisturbed, saved = make_updater(**changes), make_updater(**changes)
    for updater in (undisturbed, saved):
        for step in range(2):
            updater.update([make_batch(4, step)], step, 0.01)
    resumed = make_updater(**changes)
    resumed.load_state_dict(copy.deepcopy(saved.state_dict()), step=2)
    for updater in (undisturbed, resumed):
        updater.update([make_batch(4, 2)], 2, 0.01)
    assert torch.equal(weights(undisturbed), weights(resumed))
    for a, b in zip(
        undisturbed.ema.module.parameters(), resumed.ema.module.parameters(), strict=True
    ):
        assert torch.equal(a, b)
