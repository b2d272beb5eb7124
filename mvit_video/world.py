"""Who this process is among the processes of a run.

`launch` decides it; every room below is handed a `World` and never looks at the environment. At size 1
each collective is a no-op, so one code path serves a laptop and a cluster.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
import torch.distributed as dist


@dataclass(frozen=True)
class World:
    """Rank, number of ranks and device of this process.

    Attributes:
        rank: 0 <= rank < size, over all machines.
        size: number of processes over all machines.
        local_rank: rank among the processes of this machine.
        device: where this process computes.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def barrier(self) -> None:
        """Waits until every rank has come here."""
        if self.size > 1:
            dist.barrier()

    def all_reduce_sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """Sum of `tensor` over ranks, in place, on every rank."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def any(self, flag: bool) -> bool:
        """True on every rank if `flag` is true on at least one."""
        if self.size == 1:
            return flag
        votes = torch.tensor(int(flag))  # on the CPU: nobody waits for a GPU to vote
        dist.all_reduce(votes, op=dist.ReduceOp.MAX)
        return bool(votes.item())

    def gather_objects(self, value: Any) -> list[Any] | None:
        """The values of all ranks in rank order on rank 0, None elsewhere. For small picklable things."""
        if self.size == 1:
            return [value]
        gathered = [None] * self.size if self.is_main else None
        dist.gather_object(value, gathered, dst=0)
        return gathered

    def broadcast_object(self, value: Any) -> Any:
        """Rank 0's value on every rank. For small picklable things."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]


class Stop(Protocol):
    """Whether somebody has asked this process to end soon."""

    requested: bool
