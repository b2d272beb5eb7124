"""Stochastic depth, the MLP and the cube embedding."""

from __future__ import annotations

import torch

from mvit_video.layers.embedding import CubeEmbedding
from mvit_video.layers.mlp import DropPath, Mlp


def test_drop_path_drops_whole_samples_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    for dtype in (torch.float32, torch.bfloat16):
        out = DropPath(0.25).train()(torch.ones(40_000, 2, dtype=dtype))
        assert torch.equal(out[:, 0], out[:, 1])
        assert set(out[:, 0].tolist()) == {0.0, torch.tensor(1 / 0.75).to(dtype).item()}
        assert abs((out[:, 0] == 0).float().mean() - 0.25) < 0.01


def test_drop_path_is_drawn_from_the_global_generator() -> None:
    drop, x = DropPath(0.5).train(), torch.ones(64, 3)
    torch.manual_seed(7)
    first = drop(x)
    torch.manual_seed(7)
    assert torch.equal(drop(x), first)
    assert drop.eval()(x) is x


def test_mlp_has_its_own_width_out() -> None:
    assert Mlp(6, 24, 10)(torch.zeros(2, 3, 6)).shape == (2, 3, 10)


def test_cube_embedding_orders_tokens_as_its_grid() -> None:
    embed = CubeEmbedding(3, 5, (3, 7, 7), (2, 4, 4), (1, 3, 3)).double()
    clip = torch.randn(2, 3, 6, 20, 12, dtype=torch.float64)
    tokens, thw = embed(clip)
    assert thw == (3, 5, 3) and tokens.shape == (2, 45, 5)
    torch.testing.assert_close(tokens, embed.proj(clip).flatten(2).transpose(1, 2))
    assert embed.float()(clip.float())[0].is_contiguous()  # as the next layers want them


def test_under_autocast_the_residual_stream_keeps_the_parameters_dtype() -> None:
    embed = CubeEmbedding(3, 5, (1, 4, 4), (1, 4, 4), (0, 0, 0))
    with torch.autocast("cpu", torch.bfloat16):
        assert embed(torch.randn(1, 3, 1, 8, 8))[0].dtype == torch.float32
