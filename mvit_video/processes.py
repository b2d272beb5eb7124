"""Processes that do not outlive the one that started them."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def die_with_parent(parent: int) -> None:
    """Has the kernel kill this process when its parent ends, however that comes to pass (Linux).

    Otherwise the ranks of a killed run would live on and write into its folder beside the run that took its place,
    and a loader worker whose parent is killed while it starts would wait for ever.

    Args:
        parent: process id of the parent, which may have ended already. It must have started this process from a
            thread that lasts: to the kernel, that thread is the parent.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
