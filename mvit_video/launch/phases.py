"""What every rank does: train, then test, each if the config says so."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from fvcore.common.config import CfgNode
from torch import nn

from mvit_video.build import build_model
from mvit_video.data.preprocessing import Preprocessing
from mvit_video.errors import InputError
from mvit_video.evaluate.test import run_test
from mvit_video.launch.resize import with_global_batch
from mvit_video.launch.stop import StopFlag
from mvit_video.models.blocks import compile_blocks
from mvit_video.run_folder import CONFIG_FILE
from mvit_video.train.checkpoint import checkpoints_folder, find_newest_checkpoint
from mvit_video.train.loop import TrainResult, train, write_config
from mvit_video.weights import load_weights, read_checkpoint
from mvit_video.world import World

DONE, SOME_FAILED, STOPPED = 0, 1, 75
# Differences in these make other numbers of the same pixels, never an experiment.
_PIXEL_FIELDS = ("mean", "std", "reverse_channels")
_log = logging.getLogger(__name__)


def run_phases(cfg: CfgNode, world: World, stop: StopFlag) -> int:
    """Trains and tests; returns the run's exit code, on every rank the same.

    Raises:
        InputError: what is wrong with lists, weights or settings.
    """
    trained = None
    if cfg.TRAIN.ENABLE:
        cfg = with_global_batch(cfg, world)
        trained = train(cfg, world, stop)
        if trained.stopped:
            return STOPPED
    if not cfg.TEST.ENABLE:
        return DONE
    model, preprocessing = model_to_test(cfg, world, trained)
    if world.is_main and not (Path(cfg.OUTPUT_DIR) / CONFIG_FILE).exists():
        write_config(cfg)
    metrics = run_test(cfg, model, preprocessing, world, stop)
    if metrics is None:
        return STOPPED
    return SOME_FAILED if metrics["undecodable"] else DONE


def model_to_test(
    cfg: CfgNode, world: World, trained: TrainResult | None
) -> tuple[nn.Module, Preprocessing]:
    """The model on its device, with the weights that are to be tested, and its preprocessing.

    The first of: TEST.CHECKPOINT_FILE_PATH, what was just trained, the newest checkpoint in OUTPUT_DIR,
    TRAIN.CHECKPOINT_FILE_PATH, and a fresh model if TEST.RANDOM_WEIGHTS asks for it.

    Raises:
        InputError: there are no weights, or they are not this model's.
    """
    if trained is not None and not cfg.TEST.CHECKPOINT_FILE_PATH:
        return trained.model, trained.preprocessing
    source = weights_to_test(cfg)  # each rank looks for itself: nobody writes checkpoints now
    torch.manual_seed(cfg.RNG_SEED)
    model = build_model(cfg).to(world.device)
    if cfg.MODEL.COMPILE:
        compile_blocks(model)
    preprocessing = Preprocessing.from_config(cfg)
    if source:
        return model, load_to_test(model, source, preprocessing)
    _log.warning("testing a model that was never trained (TEST.RANDOM_WEIGHTS)")
    return model, preprocessing


def weights_to_test(cfg: CfgNode) -> str:
    """Path or URL of the weights of a test that no training comes before; "" for a fresh model.

    Raises:
        InputError: there are none, and TEST.RANDOM_WEIGHTS does not ask for a fresh model.
    """
    source = (
        cfg.TEST.CHECKPOINT_FILE_PATH
        or find_newest_checkpoint(checkpoints_folder(cfg.OUTPUT_DIR))
        or cfg.TRAIN.CHECKPOINT_FILE_PATH
    )
    if source or cfg.TEST.RANDOM_WEIGHTS:
        return str(source)
    raise InputError(
        "there are no weights to test: TEST.CHECKPOINT_FILE_PATH is empty and there is no checkpoint in "
        f"{checkpoints_folder(cfg.OUTPUT_DIR)}. Set TEST.CHECKPOINT_FILE_PATH, or train first; "
        "TEST.RANDOM_WEIGHTS True tests a model that was never trained"
    )


def load_to_test(model: nn.Module, source: str, preprocessing: Preprocessing) -> Preprocessing:
    """Fills `model` from `source`; returns `preprocessing` with the class names that came along.

    Raises:
        InputError: the weights are not this model's, or were trained on other classes or pixel values.
    """
    checkpoint = read_checkpoint(source)
    report = load_weights(model, checkpoint)
    if report.new_head:
        raise InputError(
            f"{source} tells other classes apart than the config: its head does not fit MODEL.NUM_CLASSES "
            f"{model.spec.num_classes}. Train on these classes first, starting from it (TRAIN.CHECKPOINT_FILE_PATH)"
        )
    _log.info("testing %s", report)
    if checkpoint.preprocessing is not None:
        _compare(preprocessing, Preprocessing.from_dict(checkpoint.preprocessing), source)
    names = checkpoint.class_names or preprocessing.class_names
    return replace(preprocessing, class_names=names)


def _compare(asked: Preprocessing, stored: Preprocessing, source: str) -> None:
    """Says where the clips of this test differ from those that the weights were trained on."""
    for name, value in asked.to_dict().items():
        trained: Any = stored.to_dict()[name]
        if value == trained or name == "class_names":
            continue
        difference = f"{source} was trained with {name} {trained}, the config says {value}"
        if name in _PIXEL_FIELDS:
            raise InputError(f"{difference}; give the values that it was trained with")
        _log.warning("%s: testing with the latter", difference)
