"""A model's depthwise convolutions alone: taps along time against full 3D kernels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from fvcore.common.config import CfgNode
from torch import Tensor, nn

from mvit_video.benchmark.measure import alternate, begin, ratio, speed
from mvit_video.build import build_model
from mvit_video.errors import InputError
from mvit_video.evaluate.scoring import autocast
from mvit_video.layers.convolution import DepthwiseConv

OURS = "taps"
AGAINST = ("conv3d", "full", "none")

Layer = tuple[int, int, int, torch.Size]  # width, kernel, stride, shape of the input


def benchmark_depthwise(
    cfg: CfgNode,
    against: Sequence[str] = (),
    batch: int = 1,
    rounds: int = 7,
    training: bool = False,
) -> dict[str, Any]:
    """Times all depthwise convolutions of the config's model, each on a cube of the size the model gives it.

    Args:
        cfg: of a Dual-ViT, MPViT or CloFormer; precision and threads as in `benchmark_model`.
        against: names of AGAINST: torch's Conv3d with a full 3D kernel, our convolution with such a kernel
            (DEPTHWISE_TIME full), or the 2D part alone.
        batch: clips per pass.
        rounds: timed passes of each candidate.
        training: forward and backward, instead of forward in inference mode.

    Returns:
        Plain values, as `benchmark_model`, without memory.
    """
    device, described = begin(cfg, training)
    layers = depthwise_layers(cfg, batch)
    names = (OURS, *against)
    passes = {
        name: [
            (_make_pass(name, layer, cfg, training, device), number)
            for layer, number in layers.items()
        ]
        for name in names
    }
    jobs = {name: partial(_run, parts) for name, parts in passes.items()}
    seconds = alternate(jobs, rounds, device)
    return {
        **described,
        "convolutions": sum(layers.values()),
        "rounds": rounds,
        "candidates": {name: speed(seconds[name], batch) for name in names},
        "ratios": {name: ratio(seconds[name], seconds[OURS]) for name in against},
    }


def depthwise_layers(cfg: CfgNode, batch: int) -> Counter[Layer]:
    """The model's depthwise convolutions with something along time, and how often each kind runs in a forward pass."""
    layers: Counter[Layer] = Counter()

    def record(conv: DepthwiseConv, inputs: tuple[Tensor]) -> None:
        layers[conv.width, conv.kernel, conv.stride, inputs[0].shape] += 1

    with torch.device("meta"):
        model = build_model(cfg).eval()
        for module in model.modules():
            if isinstance(module, DepthwiseConv) and module.time != "none":
                module.register_forward_pre_hook(record)
        size = cfg.DATA.TRAIN_CROP_SIZE
        model(torch.empty(batch, 3, cfg.DATA.NUM_FRAMES, size, size))
    if not layers:
        raise InputError("the model has no depthwise convolutions with taps or kernels along time")
    return layers


def _make_pass(
    name: str, layer: Layer, cfg: CfgNode, training: bool, device: torch.device
) -> Callable[[], None]:
    width, kernel, stride, shape = layer
    conv: nn.Module = DepthwiseConv(
        width, kernel, stride, time="full" if name == "conv3d" else name
    )
    if name == "conv3d":
        conv = Conv3d(conv)
    conv = conv.to(device)
    cube = torch.randn(shape, device=device, requires_grad=training)
    precision = cfg.TRAIN.PRECISION if training else cfg.TEST.PRECISION

    def run() -> None:
        conv.zero_grad(set_to_none=True)
        cube.grad = None
        with torch.set_grad_enabled(training), autocast(device, precision):
            out = conv(cube)
        if training:
            out.backward(out.detach())

    return run


def _run(passes: list[tuple[Callable[[], None], int]]) -> None:
    for run, number in passes:
        for _ in range(number):
            run()


class Conv3d(nn.Conv3d):
    """A full 3D depthwise convolution as one writes it, forward and backward torch's own, with the weights of ours."""

    def __init__(self, conv: DepthwiseConv) -> None:
        side = conv.kernel // 2
        super().__init__(
            conv.width,
            conv.width,
            (3, conv.kernel, conv.kernel),
            (1, conv.stride, conv.stride),
            (1, side, side),
            groups=conv.width,
            bias=conv.bias is not None,
        )
        self.weight, self.bias = conv.weight, conv.bias

    def forward(self, cube: Tensor) -> Tensor:
        """(B, T, H, W, C) -> (B, T, H', W', C)."""
        return super().forward(cube.permute(0, 4, 1, 2, 3)).permute(0, 2, 3, 4, 1)


def with_conv3d(model: nn.Module) -> nn.Module:
    """`model`, its full 3D depthwise convolutions replaced by torch's own."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, DepthwiseConv) and child.time == "full":
                setattr(module, name, Conv3d(child))
    return model
