"""Image models, their inflations and random weights for the tests of the inflated families."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from mvit_video.models import REGISTRY
from mvit_video.models.inflated import InflatedSpec, image_mode

FAMILIES = ("DualViT", "MPViT", "CloFormer")
VARIANTS = {
    name: family
    for family in FAMILIES
    for name in REGISTRY[family].presets
    if not name.startswith("IN1K_")
}
TINY = tuple(name for name in VARIANTS if name.endswith("TINY"))
PUBLISHED = tuple(name for name in VARIANTS if not name.endswith("TINY"))
CLASSES = 7


def build(name: str, image: bool = False, **changes) -> nn.Module:
    """A preset in float64 and eval mode, as its image model if asked."""
    return REGISTRY[VARIANTS[name]].model(spec_of(name, image, **changes)).double().eval()


def build_zero(name: str, image: bool = False, **changes) -> nn.Module:
    """The same, all zero, without initial weights, which large models draw for seconds."""
    with torch.device("meta"):
        model = REGISTRY[VARIANTS[name]].model(spec_of(name, image, **changes))
    model = model.double().to_empty(device="cpu").eval()
    for tensor in model.state_dict().values():
        tensor.zero_()
    return model


def build_random(name: str, image: bool = False, **changes) -> nn.Module:
    """The same with random weights."""
    return randomise(build_zero(name, image, **changes))


def spec_of(name: str, image: bool = False, **changes) -> InflatedSpec:
    """A preset with few classes, as its image model if asked."""
    spec = replace(REGISTRY[VARIANTS[name]].presets[name], num_classes=CLASSES, **changes)
    return image_mode(spec) if image else spec


@torch.no_grad()
def randomise(model: nn.Module, seed: int = 0) -> nn.Module:
    """Weights, biases, layer scales, norms and BatchNorm statistics that all matter."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in model.state_dict().items():
        if not tensor.is_floating_point():
            continue
        leaf = name.rpartition(".")[2]
        noise = torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype)
        if leaf == "running_var":
            tensor.copy_(0.5 + noise.abs())
        elif leaf in ("running_mean", "bias"):
            tensor.copy_(0.1 * noise)
        elif "scale" in name:
            tensor.copy_(0.3 * noise)
        elif leaf == "weight" and tensor.ndim == 1:
            tensor.copy_(1 + 0.2 * noise)
        elif name.endswith("position.weight"):  # x + conv(x) in every layer of MPViT
            tensor.copy_(0.05 * noise)
        else:
            tensor.copy_(noise / tensor[0].numel() ** 0.5)
    return model


@torch.no_grad()
def inflate(image: nn.Module, video: nn.Module, init: str = "centre") -> nn.Module:
    """`video` with the weights of `image`; every kernel along time, taps included, by `init`.

    centre: the image's kernel where the frame itself is read; mean: divided by the kernels along
    time; repeat: the image's kernel at every step, which is no identity.
    """
    ours = image.state_dict()
    for name, tensor in video.state_dict().items():
        if name.endswith("taps"):
            tensor.copy_(_spread(torch.ones_like(tensor[:, :, :1]), 3, init))
        elif name == "position.table":
            tensor.zero_()
        elif tensor.shape == ours[name].shape:
            tensor.copy_(ours[name])
        else:
            cube = ours[name] if ours[name].ndim == 5 else ours[name][:, :, None]
            tensor.copy_(_spread(cube, tensor.shape[2], init))
    return video


def _spread(kernel: Tensor, steps: int, init: str) -> Tensor:
    """A kernel with one step along axis 2, at `steps` steps."""
    repeated = kernel.expand(*kernel.shape[:2], steps, *kernel.shape[3:])
    if init == "mean":
        return repeated / steps
    if init == "repeat":
        return repeated
    centre = torch.zeros(steps, dtype=kernel.dtype)
    centre[steps // 2] = 1
    return repeated * centre.view(-1, *[1] * (kernel.ndim - 3))


def difference(first: Tensor, second: Tensor) -> float:
    """Largest difference over the largest number."""
    return ((first - second).abs().max() / second.abs().max()).item()
