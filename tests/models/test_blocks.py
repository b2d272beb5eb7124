"""The units of every model: each belongs to a stage, is recomputed if asked, and compiles once for any batch."""

from __future__ import annotations

import copy
import gc

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend
from torch._dynamo.utils import counters

from mvit_video.build import build_model
from mvit_video.config import load_config
from mvit_video.models.blocks import Block, blocks_of, compile_blocks, recompute
from mvit_video.train.memory import LiveBytes
from tests.models.test_all_models import SMALL, clip, make

FAMILIES = ("MViT v1", "MViT v2", "DualViT", "MPViT", "CloFormer")
each_family = pytest.mark.parametrize("which", FAMILIES)
_TWO_BLOCKS = {
    "depth": 2,
    "pool_q_stride": ((1, 1, 2, 2),),
    "dim_mul": ((1, 2.0),),
    "head_mul": ((1, 2.0),),
}
# To trace a block takes seconds: one of each kind is enough.
SHORT = {
    "MViT v1": _TWO_BLOCKS,
    "MViT v2": _TWO_BLOCKS,
    "DualViT": {"depths": (1, 1, 1, 1)},
    "MPViT": {"depths": (1, 1, 1, 1)},
    "CloFormer": {
        "widths": (16, 32),
        "heads": ((1, 1), (1, 1)),
        "depths": (1, 1),
        "kernels": (3, 3),
        "pools": (8, 4),
    },
}
STAGES = {"MViT v1": {0, 1, 2}, "MViT v2": {0, 1, 2}}


@pytest.mark.parametrize("which", SMALL)
def test_blocks_know_their_stage(which):
    stages = [block.stage for block in blocks_of(make(which))]
    assert set(stages) == STAGES.get(which, {0, 1, 2, 3})
    assert stages == sorted(stages)


@each_family
def test_what_a_recomputed_stage_keeps_is_less(which):
    def kept(stages) -> int:
        """Bytes that a forward pass leaves behind for the backward pass."""
        model, x = make(which).train(), clip()
        recompute(model, stages)
        with LiveBytes((*model.parameters(), *model.buffers(), x)) as live:
            _out = model(x)
            gc.collect()
            return live.now

    nothing, one_stage, everything = kept(()), kept((1,)), kept(None)
    assert everything < one_stage < nothing
    assert everything < 0.6 * nothing


@each_family
def test_what_is_cheap_to_compute_is_not_kept_and_changes_no_bit(which, monkeypatch):
    def train() -> tuple[int, list[torch.Tensor]]:
        """Bytes left behind by the forward pass, and the gradients."""
        torch.manual_seed(0)
        model, x = make(which).train(), clip()
        with LiveBytes((*model.parameters(), *model.buffers(), x)) as live:
            loss = model(x).square().sum()
            gc.collect()
            kept = live.now
        loss.backward()
        return kept, [parameter.grad for parameter in model.parameters()]

    kept, grads = train()
    monkeypatch.setattr(Block, "compiled", True)  # then the compiler would see to it
    all_kept, wanted = train()
    assert kept < 0.9 * all_kept
    assert all(torch.equal(a, b) for a, b in zip(grads, wanted, strict=True))


def test_the_config_names_the_stages_to_recompute():
    def recomputed(*words: str) -> set[int]:
        with torch.device("meta"):
            model = build_model(load_config("configs/K400/MVITv2_S_16x4.yaml", words))
        return {block.stage for block in blocks_of(model) if block.recompute}

    assert recomputed() == set()
    assert recomputed("MODEL.ACT_CHECKPOINT", "True") == {0, 1, 2, 3}
    stages = ("MODEL.ACT_CHECKPOINT", "True", "MODEL.ACT_CHECKPOINT_STAGES", "[0, 2]")
    assert recomputed(*stages) == {0, 2}


def check_compiles_once(which: str, backend: str, tolerance: float) -> None:
    """One graph per kind of block for training, for several views and for one; none for other numbers of them."""
    torch._dynamo.reset()
    counters.clear()
    model = make(which, **SHORT.get(which, {})).train()
    plain, names = copy.deepcopy(model), list(model.state_dict())
    count = CompileCounterWithBackend(backend)
    compile_blocks(model, count)
    assert list(model.state_dict()) == names

    def train(clips: int) -> None:
        results = [m.train()(clip(batch=clips)) for m in (model, plain)]
        torch.testing.assert_close(*results, rtol=tolerance, atol=tolerance)
        results[0].square().mean().backward()

    def evaluate(views: int) -> None:
        with torch.inference_mode():
            results = [m.eval()(clip(batch=views)) for m in (model, plain)]
        torch.testing.assert_close(*results, rtol=tolerance, atol=tolerance)

    # For a CPU, torch chooses kernels by whether a convolution sees 16 frames and a sum 4,096 rows: 8 clips have more.
    for step, first, others in ((train, (8,), (9, 11)), (evaluate, (8, 1), (15, 9, 1))):
        for number in first:
            step(number)
        with torch.compiler.set_stance("fail_on_recompile"):
            for number in others:
                step(number)
    with torch.compiler.set_stance("fail_on_recompile"):
        train(9)  # after a validation
    assert not counters["graph_break"]
    assert count.frame_count <= 3 * len(blocks_of(model))


def test_a_compiled_model_neither_breaks_nor_compiles_again():
    check_compiles_once("MViT v2", "eager", tolerance=1e-5)


@pytest.mark.slow
@each_family
def test_a_model_compiled_by_inductor_neither_breaks_nor_compiles_again(which):
    check_compiles_once(which, "inductor", tolerance=1e-3)
