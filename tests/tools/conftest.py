"""Tools are tested as processes, the way they are used."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.conftest import REPOSITORY
from tests.tiny_run import TINY_RUN, write_dataset


@pytest.fixture(scope="session")
def run_tool() -> Callable[..., subprocess.CompletedProcess[str]]:
    """run_tool("run_net.py", word, ...) runs a tool in a process of its own, from another folder than the checkout."""

    def run(
        tool: str, *words: object, cwd: object = "/", timeout: float = 300
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(REPOSITORY / "tools" / tool), *map(str, words)],
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    return run


@pytest.fixture(scope="session")
def tiny_config(tmp_path_factory):
    """A YAML of a tiny run over a tiny data set."""
    folder = tmp_path_factory.mktemp("tiny data")
    keys = {**TINY_RUN, **write_dataset(folder)}
    sections: dict[str, list[str]] = {}
    for key, value in keys.items():
        section, _, leaf = key.rpartition(".")
        sections.setdefault(section, []).append(f"{leaf}: {value}")
    lines = sections.pop("")
    for section, leaves in sections.items():
        lines += [f"{section}:", *(f"  {leaf}" for leaf in leaves)]
    config = folder / "tiny.yaml"
    config.write_text("\n".join(lines) + "\n")
    return config
