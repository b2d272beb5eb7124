"""Candidates in processes of their own: set up as their users have them, and told of when they die."""

from __future__ import annotations

import os
import signal

import pytest

from mvit_video.benchmark.contestant import Contestant
from mvit_video.config import load_config
from mvit_video.errors import InputError
from tests.tiny_run import TINY_MODEL, overrides


@pytest.fixture
def cfg():
    return load_config(None, overrides(TINY_MODEL | {"NUM_THREADS": 1}))


@pytest.mark.slow
def test_only_ours_keeps_freed_memory(cfg, monkeypatch, tmp_path):
    # A library that is loaded first writes down what malloc is told; the children inherit it.
    source, library = tmp_path / "mallopt.c", tmp_path / "mallopt.so"
    source.write_text(
        "#include <stdio.h>\n#include <stdlib.h>\n"
        "int mallopt(int what, int value) {\n"
        '    FILE *told = fopen(getenv("TOLD"), "a"); fputs("told\\n", told); fclose(told); return 1;\n'
        "}\n"
    )
    if os.system(f"cc -shared -fPIC -o {library} {source}"):
        pytest.skip("no C compiler")
    monkeypatch.setenv("LD_PRELOAD", str(library))
    for name, told in (("mvit_video", True), ("materialised", False)):
        monkeypatch.setenv("TOLD", str(tmp_path / name))
        contestant = Contestant(cfg, name, 1, training=False)
        contestant.run_pass()
        memory = contestant.memory()
        contestant.close()
        assert (tmp_path / name).exists() is told
        assert 0 < memory["pass_memory_mib"] < memory["peak_memory_mib"]


def test_one_that_is_killed_is_told_of(cfg):
    contestant = Contestant(cfg, "mvit_video", 1, training=False)
    os.kill(contestant._process.pid, signal.SIGKILL)
    with pytest.raises(InputError, match=r"mvit_video ended with exit code -9 .* --batch"):
        contestant.run_pass()
    contestant.close()
