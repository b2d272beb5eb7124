"""What taps along time are measured against computes what it says."""

from __future__ import annotations

import pytest
import torch

from mvit_video.benchmark.depthwise import Conv3d, depthwise_layers, with_conv3d
from mvit_video.build import build_model
from mvit_video.config import load_config
from mvit_video.layers.convolution import DepthwiseConv


@pytest.mark.parametrize("stride", [1, 2])
def test_the_plain_convolution_equals_ours(stride):
    ours = DepthwiseConv(6, 3, stride, time="full").double()
    torch.nn.init.normal_(ours.weight)
    cube = torch.randn(2, 4, 7, 9, 6, dtype=torch.float64)
    torch.testing.assert_close(Conv3d(ours)(cube), ours(cube))


@pytest.mark.parametrize("name", ["DUALVIT_TINY", "MPVIT_TINY", "CLOFORMER_TINY"])
def test_a_model_with_plain_convolutions_gives_the_same_logits(name):
    model = build_model(name, depthwise_time="full").double().eval()
    clip = torch.randn(1, 3, 8, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        expected = model(clip)
        plain = with_conv3d(model)
        torch.testing.assert_close(plain(clip), expected)
    assert not any(
        isinstance(module, DepthwiseConv) and module.time == "full" for module in plain.modules()
    )


def test_layers_are_counted_as_often_as_they_run():
    """MPViT's paths share one position encoding over their layers."""
    config = "configs/demo/MPVIT_TINY_8x4.yaml"
    layers = depthwise_layers(load_config(config, ["MPVIT.RELATIVE_TIME", "True"]), batch=2)
    spec = build_model("MPVIT_TINY").spec
    embeddings, branches = sum(spec.paths), len(spec.paths)
    positions = sum(depth * paths for depth, paths in zip(spec.depths, spec.paths, strict=True))
    relative = len(spec.windows) * positions
    assert sum(layers.values()) == embeddings + branches + positions + relative
    assert all(shape[:2] == (2, 4) for *_, shape in layers)
