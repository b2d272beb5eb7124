"""Which process of a run this is: from the environment to a World."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from fvcore.common.config import CfgNode

from mvit_video.errors import InputError
from mvit_video.launch.meeting import meeting_store, roll_call
from mvit_video.launch.slurm import expand_counts, expand_hosts, meeting_port
from mvit_video.processes import keep_freed_memory
from mvit_video.world import World

# How long ranks wait for each other: longer than any rank may be busy alone, such as merging a large test.
TIMEOUT = timedelta(minutes=30)


@dataclass(frozen=True)
class Place:
    """Rank and number of processes, over all machines and on this one.

    Attributes:
        rank, size: over all machines.
        local_rank, local_size: on this machine.
        address: host and port where rank 0 can be met; None where a launcher has its own way.
        cores: of this process alone; None where the machine's are to be shared out.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    address: tuple[str, int] | None = None
    cores: int | None = None


def place_from_environment(environment: Mapping[str, str]) -> Place | None:
    """The place that torchrun or Slurm gave this process, None where it is the only one so far.

    Raises:
        InputError: the variables are there in part, or contradict each other.
    """
    # torchrun may be what a Slurm step has started on each node, so its word comes first.
    return _place_from_torchrun(environment) or _place_from_slurm(environment)


def _place_from_slurm(environment: Mapping[str, str]) -> Place | None:
    """The task of a step that srun started. A batch script or a lone task is free to start its own processes."""
    if int(environment.get("SLURM_STEP_NUM_TASKS", 1)) == 1:
        return None
    counts = expand_counts(environment["SLURM_STEP_TASKS_PER_NODE"])
    rank, local_rank = int(environment["SLURM_PROCID"]), int(environment["SLURM_LOCALID"])
    cores = environment.get("SLURM_CPUS_PER_TASK")
    return Place(
        rank,
        int(environment["SLURM_STEP_NUM_TASKS"]),
        local_rank,
        counts[int(environment["SLURM_NODEID"])],
        (expand_hosts(environment["SLURM_STEP_NODELIST"])[0], meeting_port(environment)),
        int(cores) if cores else None,
    )


def _place_from_torchrun(environment: Mapping[str, str]) -> Place | None:
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    if "RANK" not in environment or "WORLD_SIZE" not in environment:
        return None
    missing = [name for name in names if name not in environment]
    if missing:
        raise InputError(
            f"RANK and WORLD_SIZE are set, but not {', '.join(missing)}; start with torchrun, which sets them "
            "all, or unset both"
        )
    try:
        rank, size, local_rank, local_size = (int(environment[name]) for name in names[:4])
    except ValueError:
        found = ", ".join(f"{name}={environment[name]!r}" for name in names[:4])
        raise InputError(f"{found}: these must be whole numbers") from None
    if not (0 <= rank < size and 0 <= local_rank < local_size <= size):
        raise InputError(
            f"RANK {rank} of WORLD_SIZE {size} and LOCAL_RANK {local_rank} of LOCAL_WORLD_SIZE {local_size} "
            "contradict each other"
        )
    return Place(rank, size, local_rank, local_size)


def processes_to_start(cfg: CfgNode) -> int:
    """How many processes a run takes that nobody else has started.

    Raises:
        InputError: more than one machine, or more processes than GPUs.
    """
    if cfg.NUM_SHARDS > 1:
        raise InputError(
            f"NUM_SHARDS is {cfg.NUM_SHARDS}: a run over several machines is started on each of them, by Slurm "
            f"(tools/submit.py --nodes {cfg.NUM_SHARDS} ...) or by torchrun "
            f"(torchrun --nnodes {cfg.NUM_SHARDS} --nproc-per-node GPUS --rdzv-endpoint HOST:PORT tools/run_net.py ...)"
        )
    gpus = torch.cuda.device_count()
    if cfg.NUM_GPUS < 0:
        return max(gpus, 1)
    if 0 < gpus < cfg.NUM_GPUS:
        raise InputError(f"NUM_GPUS is {cfg.NUM_GPUS}, but {gpus} are visible; use at most {gpus}")
    return cfg.NUM_GPUS


@contextlib.contextmanager
def joined(cfg: CfgNode, place: Place, store: dist.Store | None = None) -> Iterator[World]:
    """The world, with this process in it: threads, device, process group.

    Args:
        store: where the ranks meet; None for the one that MASTER_ADDR and MASTER_PORT name.
    """
    cores = place.cores or max(usable_cores() // place.local_size, 1)
    torch.set_num_threads(cfg.NUM_THREADS or cores)
    keep_freed_memory()
    device, backend = device_of(place), "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(device)
        backend = (
            "cpu:gloo,cuda:nccl"  # votes and small objects travel by gloo, tensors on GPUs by nccl
        )
    world = World(place.rank, place.size, place.local_rank, device)
    if place.size == 1:
        yield world
        return
    store = store or meeting_store(place.rank, place.size, place.address)
    roll_call(store, place.rank, place.size)
    group_store = dist.PrefixStore("group", store)
    dist.init_process_group(
        backend, store=group_store, rank=place.rank, world_size=place.size, timeout=TIMEOUT
    )
    yield world
    # After an error the others may be gone: no farewell then, the process is about to end.
    dist.destroy_process_group()


def device_of(place: Place) -> torch.device:
    """The CPU, or the GPU of this rank: a launcher may show a process all GPUs of the machine, or only its own.

    Raises:
        InputError: two ranks would share a GPU; or Slurm shows GPUs that no task would use.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if gpus == 0:
        return torch.device("cpu")
    if 1 < gpus < place.local_size:
        raise InputError(
            f"{place.local_size} ranks on this machine, but {gpus} GPUs: start one rank per GPU"
        )
    if place.address is not None and place.local_size < gpus:
        raise InputError(
            f"Slurm started {place.local_size} of {place.size} tasks on this node, which shows them {gpus} GPUs: start "
            f"one task per GPU (--ntasks-per-node={gpus}), or ask for fewer GPUs (--gpus-per-node={place.local_size})"
        )
    return torch.device("cuda", place.local_rank % gpus)


def require_gpus(asked: int) -> None:
    """Whether a process that was submitted for `asked` GPUs sees any: it would train on the CPU otherwise.

    Raises:
        InputError: torch was built without CUDA.
        RuntimeError: torch was not, so that something is wrong with this machine.
    """
    if not asked or torch.cuda.is_available():
        return
    if not torch.backends.cuda.is_built():
        raise InputError(
            f"{asked} GPUs a node were asked for, but torch {torch.__version__} is a build for CPUs: install one for "
            "CUDA (https://pytorch.org/get-started), or leave out --gpus-per-node"
        )
    raise RuntimeError(
        f"{asked} GPUs were asked for, but torch sees none on {socket.gethostname()}: does nvidia-smi there?"
    )


def usable_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
