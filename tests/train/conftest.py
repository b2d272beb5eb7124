"""A small data set, and the keys of a run on it that uses everything a resume must keep."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.tiny_run import TINY_RUN, overrides, write_dataset


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny models are slower on more threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def dataset(tmp_path_factory) -> dict[str, str]:
    """Keys that name 18 training videos, 4 for validation and 4 for the test."""
    return write_dataset(tmp_path_factory.mktemp("videos"), num_train=18, num_test=4)


@pytest.fixture
def words(dataset, tmp_path):
    """From changed keys to the command line of a run: 3 epochs of 4 updates.

    With augmentation, mixup, drop path, dropout, averaged weights and clipping.
    """

    def make(output: str = "run", **changes: object) -> list[str]:
        keys = {
            **TINY_RUN,
            **dataset,
            "MODEL.DROPOUT_RATE": 0.3,
            "MVIT.DROPPATH_RATE": 0.3,
            "MVIT.DEPTH": 3,
            "MVIT.REL_POS_SPATIAL": True,
            "MVIT.RESIDUAL_POOLING": True,
            "SOLVER.MAX_EPOCH": 3,
            "SOLVER.WARMUP_EPOCHS": 0.5,
            "SOLVER.CLIP_GRAD_L2NORM": 1.0,
            "SOLVER.EMA_DECAY": 0.9,
            "AUG.ENABLE": True,
            "MIXUP.ENABLE": True,
            "DATA.READER": "pyav",
            "TRAIN.BATCH_SIZE": 4,
            "TRAIN.CHECKPOINT_STEPS": 3,
            "TRAIN.EVAL_PERIOD": 2,
            "TRAIN.KEEP_CHECKPOINTS": 2,
            "TEST.ENABLE": False,
            "LOG_PERIOD": 1,
            "OUTPUT_DIR": str(tmp_path / output),
            **{name.replace("__", "."): value for name, value in changes.items()},
        }
        return overrides(keys)

    return make
