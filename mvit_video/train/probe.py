"""Which parts of a model are trained: all of it, or its head alone on a frozen backbone (TRAIN.LINEAR_PROBE)."""

from __future__ import annotations

import re

from fvcore.common.config import CfgNode
from torch import nn

from mvit_video.weights.dialects import READERS


class TrainedParts:
    """Freezes what is not trained, and keeps it in eval mode: no dropout, no drop path, no moving statistics."""

    def __init__(self, model: nn.Module, cfg: CfgNode) -> None:
        self._model = model
        self._heads: list[nn.Module] = []
        if not cfg.TRAIN.LINEAR_PROBE:
            return
        reader = next(reader for reader in READERS if reader.name == cfg.MODEL.MODEL_NAME)
        heads = set()
        for name, parameter in model.named_parameters():
            is_head = re.fullmatch(reader.head, name) is not None
            parameter.requires_grad_(is_head)
            if is_head:
                heads.add(name.partition(".")[0])
        self._heads = [model.get_submodule(name) for name in sorted(heads)]

    def train(self) -> None:
        """Train mode for what is trained."""
        self._model.train(not self._heads)
        for head in self._heads:
            head.train()
