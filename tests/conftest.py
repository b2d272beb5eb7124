"""What all tests share."""

from __future__ import annotations

import os
import signal
from pathlib import Path

# In a shell's background SIGINT is ignored, and tests' children would inherit that.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if "PYTEST_XDIST_WORKER" in os.environ:  # the workers share the cores; before torch is imported
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import HealthCheck, settings

from tests.browser import chromium, open_page  # noqa: F401  fixtures

# How long an example takes says more about the machine's other work than about the code.
settings.register_profile(
    "shared machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("shared machine")

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder `../shared` (real clips, parity fixtures) beside the checkout, where there is one."""
    folder = REPOSITORY.parent / "shared"
    if not folder.is_dir():
        pytest.skip("../shared (real clips and parity fixtures) is not beside this checkout")
    return folder
