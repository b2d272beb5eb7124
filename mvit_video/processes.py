"""What a process asks of the system: not to outlive the one that started it, and to keep the memory it frees."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h of glibc
_LARGEST = 2**30


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


def keep_freed_memory() -> None:
    """Has malloc (glibc's) keep what is freed for what is allocated next, instead of giving it back to the system.

    Tensors above 32 MiB are otherwise mapped anew each time, and every page of them faults when it is first written:
    a sixth of a Dual-ViT's forward pass on CPU. The process holds on to its peak, which grows by a few percent.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if hasattr(libc, "mallopt"):
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST)
        libc.mallopt(_M_TRIM_THRESHOLD, 2 * _LARGEST - 1)
