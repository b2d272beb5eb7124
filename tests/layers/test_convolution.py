"""Convolutions on channels-last cubes against PyTorch's 3D convolutions."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from mvit_video.layers.convolution import (
    ConvNorm,
    CubeConv,
    DepthwiseConv,
    FrameConv,
    average_pool,
    init_convolution_,
    to_cube,
    to_frames,
)
from mvit_video.layers.temporal import TemporalPosition, temporal_padding, temporal_taps


def first(cube: Tensor) -> Tensor:
    """(B, T, H, W, C) -> (B, C, T, H, W)."""
    return cube.permute(0, 4, 1, 2, 3)


def pad_ends(clip: Tensor, padding: str) -> Tensor:
    mode = "constant" if padding == "zero" else "replicate"
    return F.pad(clip, (0, 0, 0, 0, 1, 1), mode=mode)


def test_frames_are_a_view_of_the_cube():
    cube = torch.randn(2, 3, 4, 5, 6)
    frames = to_frames(cube)
    assert frames.shape == (6, 6, 4, 5) and frames.data_ptr() == cube.data_ptr()
    assert frames.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(to_cube(frames, 3), cube)


@given(st.integers(1, 40), st.integers(1, 5), st.integers(1, 4))
def test_temporal_padding_gives_every_output_step_a_real_frame(frames, kernel, stride):
    before, after = temporal_padding(frames, kernel, stride)
    steps = (frames + before + after - kernel) // stride + 1
    assert steps == -(-frames // stride)
    for step in range(steps):
        assert 0 <= step * stride - before + kernel // 2 < frames


@pytest.mark.parametrize("padding", ["zero", "replicate"])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_cube_convolution_pads_time_as_asked_and_space_with_zeros(padding, stride):
    conv = CubeConv(3, 8, (3, 7), (stride, 2), padding)
    clip = torch.randn(2, 3, 5, 18, 20)
    expected = F.conv3d(pad_ends(clip, padding), conv.weight, conv.bias, (stride, 2, 2), (0, 3, 3))
    torch.testing.assert_close(first(conv(clip)), expected)


def test_even_lengths_and_strides_need_no_padding_after():
    conv = CubeConv(3, 8, (3, 3), (2, 2))
    clip = torch.randn(1, 3, 6, 8, 8)
    expected = F.conv3d(clip, conv.weight, conv.bias, 2, 1)
    torch.testing.assert_close(first(conv(clip)), expected)


def test_a_frame_convolution_is_a_3d_convolution_one_frame_deep():
    conv = FrameConv(4, 6, 5, stride=2)
    cube = torch.randn(2, 3, 9, 8, 4)
    expected = F.conv3d(first(cube), conv.weight[:, :, None], conv.bias, (1, 2, 2), (0, 2, 2))
    torch.testing.assert_close(first(conv(cube)), expected)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 5), st.sampled_from([3, 5, 7]), st.integers(1, 2), st.booleans(),
    st.sampled_from(["zero", "replicate"]),
)  # fmt: skip
def test_taps_after_a_spatial_kernel_are_a_separable_3d_kernel(
    steps, kernel, stride, bias, padding
):
    torch.manual_seed(0)
    conv = DepthwiseConv(4, kernel, stride, bias, "taps", padding)
    nn.init.normal_(conv.taps)
    cube = torch.randn(2, steps, 9, 8, 4, requires_grad=True)
    separable = conv.weight[:, :, None] * conv.taps[..., None]
    clip = pad_ends(first(cube), padding)
    pad = kernel // 2
    expected = F.conv3d(clip, separable, None, (1, stride, stride), (0, pad, pad), groups=4)
    if bias:  # the taps see the spatial kernel's output, bias included, and zeros beyond the clip
        seen = pad_ends(conv.bias.view(1, 4, 1, 1, 1).expand(1, 4, steps, 1, 1), padding)
        expected = expected + F.conv3d(seen, conv.taps[..., None], groups=4)
    found = first(conv(cube))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    direction = torch.randn_like(found)
    inputs = (cube, conv.weight, conv.taps)
    for one, other in zip(
        torch.autograd.grad(found, inputs, direction),
        torch.autograd.grad(expected, inputs, direction),
        strict=True,
    ):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("padding", ["zero", "replicate"])
def test_a_full_kernel_is_a_3d_convolution(padding):
    conv = DepthwiseConv(4, 5, 2, True, "full", padding)
    nn.init.normal_(conv.weight)
    cube = torch.randn(2, 3, 9, 8, 4)
    expected = F.conv3d(
        pad_ends(first(cube), padding), conv.weight, conv.bias, (1, 2, 2), (0, 2, 2), groups=4
    )
    torch.testing.assert_close(first(conv(cube)), expected)


@pytest.mark.parametrize("time", ["taps", "full", "none"])
def test_a_fresh_depthwise_convolution_leaves_time_alone(time):
    conv = DepthwiseConv(4, 3, time=time)
    cube = torch.randn(1, 5, 6, 6, 4)
    each = torch.cat([conv(cube[:, t : t + 1]) for t in range(5)], dim=1)
    torch.testing.assert_close(conv(cube), each)
    frames = F.conv2d(to_frames(cube), conv.spatial, conv.bias, padding=1, groups=4)
    torch.testing.assert_close(conv(cube), to_cube(frames, 5))


def test_taps_of_one_step_read_the_frame_itself():
    cube, taps = torch.randn(1, 1, 2, 2, 3), torch.randn(3, 1, 3, 1)
    torch.testing.assert_close(temporal_taps(cube, taps), cube * taps[:, 0, 1, 0])
    summed = cube * taps.sum(dim=(1, 2, 3))
    torch.testing.assert_close(temporal_taps(cube, taps, "replicate"), summed)


def test_conv_norm_normalises_channels_over_all_frames():
    layer = ConvNorm(FrameConv(4, 6, 3), 6, nn.ReLU()).train()
    cube = torch.randn(2, 3, 8, 8, 4)
    convolved = layer.conv(cube)
    deviation, mean = torch.var_mean(convolved, dim=(0, 1, 2, 3), correction=0)
    expected = F.relu((convolved - mean) / (deviation + 1e-5).sqrt())
    torch.testing.assert_close(layer(cube), expected)
    assert nn.SyncBatchNorm.convert_sync_batchnorm(layer).norm.num_features == 6


@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize(("steps", "side"), [(1, 7), (2, 3), (3, 1), (9, 4)])
def test_average_pool_is_a_3d_pool_of_at_most_the_clip(steps, side, ceil_mode):
    cube = torch.randn(2, 5, 15, 8, 4)
    window = (min(steps, 5), side, side)
    expected = F.avg_pool3d(first(cube), window, ceil_mode=ceil_mode, count_include_pad=False)
    torch.testing.assert_close(first(average_pool(cube, steps, side, ceil_mode)), expected)


def test_initial_weights_have_the_variance_of_their_fan_out():
    torch.manual_seed(0)
    for conv, variance in (
        (FrameConv(64, 128, 3), 2 / (9 * 128)),
        (CubeConv(16, 128, (3, 7), (2, 2)), 2 / (147 * 128)),
        (DepthwiseConv(512, 5), 2 / 25),
        (nn.Linear(64, 256), 2 / 256),
    ):
        init_convolution_(conv)
        assert conv.weight.var().item() == pytest.approx(variance, rel=0.1)
        assert not conv.bias.any()
    conv = DepthwiseConv(512, 5, time="full")
    init_convolution_(conv, groups=1)
    assert conv.spatial.var().item() == pytest.approx(2 / (25 * 512), rel=0.1)
    assert not conv.weight[:, :, 0].any() and not conv.weight[:, :, 2].any()


def test_temporal_positions_are_added_per_step_and_interpolated():
    position = TemporalPosition(4, 3)
    nn.init.normal_(position.table)
    cube = torch.randn(2, 4, 5, 6, 3)
    torch.testing.assert_close(position(cube) - cube, position.table[:, None, None].expand_as(cube))
    longer = torch.zeros(1, 8, 1, 1, 3)
    expected = F.interpolate(position.table.t()[None], size=8, mode="linear")[0].t()
    torch.testing.assert_close(position(longer)[0, :, 0, 0], expected)
