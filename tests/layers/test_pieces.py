"""A piece at a time gives what all at once gives."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mvit_video.layers import pieces
from mvit_video.layers.mlp import Mlp
from mvit_video.layers.pieces import in_parts, in_pieces


@pytest.fixture
def small_pieces(monkeypatch):
    monkeypatch.setattr(pieces, "_BYTES_PER_THREAD", 1000)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)


@pytest.mark.parametrize("shape", [(1, 1, 6), (2, 50, 6), (3, 7, 5, 2, 6), (1001, 6)])
def test_pieces_make_the_whole(small_pieces, shape):
    mlp, x = Mlp(6, 24, 10).double(), torch.randn(shape, dtype=torch.float64)
    with torch.inference_mode():
        out = mlp(x)
    assert out.shape == (*shape[:-1], 10)
    torch.testing.assert_close(out, mlp._forward(x), rtol=1e-12, atol=1e-12)


def test_only_inference_is_cut_and_no_piece_is_much_wider_than_said(small_pieces):
    seen = []

    def double(x: torch.Tensor) -> torch.Tensor:
        seen.append(len(x.flatten(0, -2)))
        return 2 * x

    x = torch.randn(4, 25, 3)
    assert torch.equal(in_pieces(double, x, width=30), 2 * x)
    assert seen == [100]
    seen.clear()
    with torch.no_grad():  # 100 tokens of 30 channels are 12,000 bytes: 12 pieces
        assert torch.equal(in_pieces(double, x, width=30), 2 * x)
    assert sum(seen) == 100 and len(seen) == 12 and max(seen) == 9


def test_a_clip_of_another_precision_keeps_it(small_pieces):
    mlp, x = Mlp(6, 24), torch.randn(2, 50, 6)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert mlp(x).dtype == torch.bfloat16


def bytes_of(x: torch.Tensor) -> int:
    return x.untyped_storage().nbytes()


@pytest.mark.parametrize("bias", [True, False])
def test_parts_of_a_projection_are_made_by_themselves_in_inference_only(bias):
    linear, x = nn.Linear(6, 30, bias).double(), torch.randn(2, 5, 6, dtype=torch.float64)
    whole = linear(x)
    for training in (True, False):
        with torch.set_grad_enabled(training):
            parts = list(in_parts(linear, x, 3))
        torch.testing.assert_close(torch.cat(parts, dim=-1), whole, rtol=1e-12, atol=1e-12)
        assert [bytes_of(part) for part in parts] == [bytes_of(whole) // (1 if training else 3)] * 3


def test_parts_come_from_the_module_that_is_there():
    """From one that took the projection's place, as an int8 one does, and past what is hooked to it."""

    class Doubled(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(x)

    doubled, x, seen = Doubled(6, 12), torch.randn(5, 6), []
    hooked = nn.Linear(6, 12)
    hooked.register_forward_hook(lambda _, __, out: seen.append(out))
    with torch.inference_mode():
        assert torch.equal(torch.cat(list(in_parts(doubled, x, 3)), dim=-1), doubled(x))
        parts = torch.cat(list(in_parts(hooked, x, 3)), dim=-1)
    assert len(seen) == 1 and torch.equal(seen[0], parts)
