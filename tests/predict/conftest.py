"""A tiny trained checkpoint, its test videos, and what the multi-view test said about them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from mvit_video import Recognizer
from mvit_video.config import load_config
from mvit_video.evaluate.predictions import Predictions, load
from mvit_video.launch import run
from tests.tiny_run import TINY_RUN, overrides, write_dataset


@dataclass(frozen=True)
class Trained:
    """A finished run: its newest checkpoint, the folder of its videos, and its predictions file."""

    checkpoint: Path
    videos: Path
    predictions: Predictions


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As many threads here as in the run: bits hold for one number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Trained:
    """A run that learned red from green from blue, and tested itself with 3 x 3 views."""
    folder = tmp_path_factory.mktemp("trained")
    keys = {
        **TINY_RUN,
        **write_dataset(folder / "videos"),
        "OUTPUT_DIR": folder / "output",
        "TEST.NUM_SPATIAL_CROPS": 3,
        "SOLVER.MAX_EPOCH": 8,
        "TRAIN.EVAL_PERIOD": 0,
        "TRAIN.CHECKPOINT_PERIOD": 8,
    }
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    assert run(load_config(None, overrides(keys))) == 0
    torch.set_num_threads(threads)
    (checkpoint,) = (folder / "output" / "checkpoints").glob("step_*.pt")
    predictions = load(folder / "output" / "test" / "predictions.npz")
    return Trained(checkpoint, folder / "videos", predictions)


@pytest.fixture(scope="session")
def recognizer(trained) -> Recognizer:
    """Of that checkpoint."""
    return Recognizer.from_checkpoint(trained.checkpoint, "cpu")
