"""From a config, or a preset's name, to a model."""

from __future__ import annotations

from dataclasses import replace
from difflib import get_close_matches
from typing import Any

from torch import nn

from mvit_video.errors import InputError
from mvit_video.models import REGISTRY
from mvit_video.models.blocks import recompute
from mvit_video.models.features import FeaturePyramid
from mvit_video.models.mvit import fuse_pooling
from mvit_video.weights import load_weights
from mvit_video.weights.checkpoint import Source
from mvit_video.weights.zoo import weights_url


def build_model(
    config: Any,
    features_only: bool = False,
    pretrained: Source | bool | None = None,
    **changes: Any,
) -> nn.Module:
    """A model on the current default device (the meta device included), freshly initialised or with given weights.

    Args:
        config: a config (`load_config`), or the name of a preset such as "MVITv2_S_16x4".
        features_only: return the feature pyramid, a list of (B, C, T, H, W), instead of logits.
        pretrained: weights to start from, a path, URL or state dict in any dialect (`mvit_video.weights`), or True for
            the public ones of a preset. A head for another number of classes stays new, which is said.
        changes: fields of the model's spec to change, such as num_classes.

    Raises:
        InputError: an unknown name, sizes that do not fit together, or weights that do not fit the model.
    """
    if isinstance(config, str):
        family, spec = _find_preset(config)
    else:
        if config.MODEL.MODEL_NAME not in REGISTRY:
            raise InputError(
                f"MODEL.MODEL_NAME is {config.MODEL.MODEL_NAME!r}; choose one of {', '.join(REGISTRY)}"
            )
        family = REGISTRY[config.MODEL.MODEL_NAME]
        spec = family.spec_from_config(config)
    model = family.model(replace(spec, **changes) if changes else spec)
    if not isinstance(config, str):
        if config.MODEL.ACT_CHECKPOINT:
            recompute(model, config.MODEL.ACT_CHECKPOINT_STAGES or None)
        if config.MVIT.POOL_BACKEND == "triton":
            fuse_pooling(model)
    if pretrained is True:
        pretrained = _public_weights(config)
    if pretrained:
        load_weights(model, pretrained)
    return FeaturePyramid(model) if features_only else model


def _public_weights(config: Any) -> str:
    url = weights_url(config) if isinstance(config, str) else ""
    if not url:
        raise InputError(
            "pretrained=True is for presets whose weights can be downloaded; for others give their path or URL"
        )
    return url


def _find_preset(name: str) -> tuple[Any, Any]:
    presets = {key: family for family in REGISTRY.values() for key in family.presets}
    if name not in presets:
        near = get_close_matches(name, presets, n=3, cutoff=0.4) or list(presets)
        raise InputError(f"there is no model named {name!r}; do you mean {' or '.join(near)}?")
    return presets[name], presets[name].presets[name]
