"""Decodes that never end, and processes that die while decoding: which video it was.

A decoder that spins or waits in C cannot be interrupted from inside its process: neither by a signal handler nor by a
thread. So each loader worker notes which video it decodes and since when, in memory that it shares with the process
that started it; a thread there kills it when it takes too long (and workers.py goes on without the video). Where a
process has no workers, a thread decodes, and is left behind.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from typing import Any

import numpy as np
import torch
from torch.utils.data import get_worker_info

from mvit_video.data.readers import Frames, Reader, SizeRequest, VideoInfo
from mvit_video.errors import VideoError

_LOOK_EVERY = 0.5  # seconds


class Watch:
    """What each loader worker is decoding, and which videos have been given up.

    Travels to the workers with their data set. What is given up afterwards is known to workers started afterwards.

    Args:
        num_workers: that take notes; 0 where the process itself decodes.
        timeout: seconds that one decode may take; 0 for no limit.

    Attributes:
        given_up: by index, why a video is not to be tried again.
    """

    def __init__(self, num_workers: int = 0, timeout: float = 0.0) -> None:
        self.timeout = timeout
        self.given_up: dict[int, str] = {}
        # Of each worker: 1 + the index of the video (0: none), and since when (nanoseconds of time.monotonic, which is
        # one clock for all processes).
        self._notes = torch.zeros(num_workers, 2, dtype=torch.int64).share_memory_()

    @contextmanager
    def decoding(self, index: int, path: str) -> Iterator[None]:
        """Notes, for the length of a `with` block, that this worker decodes a video. VideoError if that is given up."""
        if index in self.given_up:
            raise VideoError(path, self.given_up[index])
        worker = get_worker_info()
        if worker is None:
            yield
            return
        note = self._notes[worker.id]
        note[1] = time.monotonic_ns()
        note[0] = index + 1  # last, so that no video is ever seen with the time of the one before
        try:
            yield
        finally:
            note[0] = 0

    def decoded_by(self, worker: int) -> int | None:
        """The index of the video that a worker decodes, or decoded when it died."""
        return int(self._notes[worker, 0]) - 1 if self._notes[worker, 0] else None

    def overdue(self) -> dict[int, int]:
        """{worker: index of the video} of those that have taken too long."""
        notes = self._notes.numpy().copy()
        late = time.monotonic_ns() - notes[:, 1] > self.timeout * 1e9
        workers = np.flatnonzero(late & (notes[:, 0] > 0))
        return dict(zip(workers.tolist(), (notes[workers, 0] - 1).tolist(), strict=True))

    def clear(self) -> None:
        """Forgets what workers noted that are gone."""
        self._notes.zero_()


class Patrol:
    """Kills workers that hang, from a thread of its own: a worker that hangs while it holds its interpreter's lock
    cannot even hand over the batch before, and the training process would wait for that for ever.
    """

    def __init__(self, watch: Watch, workers: Sequence[BaseProcess]) -> None:
        self._watch, self._workers = watch, workers
        self._over = threading.Event()
        if watch.timeout:
            threading.Thread(target=self._walk, name="patrol", daemon=True).start()

    def stop(self) -> None:
        """Returns at once; kills nothing afterwards that was not overdue before."""
        self._over.set()

    def _walk(self) -> None:
        while not self._over.wait(_LOOK_EVERY):
            for worker, index in self._watch.overdue().items():
                self._watch.given_up[index] = too_slow(self._watch.timeout)
                self._workers[worker].kill()


def too_slow(timeout: float) -> str:
    """Why a video was given up."""
    return f"abandoned after {timeout:g} s in the decoder (DATA.DECODE_TIMEOUT)"


class TimedReader:
    """A reader that walks away from a decode that takes too long; for processes without workers.

    The thread left behind ends with the process, and until then may keep a core busy: one per such video, which is
    not tried again. It takes decoders that release the interpreter lock, as decord and PyAV do.
    """

    def __init__(self, reader: Reader, timeout: float) -> None:
        self.name = reader.name
        self._reader, self._timeout = reader, timeout
        self._given_up: set[str] = set()

    def probe(self, path: str) -> VideoInfo:
        """See `Reader.probe`."""
        return self._timed(self._reader.probe, path)

    def read(
        self, path: str, frames: Frames, size: SizeRequest = None
    ) -> tuple[np.ndarray, VideoInfo]:
        """See `Reader.read`."""
        return self._timed(self._reader.read, path, frames, size)

    def _timed(self, work: Callable[..., Any], path: str, *arguments: Any) -> Any:
        outcome: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()

        def decode() -> None:
            try:
                outcome.put((work(path, *arguments), None))
            except BaseException as error:  # raised again below
                outcome.put((None, error))

        try:
            if path in self._given_up:
                raise queue.Empty
            threading.Thread(target=decode, daemon=True).start()
            result, error = outcome.get(timeout=self._timeout)
        except queue.Empty:
            self._given_up.add(path)
            raise VideoError(path, too_slow(self._timeout)) from None
        if error is not None:
            raise error
        return result
