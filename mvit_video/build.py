"""From a config, or a preset's name, to a model."""

from __future__ import annotations

from dataclasses import replace
from difflib import get_close_matches
from typing import Any

from torch import nn

from mvit_video.errors import InputError
from mvit_video.models import REGISTRY
from mvit_video.models.features import FeaturePyramid


def build_model(config: Any, features_only: bool = False, **changes: Any) -> nn.Module:
    """A freshly initialised model, on the current default device (the meta device included).

    Args:
        config: a config (`load_config`), or the name of a preset such as "MVITv2_S_16x4".
        features_only: return the feature pyramid, a list of (B, C, T, H, W), instead of logits.
        changes: fields of the model's spec to change, such as num_classes.

    Raises:
        InputError: an unknown name, or sizes that do not fit together.
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
    return FeaturePyramid(model) if features_only else model


def _find_preset(name: str) -> tuple[Any, Any]:
    presets = {key: family for family in REGISTRY.values() for key in family.presets}
    if name not in presets:
        near = get_close_matches(name, presets, n=3, cutoff=0.4) or list(presets)
        raise InputError(f"there is no model named {name!r}; do you mean {' or '.join(near)}?")
    return presets[name], presets[name].presets[name]
