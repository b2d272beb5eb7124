"""A stop is an appointment: a signal sets a flag, the ranks agree on it at the end of a step, save together, and leave.

Slurm's time limit and preemption come as SIGUSR2 (submitit) or SIGTERM, a person's Ctrl-C as SIGINT.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT)


class StopFlag:
    """Listens for the signals between `with` and its end. A second Ctrl-C raises KeyboardInterrupt at once.

    Attributes:
        requested: somebody has asked this process to end soon.
        requeue: by SIGUSR2, which a scheduler sends to a job that shall go on later.
    """

    def __init__(self) -> None:
        self.requested = False
        self.requeue = False
        self._interrupts = 0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopFlag:
        if threading.current_thread() is threading.main_thread():  # others may set no handlers
            for number in SIGNALS:
                self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before.clear()

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        self.requested = True
        self.requeue |= number == signal.SIGUSR2
        if number != signal.SIGINT:
            return
        self._interrupts += 1
        if self._interrupts > 1:
            raise KeyboardInterrupt
        # Not through print or logging: either may be what was interrupted.
        os.write(2, b"\nstopping after this step; Ctrl-C again to stop at once\n")


@contextlib.contextmanager
def signals_held_back() -> Iterator[None]:
    """Processes started inside begin with the signals held back, until they `let_signals_in`."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def let_signals_in() -> None:
    """In a process that was started with signals held back: from here on they come in."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
