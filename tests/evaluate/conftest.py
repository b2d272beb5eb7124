"""A tiny data set, a model for it, and runs of the test over several ranks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from fvcore.common.config import CfgNode

from mvit_video.config import load_config
from tests.tiny_run import TINY_RUN, overrides, write_dataset


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As many threads here as in the processes that the tests start: bits hold for one number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def dataset(tmp_path_factory) -> dict[str, str]:
    """Seven test videos, the fourth of them no video; the keys that name the lists."""
    folder = tmp_path_factory.mktemp("tiny data")
    keys = write_dataset(folder)
    (folder / "test_3.mp4").write_bytes(b"this is no video" * 100)
    return keys


@pytest.fixture
def make_cfg(dataset, tmp_path) -> Callable[..., CfgNode]:
    """make_cfg({key: value}) is a tiny run into tmp_path, with these keys changed."""

    def make(
        changes: dict[str, object] | None = None, output: Path = tmp_path / "output"
    ) -> CfgNode:
        return load_config(
            None, overrides({**TINY_RUN, **dataset, "OUTPUT_DIR": output, **(changes or {})})
        )

    return make
