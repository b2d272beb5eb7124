"""What the three inflated image families have in common: how an image model sees time.

An image is a video of one frame: with kernel and stride 1 in time and nothing else along time each
family is its published image model (`image_mode`). In video the first convolution of the stem
becomes a cube embedding, the depthwise convolutions get taps along time, and attention spans space
and time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from torch import Tensor, nn

from mvit_video.errors import InputError
from mvit_video.layers.convolution import DepthwiseConv, DepthwiseTime
from mvit_video.layers.temporal import TemporalPadding, TemporalPosition
from mvit_video.models.features import FeatureInfo


@dataclass(frozen=True, kw_only=True)
class InflatedSpec:
    """Sizes that every inflated family has.

    Attributes:
        widths: channels of each stage.
        num_frames, crop_size: clip the model is meant for; any other size works too.
        stem_kernel_t, stem_stride_t: kernel and stride in time of the cube embedding.
        temporal_padding: what convolutions along time read beyond the clip: zeros, or the border
            frame again.
        depthwise_time: depthwise convolutions get 3 taps along time, a full 3D kernel, or nothing.
        temporal_position: add a learned position per time step, zero at the start, after the stem.
        drop_path_rate: stochastic depth of the last block, growing linearly from 0 at the first.
        dropout_rate: dropout before the head.
    """

    widths: tuple[int, ...]
    num_classes: int = 400
    num_frames: int = 16
    crop_size: int = 224
    stem_kernel_t: int = 3
    stem_stride_t: int = 2
    temporal_padding: TemporalPadding = "zero"
    depthwise_time: DepthwiseTime = "taps"
    temporal_position: bool = False
    drop_path_rate: float = 0.0
    dropout_rate: float = 0.0

    def __post_init__(self) -> None:
        self._check_choice("stem_kernel_t", (1, 2, 3))
        self._check_choice("temporal_padding", ("zero", "replicate"))
        self._check_choice("depthwise_time", ("taps", "full", "none"))
        for name in ("num_classes", "num_frames", "crop_size", "stem_stride_t"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least 1")

    @property
    def num_steps(self) -> int:
        """Time steps of the token cube for a clip of `num_frames`."""
        return math.ceil(self.num_frames / self.stem_stride_t)

    def depthwise(
        self, width: int, kernel: int, stride: int = 1, bias: bool = True
    ) -> DepthwiseConv:
        """A depthwise convolution with this spec's way through time."""
        return DepthwiseConv(
            width, kernel, stride, bias, self.depthwise_time, self.temporal_padding
        )

    def drop_path_rates(self, depth: int) -> list[float]:
        """Stochastic depth of each of `depth` blocks in a row."""
        return [self.drop_path_rate * index / max(1, depth - 1) for index in range(depth)]

    def _check_choice(self, name: str, choices: tuple[Any, ...]) -> None:
        if getattr(self, name) not in choices:
            known = ", ".join(str(choice) for choice in choices)
            raise InputError(f"{name} is {getattr(self, name)!r}; choose one of {known}")

    def _check_stages(self, *names: str) -> None:
        """Each of `names` has one entry per stage."""
        for name in names:
            if len(getattr(self, name)) != len(self.widths):
                raise InputError(
                    f"{name} has {len(getattr(self, name))} entries for {len(self.widths)} stages; give one per stage"
                )

    def _check_heads(self, heads: tuple[int, ...]) -> None:
        """Every stage's width splits into its heads."""
        for width, number in zip(self.widths, heads, strict=True):
            if width % number:
                raise InputError(f"a stage of width {width} does not split into {number} heads")


Spec = TypeVar("Spec", bound=InflatedSpec)

IMAGE = {"num_frames": 1, "stem_kernel_t": 1, "stem_stride_t": 1, "depthwise_time": "none"}


def image_mode(spec: Spec) -> Spec:
    """The image model of a spec: one frame, nothing along time."""
    return replace(spec, **IMAGE)


def with_image_models(presets: dict[str, Spec], **changes: Any) -> dict[str, Spec]:
    """`presets`, and the published image model of each under IN1K_<name>, with `changes`."""
    images = {
        f"IN1K_{name}": replace(image_mode(spec), num_classes=1000, **changes)
        for name, spec in presets.items()
    }
    return presets | images


def spec_from_section(cfg: Any, section: Any, presets: dict[str, Spec], **changes: Any) -> Spec:
    """The preset that a family's config section names, with the choices every family has and
    `changes`.
    """
    preset = presets[section.VARIANT]
    drop_path_rate = section.DROPPATH_RATE if section.DROPPATH_RATE >= 0 else preset.drop_path_rate
    return replace(
        preset,
        num_classes=cfg.MODEL.NUM_CLASSES,
        num_frames=cfg.DATA.NUM_FRAMES,
        crop_size=cfg.DATA.TRAIN_CROP_SIZE,
        stem_kernel_t=section.STEM_KERNEL_T,
        stem_stride_t=section.STEM_STRIDE_T,
        temporal_padding=section.TEMPORAL_PADDING,
        depthwise_time=section.DEPTHWISE_TIME,
        temporal_position=section.TEMPORAL_POSITION,
        drop_path_rate=drop_path_rate,
        dropout_rate=cfg.MODEL.DROPOUT_RATE,
        **changes,
    )


class InflatedModel(nn.Module):
    """Interface of the three families; a family gives `_stages`, its head, and its `init_weights`."""

    feature_strides = (4, 8, 16, 32)

    def __init__(self, spec: InflatedSpec) -> None:
        super().__init__()
        self.spec = spec

    @property
    def feature_info(self) -> tuple[FeatureInfo, ...]:
        """Channels and stride of each level of the pyramid."""
        time = self.spec.stem_stride_t
        return tuple(
            FeatureInfo(width, (time, stride, stride))
            for width, stride in zip(self.feature_widths, self.feature_strides, strict=True)
        )

    @property
    def feature_widths(self) -> tuple[int, ...]:
        """Channels of each level of the pyramid."""
        return self.spec.widths

    def forward_pyramid(self, clip: Tensor) -> list[Tensor]:
        """Each stage's output as (B, C, T, H, W); see `feature_info`."""
        return [cube.permute(0, 4, 1, 2, 3) for cube in self._cubes(clip)]

    def as_clip(self, clip: Tensor) -> Tensor:
        """(B, 3, T, H, W), or for a model of one frame (B, 3, H, W), as (B, 3, T, H, W)."""
        if clip.ndim == 4 and self.spec.num_frames == 1:
            clip = clip[:, :, None]
        if clip.ndim != 5 or clip.shape[1] != 3:
            image = " or (batch, 3, height, width)" if self.spec.num_frames == 1 else ""
            raise InputError(
                f"the model got a tensor of shape {tuple(clip.shape)}; it takes"
                f" (batch, 3, frames, height, width){image}"
            )
        return clip

    def init_weights(self) -> None:
        """Fresh weights, also after `to_empty` on a model built on the meta device."""
        for module in self.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()


def temporal_position(spec: InflatedSpec) -> nn.Module:
    """What is added to the stem's cube: a position per time step, or nothing."""
    if not spec.temporal_position:
        return nn.Identity()
    return TemporalPosition(spec.num_steps, spec.widths[0])
