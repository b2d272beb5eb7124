"""What would stop a run later and can be known now, before any process, worker or training is started."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from fvcore.common.config import CfgNode

from mvit_video.build import build_model
from mvit_video.data.lists import Split, load_list
from mvit_video.data.preprocessing import Preprocessing
from mvit_video.data.readers import make_reader
from mvit_video.launch.phases import load_to_test, weights_to_test


def check_run(cfg: CfgNode) -> None:
    """Reads every list the run needs, imports its reader, lays out its model, and looks at the weights it ends with.

    Raises:
        InputError: the first thing that is wrong, and what to do.
    """
    make_reader(cfg.DATA.READER)
    preprocessing = Preprocessing.from_config(cfg)
    for split in _splits(cfg):
        load_list(cfg, split)
    with torch.device("meta"):
        build_model(cfg)
    if cfg.TEST.ENABLE and not cfg.TRAIN.ENABLE:
        weights_to_test(cfg)
    elif cfg.TEST.ENABLE and cfg.TEST.CHECKPOINT_FILE_PATH:
        # A run that trains first would come to these weights last: do they fit?
        load_to_test(build_model(cfg), cfg.TEST.CHECKPOINT_FILE_PATH, preprocessing)


def _splits(cfg: CfgNode) -> Iterator[Split]:
    """The lists that the run reads."""
    if cfg.TRAIN.ENABLE:
        yield "train"
        if cfg.TRAIN.EVAL_PERIOD:
            yield "val"
    if cfg.TEST.ENABLE:
        yield "test"
