"""The operations of RandAugment and colour jitter on uint8 clips, on any device.

Each takes a clip (3, T, H, W) uint8 RGB and a value, and returns a new clip that equals, frame by frame, what
the published recipes get from Pillow (the tests hold them to it). Statistics (the histogram of Equalize, the
extremes of AutoContrast, the mean grey of Contrast) are each frame's own, as there. Pillow cuts fractions off
where it blends, so this does too.

Tensors stay uint8 between operations. Point operations that are plain arithmetic cost a pass over bytes; the
others go through float32 once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mvit_video.data.augmentation.affine import rotate, shear, translate
from mvit_video.data.augmentation.randaugment import Operation

_CPU_FRAMES = 4


def apply_operations(clip: Tensor, operations: Sequence[Operation], interpolation: str) -> Tensor:
    """`clip` (3, T, H, W) uint8 after `operations`, in order; `clip` itself is not changed.

    Args:
        clip: on any device.
        operations: as drawn; values are plain numbers, so nothing waits for the device.
        interpolation: "bicubic" or "bilinear", for the operations that move pixels.
    """
    # Colour operations go through float32. On CPU a few frames at a time stay in the cache: a third less time.
    frames = _CPU_FRAMES if clip.device.type == "cpu" else clip.shape[1]
    for name, value in operations:
        if name in _GEOMETRIC:
            clip = _GEOMETRIC[name](clip, value, interpolation)
        else:
            operation = _COLORS[name]
            clip = torch.cat([operation(part, value) for part in clip.split(frames, dim=1)], dim=1)
    return clip


def invert(clip: Tensor, _: float = 0.0) -> Tensor:
    """255 - pixel."""
    return ~clip


def posterize(clip: Tensor, bits: float) -> Tensor:
    """Keeps the highest `bits` bits of every value; 0 leaves black."""
    return clip & (256 - (1 << (8 - int(bits))))


def solarize(clip: Tensor, threshold: float) -> Tensor:
    """Inverts values from `threshold` (0 ... 256) on."""
    if threshold > 255:
        return clip.clone()
    return clip ^ _mask(clip >= int(threshold))


def solarize_add(clip: Tensor, amount: float) -> Tensor:
    """Adds `amount` (0 ... 127) to values below 128."""
    return clip + (_mask(clip < 128) & int(amount))


def brightness(clip: Tensor, factor: float) -> Tensor:
    """Away from black: 0 black, 1 unchanged."""
    return _truncate(clip.float().mul_(factor))


def color(clip: Tensor, factor: float) -> Tensor:
    """Away from grey: 0 grey, 1 unchanged."""
    return _blend(_grey(clip), clip, factor)


def contrast(clip: Tensor, factor: float) -> Tensor:
    """Away from the frame's mean grey: 0 a plain grey frame, 1 unchanged."""
    # float64: float32's sum over a frame would depend on how a device orders it.
    mean = _grey(clip).mean(dim=(1, 2), dtype=torch.float64).add_(0.5).floor_()
    return _blend(mean.float()[:, None, None], clip, factor)


def sharpness(clip: Tensor, factor: float) -> Tensor:
    """Away from the frame smoothed by a 3 x 3 filter with 5 in the middle and 1 around, borders as they are."""
    wide = clip.to(torch.int16)
    rows = wide[..., :-2, :] + wide[..., 1:-1, :]
    rows += wide[..., 2:, :]
    total = rows[..., :-2] + rows[..., 1:-1]
    total += rows[..., 2:]
    inner = (..., slice(1, -1), slice(1, -1))
    smooth = total.add_(wide[inner], alpha=4).float().add_(6.5).mul_(1 / 13).floor_()
    result = clip.clone()
    result[inner] = _blend(smooth, clip[inner], factor)
    return result


def auto_contrast(clip: Tensor, _: float = 0.0) -> Tensor:
    """Stretches each channel of each frame so that its darkest value becomes 0 and its brightest 255."""
    planes = clip.flatten(2)  # (3, T, H*W)
    low = planes.amin(-1, keepdim=True).double()
    high = planes.amax(-1, keepdim=True).double()
    # In this order and precision, with a true division (255 / tensor multiplies by a rounded reciprocal), fractions
    # are cut off at the same values as in Pillow.
    scale = torch.full_like(low, 255) / (high - low).clamp(min=1)
    identity = torch.arange(256, device=clip.device, dtype=torch.float64)
    table = _truncate(identity * scale - low * scale)
    table = torch.where(high > low, table, identity.to(torch.uint8))
    return table.gather(2, planes.long()).view_as(clip)


def equalize(clip: Tensor, _: float = 0.0) -> Tensor:
    """Flattens the histogram of each channel of each frame."""
    planes = clip.flatten(2)  # (3, T, H*W)
    values = planes.long()
    one = torch.ones((), dtype=torch.int64, device=clip.device)
    histogram = torch.zeros(*planes.shape[:2], 256, dtype=torch.int64, device=clip.device)
    histogram.scatter_add_(2, values, one.expand_as(values))
    last = histogram.gather(
        2, planes.amax(-1, keepdim=True).long()
    )  # pixels of the brightest value
    step = (planes.shape[-1] - last) // 255
    below = histogram.cumsum(2) - histogram
    table = ((step // 2 + below) // step.clamp(min=1)).clamp_(max=255).to(torch.uint8)
    identity = torch.arange(256, device=clip.device, dtype=torch.uint8)
    return torch.where(step > 0, table, identity).gather(2, values).view_as(clip)


def _grey(clip: Tensor) -> Tensor:
    """Luma (T, H, W) float32 of whole numbers, ITU-R 601 in Pillow's 16-bit fixed point (exact in float32)."""
    red, green, blue = clip.float().unbind(0)
    luma = red * 19595
    luma.add_(green, alpha=38470).add_(blue, alpha=7471).add_(32768)
    return luma.mul_(1 / 65536).floor_()


def _blend(plain: Tensor, clip: Tensor, factor: float) -> Tensor:
    """plain + factor * (clip - plain): a factor below 1 goes towards `plain`, above 1 away from it."""
    return _truncate(clip.float().sub_(plain).mul_(factor).add_(plain))


def _truncate(values: Tensor) -> Tensor:
    """Whole part of `values`, held in 0 ... 255, as uint8."""
    # By way of int16: torch's direct float-to-uint8 conversion on CPU is four times slower.
    return values.clamp_(0, 255).to(torch.int16).to(torch.uint8)


def _mask(condition: Tensor) -> Tensor:
    """255 where true, 0 where false, uint8."""
    return condition.view(torch.uint8) * 255


_COLORS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "AutoContrast": auto_contrast,
    "Equalize": equalize,
    "Invert": invert,
    "Posterize": posterize,
    "Solarize": solarize,
    "SolarizeAdd": solarize_add,
    "Color": color,
    "Contrast": contrast,
    "Brightness": brightness,
    "Sharpness": sharpness,
}
_GEOMETRIC: dict[str, Callable[[Tensor, float, str], Tensor]] = {
    "Rotate": rotate,
    "ShearX": lambda clip, value, how: shear(clip, value, 0.0, how),
    "ShearY": lambda clip, value, how: shear(clip, 0.0, value, how),
    "TranslateX": lambda clip, value, how: translate(clip, value, 0.0, how),
    "TranslateY": lambda clip, value, how: translate(clip, 0.0, value, how),
}
OPERATIONS: tuple[str, ...] = (*_COLORS, *_GEOMETRIC)
