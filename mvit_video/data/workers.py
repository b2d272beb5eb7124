"""Loader processes: started, watched, replaced, ended.

A worker lives as long as its loader, runs torch on one thread (DataLoader sees to that), and hears no signal: Slurm
sends SIGUSR2 and SIGTERM to every process of a job step, a terminal sends Ctrl-C to every process in front, but only
the training process may answer. Workers end when the loader is closed or its process is gone.

A video that hangs or crashes its decoder costs the workers, all of which are replaced, and nothing else: a sample is a
function of its number, so the new ones go on at the first batch that was not delivered, and give what the old ones
would have given, but for that video, which is undecodable from then on.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import multiprocessing.connection
import multiprocessing.queues
import os
import re
import signal
import weakref
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import torch
from fvcore.common.config import CfgNode
from torch.utils.data import DataLoader, Sampler
from torch.utils.data._utils.signal_handling import _remove_worker_pids

from mvit_video.data.shared_memory import InSharedMemory
from mvit_video.data.watch import Patrol, Watch
from mvit_video.errors import InputError
from mvit_video.processes import die_with_parent
from mvit_video.world import World

_MAX_WORKERS = 8
_PATIENCE = 1.0  # seconds without a batch after which it is asked whether a worker has died

_ABOUT_WORKERS = re.compile(r"DataLoader (timed out|worker \(pid)")
_CRASHES = {signal.SIGSEGV, signal.SIGABRT, signal.SIGFPE, signal.SIGILL}
_CAUSES = {
    signal.SIGKILL: "That is how the kernel (`dmesg` tells) and Slurm end a process when memory runs out: lower "
    "DATA_LOADER.NUM_WORKERS or DATA_LOADER.PREFETCH_FACTOR, or ask for more memory",
    signal.SIGBUS: "That is what a full /dev/shm does: lower DATA_LOADER.NUM_WORKERS or DATA_LOADER.PREFETCH_FACTOR, "
    "or give it more room (docker run --shm-size)",
}
_log = logging.getLogger(__name__)


class Watched(Protocol):
    """A data set whose items are videos.

    Attributes:
        watch: told of each decode.
    """

    watch: Watch

    def name(self, index: int) -> str:
        """What to call a video in messages."""
        ...


class Loader:
    """Iterates a data set again and again with the same workers, and looks after them.

    Args:
        dataset: also a torch Dataset; what it gives goes through `settings`' collate function.
        settings: of a DataLoader; `collate_fn` and one of `sampler`, `batch_sampler` among them.

    Raises, while iterating:
        InputError: the list is hopeless (see TrainClips), or shared memory is full.
        RuntimeError: a worker died; the message says which videos were being decoded and what may have killed it.
    """

    def __init__(self, dataset: Watched, **settings: Any) -> None:
        self.name, self._watch = dataset.name, dataset.watch
        kind = "batch_sampler" if "batch_sampler" in settings else "sampler"
        self._rest = settings[kind] = _Rest(settings[kind])
        settings["collate_fn"] = InSharedMemory(settings["collate_fn"])
        self._loader = DataLoader(dataset, **settings)
        self._batches: Any = None  # DataLoader's iterator, which owns the workers
        self._patrol: Patrol | None = None

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Any]:
        delivered = 0
        batches = self._start(delivered)
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                return
            except (RuntimeError, OSError, EOFError) as error:
                if not _is_about_workers(error):
                    raise
                broken = not isinstance(error, RuntimeError)  # a connection, and a batch with it
                if self._bury(patience=_PATIENCE if broken else 0):
                    batches = self._start(delivered)
                elif broken:
                    raise
                continue
            if isinstance(batch, InputError):
                raise batch
            delivered += 1
            yield batch

    def _start(self, delivered: int) -> Iterator[Any]:
        """An iterator over what comes after the first `delivered` batches; workers are started if there are none."""
        self._rest.skipped = delivered
        if self._loader.num_workers == 0:
            return iter(self._loader)
        if self._batches:
            try:
                return iter(self._loader)
            except (RuntimeError, OSError, EOFError) as error:
                if not _is_about_workers(error):
                    raise
                self._kill()  # a worker is still busy with what an iteration that was left half-way has asked of it
        self._watch.clear()
        with _signals_blocked():
            self._batches = iter(self._loader)
        # DataLoader would raise, when a worker dies, from whatever the training process is doing then.
        _remove_worker_pids(id(self._batches))
        self._batches._worker_pids_set = False
        self._patrol = Patrol(self._watch, self.workers)
        # Registered after DataLoader's own exit hook and so run before it: that one waits for workers to heed SIGTERM.
        atexit.register(_close, weakref.ref(self))
        return self._batches

    @property
    def workers(self) -> list[multiprocessing.Process]:
        """The loader processes; none before the first iteration."""
        return self._batches._workers if self._batches else []

    def _bury(self, patience: float) -> bool:
        """Looks for workers that died. Gives up the videos they hung or crashed on; the other workers are ended too.

        Args:
            patience: seconds to wait for one that is about to be dead.

        Returns:
            Whether one had died. RuntimeError where that had another cause.
        """
        pinning = getattr(self._batches, "_pin_memory_thread", None)
        if pinning is not None and not pinning.is_alive():
            raise RuntimeError("the thread that copies batches to page-locked memory has died")
        workers = self.workers
        ended = multiprocessing.connection.wait([worker.sentinel for worker in workers], patience)
        dead = [number for number, worker in enumerate(workers) if worker.sentinel in ended]
        for number in dead:
            worker = workers[number]
            worker.join()  # its end of the line is closed a moment before it has an exit code
            index, code = self._watch.decoded_by(number), -worker.exitcode
            if index is not None and code in _CRASHES:
                self._watch.given_up[index] = f"crashes the decoder ({signal.Signals(code).name})"
            reason = self._watch.given_up.get(index)
            if reason is None:
                raise RuntimeError(self._obituary(number))
            _log.warning("%s: %s; the loader's workers are replaced", self.name(index), reason)
        if dead:
            self._kill()
        return bool(dead)

    def _obituary(self, dead: int) -> str:
        code = self.workers[dead].exitcode
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"gone (exit code {code})"
        at_work = {n: self._watch.decoded_by(n) for n in range(len(self.workers))}
        names = {n: self.name(index) for n, index in at_work.items() if index is not None}
        doing = f"while it decoded {names.pop(dead)}" if dead in names else "between two videos"
        others = f" Other workers were decoding {', '.join(names.values())}." if names else ""
        cause = _CAUSES.get(-code, "")
        return f"loader worker {dead} was {how} {doing}.{others} {cause}".rstrip()

    def _kill(self) -> None:
        for worker in self.workers:
            worker.kill()
        self.close()

    def close(self) -> None:
        """Ends the workers, also one that hangs in a decoder. Iterating again would start new ones."""
        workers = self.workers
        if self._patrol is not None:
            self._patrol.stop()
        if workers:
            # Dropping every reference would do the same, but an iteration that was left half-way holds one.
            self._batches._shutdown_workers()
        self._batches = self._loader._iterator = None
        for worker in workers:
            if worker.is_alive():
                worker.kill()
                worker.join(5.0)  # one that waits for a disk that is gone cannot even be killed

    def __del__(self) -> None:
        self.close()


def _is_about_workers(error: Exception) -> bool:
    """Whether DataLoader says that a worker died, or that none had news; or a connection to one broke."""
    return _ABOUT_WORKERS.match(str(error)) is not None or not isinstance(error, RuntimeError)


class _Rest(Sampler):
    """What a sampler gives, without the first `skipped` of an iteration."""

    def __init__(self, sampler: Any) -> None:
        self._sampler = sampler
        self.skipped = 0

    def __len__(self) -> int:
        return len(self._sampler)

    def __iter__(self) -> Iterator[Any]:
        return islice(iter(self._sampler), self.skipped, None)


def _close(reference: weakref.ref[Loader]) -> None:
    loader = reference()
    if loader is not None:
        loader.close()


def item_loader(items: Watched, order: Iterable[int], **settings: Any) -> Loader:
    """A loader of single items in this order, as they are; `settings` are those of `worker_settings`."""
    return Loader(items, sampler=order, batch_size=None, collate_fn=_itself, **settings)


def _itself(item: Any) -> Any:
    return item


def settings_from_config(cfg: CfgNode, world: World) -> dict[str, Any]:
    """How the loaders of this rank are to work: `worker_settings`."""
    settings = cfg.DATA_LOADER
    num_workers = settings.NUM_WORKERS
    if num_workers < 0:
        num_workers = default_num_workers(max(world.size // cfg.NUM_SHARDS, 1))
    pin_memory = settings.PIN_MEMORY and world.device.type == "cuda"
    return worker_settings(num_workers, settings.PREFETCH_FACTOR, pin_memory)


def worker_settings(
    num_workers: int, prefetch_factor: int = 2, pin_memory: bool = False
) -> dict[str, Any]:
    """What a DataLoader is told about its workers."""
    return {
        "num_workers": num_workers,
        "timeout": _PATIENCE if num_workers else 0,
        "prefetch_factor": prefetch_factor if num_workers else None,
        "persistent_workers": num_workers > 0,
        "pin_memory": pin_memory,
        "worker_init_fn": _begin_worker,
        "generator": torch.Generator(),  # else every iterator would draw from the global one
    }


def default_num_workers(local_ranks: int) -> int:
    """Workers for one of `local_ranks` processes on this machine: its share of the cores it may use, 1 to 8."""
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    return min(max(int(min(cores, _cgroup_cores()) / local_ranks), 1), _MAX_WORKERS)


def _cgroup_cores() -> float:
    """Cores that a container's CPU quota allows (cgroup v2, `docker run --cpus`)."""
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return int(quota) / int(period)  # "max" is no quota
    return float("inf")


def _begin_worker(_: int) -> None:
    multiprocessing.queues.Queue._on_queue_feeder_error = staticmethod(_end_worker)
    # The parent of a worker from a fork server is the server, which ends with the run.
    if multiprocessing.get_start_method() != "forkserver":
        die_with_parent(multiprocessing.parent_process().pid)


def _end_worker(error: Exception, batch: object) -> None:
    """Where a batch cannot be handed over: it would be forgotten, and waited for; a death is noticed."""
    _log.error("a loader worker ends, for it cannot hand over a batch: %r", error)
    os._exit(1)


@contextlib.contextmanager
def _signals_blocked() -> Iterator[None]:
    """Processes started in here never see these signals, whatever the start method; this one sees them afterwards."""
    blocked = {signal.SIGINT, signal.SIGTERM, signal.SIGUSR2}
    old = signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)
