"""How the ranks of a run find each other: a store that rank 0 holds, and a roll call before anything else.

A rank that does not come, because its node hangs or its program died while it was loading, is named after a while.
Without a roll call the others would wait for it in the first exchange until the scheduler ends them.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from datetime import timedelta

import torch.distributed as dist

ROLL_CALL = timedelta(minutes=10)  # the slowest node may load torch from a busy file system
_GRACE = timedelta(seconds=30)
_VERDICT, _ALL = "roll call", "all"
_FAREWELL_SECONDS = 2.0  # the store goes with rank 0, and the others have not read it yet


class RanksMissing(RuntimeError):
    """Some ranks of the run did not come."""


def meeting_store(
    rank: int, size: int, address: tuple[str, int] | None, timeout: timedelta = ROLL_CALL
) -> dist.Store:
    """The store of the ranks.

    Args:
        address: host and port of rank 0; None where MASTER_ADDR and MASTER_PORT say.

    Raises:
        RanksMissing: rank 0 does not answer, or cannot listen.
    """
    if address is None:
        return next(dist.rendezvous("env://", rank=rank, world_size=size, timeout=timeout))[0]
    host, port = address
    try:
        return dist.TCPStore(
            host, port, is_master=rank == 0, timeout=timeout, wait_for_workers=False
        )
    except RuntimeError as error:
        who = "cannot listen" if rank == 0 else f"did not answer within {timeout}"
        raise RanksMissing(f"rank 0 {who} at {host}:{port}: {error}") from error


def roll_call(store: dist.Store, rank: int, size: int, timeout: timedelta = ROLL_CALL) -> None:
    """Returns when all ranks have come.

    Raises:
        RanksMissing: the ranks that have not, on every rank that has.
    """
    host = socket.gethostname()
    store.set(_key(rank), host)
    if rank == 0:
        missing = _wait_for(store, size, timeout)
        store.set(_VERDICT, _verdict(store, missing, size, timeout) if missing else _ALL)
    try:
        store.wait([_VERDICT], timeout + _GRACE)
        verdict = store.get(_VERDICT).decode()
    except RuntimeError as error:
        raise RanksMissing(f"rank 0 has gone before all ranks came: {error}") from error
    if verdict == _ALL:
        return
    if rank == 0:
        time.sleep(_FAREWELL_SECONDS)
    raise RanksMissing(verdict)


def _wait_for(store: dist.Store, size: int, timeout: timedelta) -> list[int]:
    """The ranks that did not come in time."""
    try:
        store.wait([_key(rank) for rank in range(size)], timeout)
    except RuntimeError:  # DistStoreError: the time is over
        return [rank for rank in range(size) if not store.check([_key(rank)])]
    return []


def _verdict(store: dist.Store, missing: Sequence[int], size: int, timeout: timedelta) -> str:
    here = [rank for rank in range(size) if rank not in missing]
    hosts = sorted({store.get(_key(rank)).decode() for rank in here})
    ranks = ", ".join(map(str, missing))
    return (
        f"rank {ranks} of {size} did not come within {timeout.total_seconds():g} s. Those that came are on "
        f"{', '.join(hosts)}. Look at the logs of the missing ranks, and whether their nodes can reach this one"
    )


def _key(rank: int) -> str:
    return f"here/{rank}"
