"""Forward passes that can be recorded, and what comes out of their replays.

Recording itself takes a GPU. What a recording needs of a model is held everywhere: nothing in a pass waits for a
number, or comes from the host.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mvit_video import build_model
from mvit_video.evaluate.scoring import autocast
from mvit_video.models import cuda_graph
from mvit_video.models.cuda_graph import CudaGraphs

MODELS = ("MVITv2_S_16x4", "MVIT_B_16x4", "DUALVIT_S", "MPVIT_S", "CLOFORMER_S")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="graphs are recorded on a GPU")


class Devices(TorchDispatchMode):
    """Collects the operations that touch a tensor of another device than "meta"."""

    def __init__(self) -> None:
        super().__init__()
        self.elsewhere: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        tensors = (x for x in tree_leaves((args, kwargs, out)) if isinstance(x, Tensor))
        if any(x.device.type != "meta" for x in tensors):
            self.elsewhere.append(str(function))
        return out


@pytest.mark.parametrize("size", [(16, 224, 224), (8, 192, 256)])
@pytest.mark.parametrize("name", MODELS)
def test_a_pass_stays_on_its_device(name, size):
    """On the meta device, where a number that is asked for does not exist; also of another size than was trained on."""
    with torch.device("meta"):
        model, clips = build_model(name).eval(), torch.empty(2, 3, *size)
    with torch.inference_mode(), Devices() as devices:
        assert model(clips).shape == (2, 400)
    assert devices.elsewhere == []


def test_elsewhere_than_on_a_gpu_the_model_is_called():
    seen: list[Tensor] = []
    model, clips = nn.Linear(3, 4), torch.randn(2, 3)
    model.register_forward_hook(lambda _, __, out: seen.append(out))
    out = CudaGraphs(model)(clips)
    assert len(seen) == 1 and seen[0] is out


@needs_gpu
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_replays_give_the_bits_of_the_model(precision):
    """Clips of two shapes in turn, and nothing that was given is written to later."""
    torch.manual_seed(0)
    model = build_model("MVITv2_S_16x4").cuda().eval()
    graphs = CudaGraphs(model)
    clips = [torch.randn(number, 3, 16, 224, 224, device="cuda") for number in (1, 2, 1, 2, 1)]
    with torch.inference_mode(), autocast(torch.device("cuda"), precision):
        found = [graphs(clip) for clip in clips]
    for clip, logits in zip(clips, found, strict=True):
        with torch.inference_mode(), autocast(torch.device("cuda"), precision):
            assert torch.equal(logits, model(clip))


@needs_gpu
def test_each_precision_is_recorded_by_itself():
    model, clips = nn.Linear(8, 8).cuda(), torch.randn(4, 8, device="cuda")
    graphs = CudaGraphs(model)
    for _ in range(2):
        for precision in ("float32", "bfloat16"):
            with torch.inference_mode(), autocast(torch.device("cuda"), precision):
                assert graphs(clips).dtype == getattr(torch, precision)


@needs_gpu
def test_shapes_beyond_what_is_recorded_run_as_they_are(monkeypatch):
    monkeypatch.setattr(cuda_graph, "_SHAPES", 1)
    model = nn.Linear(8, 8).cuda()
    graphs = CudaGraphs(model)
    with torch.inference_mode():
        for number in (1, 2, 3, 1):
            clips = torch.randn(number, 8, device="cuda")
            assert torch.equal(graphs(clips), model(clips))
    assert len(graphs._recorded) == 1
