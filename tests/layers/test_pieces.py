"""A piece at a time gives what all at once gives."""

from __future__ import annotations

import pytest
import torch

from mvit_video.layers import pieces
from mvit_video.layers.mlp import Mlp
from mvit_video.layers.pieces import in_pieces


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
