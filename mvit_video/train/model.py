"""The model as a training begins with it, and as it leaves it."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from fvcore.common.config import CfgNode
from torch import nn

from mvit_video.build import build_model
from mvit_video.data.preprocessing import Preprocessing
from mvit_video.weights import load_weights
from mvit_video.weights.native import save_native
from mvit_video.world import World

MODEL_FILE = "model.safetensors"
_log = logging.getLogger(__name__)


def first_model(cfg: CfgNode, world: World, goes_on: bool) -> nn.Module:
    """The same model on every rank, fresh or with TRAIN.CHECKPOINT_FILE_PATH's weights.

    Args:
        goes_on: a checkpoint of the run will fill it, so no other weights are read.

    Raises:
        InputError: the weights cannot be read, or do not fit.
    """
    torch.manual_seed(cfg.RNG_SEED)
    model = build_model(cfg).to(world.device)
    if cfg.TRAIN.CHECKPOINT_FILE_PATH and not goes_on:
        allowed = cfg.TRAIN.CHECKPOINT_ALLOW
        source = cfg.TRAIN.CHECKPOINT_FILE_PATH
        report = load_weights(model, source, allow_missing=allowed, allow_unexpected=allowed)
        _log.info("starting from %s", report)
    return model


def write_model(cfg: CfgNode, model: nn.Module, preprocessing: Preprocessing) -> Path:
    """Writes OUTPUT_DIR/model.safetensors: weights and all that is needed to use them. On one rank only."""
    path = Path(cfg.OUTPUT_DIR) / MODEL_FILE
    save_native(
        model,
        path,
        family=cfg.MODEL.MODEL_NAME,
        config=cfg.dump(),
        preprocessing=preprocessing.to_dict(),
        class_names=preprocessing.class_names,
    )
    _log.info("the finished model: %s", path)
    return path
