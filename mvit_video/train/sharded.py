"""A training whose model is a share on each rank (FSDP2): how it is cut, saved and loaded.

Apart from `parallel` because of what torch imports for it, half a second in every process that starts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from mvit_video.errors import InputError
from mvit_video.models.blocks import blocks_of
from mvit_video.train.parallel import share_buffers
from mvit_video.weights.shards import (
    SHARDS,
    ShardReader,
    describe_shards,
    optimizer_state,
    quiet_if_alone,
)
from mvit_video.world import World


def shard(model: nn.Module, world: World) -> None:
    """Leaves each rank its share of every parameter, in place: block by block, and what is around the blocks.

    Every rank must come with the same weights. Weights stay in float32 and autocast casts them, as without shards.
    """
    mesh = init_device_mesh(world.device.type, (world.size,))
    for block in blocks_of(model):
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)


class ShardedState:
    """Saves and loads what a training holds, each rank its share; also with another number of ranks than saved it.

    Args:
        parts: modules by the name they are stored under.
    """

    def __init__(
        self, parts: dict[str, nn.Module], optimizer: torch.optim.Optimizer, world: World
    ) -> None:
        self._parts, self._optimizer, self._world = parts, optimizer, world

    def save(self, checkpoints: Path, step: int) -> dict[str, Any]:
        """Writes a new folder in that of the checkpoints; returns what the checkpoint holds instead of the tensors.

        Every rank calls it.

        Raises:
            InputError: it cannot be written.
        """
        folder = self._world.broadcast_object(_new_folder(checkpoints, step))
        if self._world.size > 1:
            for model in self._parts.values():
                share_buffers(model)
        tensors = self._modules()
        for parameter, state in self._optimizer.state_dict()["state"].items():
            tensors.update({f"optimizer.{parameter}.{name}": t for name, t in state.items()})
        writer = dcp.FileSystemWriter(folder, single_file_per_rank=True, sync_files=True)
        try:
            with quiet_if_alone():
                dcp.save(tensors, storage_writer=writer, no_dist=self._world.size == 1)
            own = describe_shards(folder, f"__{self._world.rank}_*")
        except (OSError, dcp.CheckpointException) as error:
            raise InputError(f"the checkpoint in {folder} cannot be written: {error}") from error
        if self._world.is_main:
            own |= describe_shards(folder, ".metadata")
        every = self._world.broadcast_object(self._world.gather_objects(own))
        files = {name: print_ for files in every for name, print_ in files.items()}
        return {
            SHARDS: {"folder": folder.name, "files": files},
            "optimizer": {"param_groups": self._optimizer.state_dict()["param_groups"]},
        }

    def load(self, saved: dict[str, Any], folder: Path) -> None:
        """Reads this rank's share of what `save` wrote. Every rank calls it."""
        reader = ShardReader(folder)
        stored = reader.read_metadata().state_dict_metadata
        groups = self._optimizer.state_dict()["param_groups"]
        parameters = [p for group in self._optimizer.param_groups for p in group["params"]]
        by_number = dict(zip((n for g in groups for n in g["params"]), parameters, strict=True))
        tensors = self._modules()
        for key, described in stored.items():
            part, _, rest = key.partition(".")
            if part == "optimizer":
                parameter = by_number[int(rest.partition(".")[0])]
                same = described.size == parameter.shape
                empty = torch.empty(described.size, dtype=described.properties.dtype)
                tensors[key] = torch.zeros_like(parameter.detach()) if same else empty
        # The modules' tensors are filled in place.
        with quiet_if_alone():
            dcp.load(tensors, storage_reader=reader, no_dist=self._world.size == 1)
        state = {"state": optimizer_state(tensors), **saved["optimizer"]}
        self._optimizer.load_state_dict(state)

    def _modules(self) -> dict[str, Tensor]:
        return {
            f"{part}.{name}": tensor
            for part, module in self._parts.items()
            for name, tensor in module.state_dict().items()
        }


def _new_folder(checkpoints: Path, step: int) -> Path:
    """One that is not there yet: the step may have been saved before, and is whole until it is saved anew."""
    number = 0
    while (path := checkpoints / f"step_{step:08d}-{number}.{SHARDS}").exists():
        number += 1
    return path
