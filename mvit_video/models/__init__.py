"""The model families: a frozen spec each, a model read top to bottom, its presets as data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from mvit_video.models import (
    cloformer,
    dual_vit,
    dual_vit_spec,
    mpvit,
    mvit,
    mvit_presets,
    mvit_spec,
)


@dataclass(frozen=True)
class Family:
    """How a family is built.

    Attributes:
        model: from a spec to a model.
        spec_from_config: from a config to a spec.
        presets: the published specs by name.
    """

    model: Callable[[Any], nn.Module]
    spec_from_config: Callable[[Any], Any]
    presets: Mapping[str, Any]


# By the name a config gives (MODEL.MODEL_NAME).
REGISTRY: dict[str, Family] = {
    "MViT": Family(mvit.MViT, mvit_spec.spec_from_config, mvit_presets.PRESETS),
    "DualViT": Family(dual_vit.DualViT, dual_vit_spec.spec_from_config, dual_vit_spec.PRESETS),
    "MPViT": Family(mpvit.MPViT, mpvit.spec_from_config, mpvit.PRESETS),
    "CloFormer": Family(cloformer.CloFormer, cloformer.spec_from_config, cloformer.PRESETS),
}
