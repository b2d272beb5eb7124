"""What a process asks of the system."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY

COUNT_FAULTS = """
import resource
from mvit_video.processes import keep_freed_memory

def faults():
    for _ in range(2):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        bytearray(b"x") * (64 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(faults())
keep_freed_memory()
print(faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="malloc is not glibc's")
def test_memory_that_was_freed_is_used_again_without_page_faults():
    command = [sys.executable, "-c", COUNT_FAULTS]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, check=True)
    given_back, kept = map(int, done.stdout.split())
    assert kept < 100 < 1000 < given_back
