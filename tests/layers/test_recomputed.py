"""What is left out of a training step's memory comes back to the same bits, and is really left out."""

from __future__ import annotations

import gc
import threading

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef

from mvit_video.layers.recomputed import forgetting, normalise, recomputed
from mvit_video.train.memory import LiveBytes


class TwoLayers(nn.Module):
    """Norm, linear, GELU, linear, and a sum with a part of the normed: one step leans on another."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.fc1, self.fc2 = nn.LayerNorm(6), nn.Linear(6, 24), nn.Linear(24, 3)

    def forward(self, x: Tensor) -> Tensor:
        normed = recomputed(self.norm, x)
        hidden = recomputed(self.fc1, normed)
        part = recomputed(torch.mul, normed[..., 1:4], hidden[..., ::8])
        return self.fc2(recomputed(F.gelu, hidden)) + part.square()


def gradients(model: nn.Module, x: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(model(x).square().sum(), (x, *model.parameters())))


@pytest.mark.parametrize("again", [1, 3])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_gradients_are_the_same_to_the_bit(precision, again):
    model, x = TwoLayers(), torch.randn(5, 7, 6, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
        wanted = gradients(model, x)
        with forgetting():
            loss = model(x).square().sum()
    for _ in range(again):  # outside of autocast, as a training step does it
        grads = torch.autograd.grad(loss, (x, *model.parameters()), retain_graph=True)
    assert all(torch.equal(a, b) for a, b in zip(grads, wanted, strict=True))


def test_gradients_of_gradients_are_right():
    model, x = TwoLayers().double(), torch.randn(2, 6, dtype=torch.float64, requires_grad=True)

    def run(x: Tensor) -> Tensor:
        with forgetting():
            return model(x)

    assert torch.autograd.gradgradcheck(run, x)


def test_outputs_are_let_go_and_what_they_are_made_of_is_kept():
    layer, x = nn.Linear(4, 4), torch.randn(3, 4, requires_grad=True)
    with forgetting():
        first = layer(x)
        second = recomputed(torch.cos, first)
        third = recomputed(torch.sin, second)
        loss = layer(third).sum()
        memory = [StorageWeakRef(tensor.untyped_storage()) for tensor in (first, second, third)]
    del first, second, third
    gc.collect()
    assert [ref.expired() for ref in memory] == [False, True, True]
    loss.backward()
    assert memory[0].expired()


def test_under_autocast_no_copy_of_a_norms_output_is_kept():
    """One in autocast's dtype, which the linear layer would make of float32."""
    norm, linear, x = nn.LayerNorm(32), nn.Linear(32, 1), torch.randn(1000, 32)
    with LiveBytes((x, *norm.parameters(), *linear.parameters())) as live:
        with torch.autocast("cpu", torch.bfloat16), forgetting():
            loss = linear(normalise(norm, x)).sum()
        gc.collect()
        assert live.now < x.numel()
    loss.backward()


def test_nothing_is_computed_again_twice_in_one_pass():
    calls = []

    def shared(x: Tensor) -> Tensor:
        out = x.sin()
        calls.append(StorageWeakRef(out.untyped_storage()))
        return out

    weight = nn.Parameter(torch.ones(4))
    x = torch.randn(3, 4, requires_grad=True)
    with forgetting():
        y = recomputed(shared, x)
        loss = sum((part * weight[:2]).sum() for part in y.split(2, dim=1)) + (y * y).sum()
    assert len(calls) == 1
    loss.backward(retain_graph=True)
    assert len(calls) == 2
    assert calls[1].expired()


def test_outside_everything_is_kept():
    seen = []
    x = torch.randn(3, requires_grad=True)
    with forgetting():
        pass
    with torch.autograd.graph.saved_tensors_hooks(lambda t: seen.append(t.shape) or t, lambda t: t):
        recomputed(torch.tanh, x).square().sum()
    assert len(seen) == 2


def test_an_error_inside_ends_it():
    x = torch.randn(3, requires_grad=True)
    with pytest.raises(ZeroDivisionError), forgetting():
        recomputed(torch.tanh, x)
        raise ZeroDivisionError
    test_outside_everything_is_kept()


@pytest.mark.parametrize("forgotten", [False, True])
def test_a_step_may_be_a_view_of_its_input(forgotten):
    x = torch.randn(3, 4, requires_grad=True)
    with forgetting():
        y = recomputed(torch.sin, x) if forgotten else x.sin()
        loss = (recomputed(torch.flatten, y[1:], 0).square().sum() + y.square()).sum()
    loss.backward()
    wanted = 12 * (2 * x).sin()
    wanted[0] /= 12
    wanted[1:] *= 13 / 12
    torch.testing.assert_close(x.grad, wanted)


def test_threads_do_not_meet():
    model, x = TwoLayers(), torch.randn(4, 6, requires_grad=True)
    wanted, found = gradients(model, x), []

    def work() -> None:
        for _ in range(20):
            with forgetting():
                loss = model(x).square().sum()
            found.append(torch.autograd.grad(loss, (x, *model.parameters())))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 80
    assert all(torch.equal(a, b) for grads in found for a, b in zip(grads, wanted, strict=True))
