"""Videos for the reader tests, each written once per session."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.data.readers.sequential import sequential


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, list[int]]:
    """Every video of `videos.VIDEOS`, with the numbers that a sequential decode shows."""
    folder = tmp_path_factory.mktemp("videos")
    writer = Path(__file__).with_name("videos.py")
    subprocess.run([sys.executable, writer, folder], check=True, capture_output=True)
    numbers = json.loads((folder / "made.json").read_text())
    return {folder / name: shown for name, shown in numbers.items()}


@pytest.fixture(scope="session")
def folder(made: dict[Path, list[int]]) -> Path:
    """Where the videos are."""
    return next(iter(made)).parent


@pytest.fixture(scope="session")
def truth(made: dict[Path, list[int]]) -> Callable[[Path], list[np.ndarray]]:
    """The sequential decode of a video, decoded once."""
    return functools.cache(sequential)
