"""A model over several processes: a copy on each (DDP), or a share of it on each (FSDP2, in `sharded`).

DDP    every rank holds weights, gradients and optimiser state whole; ranks average their gradients.
FSDP2  every rank holds its shard of each tensor (arXiv 2304.11277); a block's weights are gathered while it computes.

Both compute what one process would, but for rounding. What is done to a model has an order: average and evaluation
copies are made of the plain model, then its blocks are compiled, then it is sharded or replicated.
"""

from __future__ import annotations

import copy
import warnings

import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mvit_video.world import World


def replicate(model: nn.Module, world: World) -> nn.Module:
    """`model`, made to average its gradients over ranks.

    DDP lays gradients out in buckets, and after the first backward pass lays them out anew in the order in
    which they came. From three ranks on the layout decides in which order a number is summed, so a resumed run,
    whose first update is another one, would part from the run that was not killed. With find_unused_parameters
    DDP keeps the layout it began with. `static_graph` would lay them out anew, so it is not used.
    """
    if world.size == 1:
        return model
    # A gradient of one token may have odd strides along axes of length 1; it is copied, which costs nothing.
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
    return DistributedDataParallel(
        model,
        device_ids=[world.device] if world.device.type == "cuda" else None,
        find_unused_parameters=True,
        gradient_as_bucket_view=True,
    )


def share_buffers(model: nn.Module) -> None:
    """Rank 0's BatchNorm statistics on every rank, as DDP has them; between ranks that hold shards they differ."""
    for buffer in model.buffers():
        dist.broadcast(buffer, src=0)


def whole_state(model: nn.Module) -> dict[str, Tensor]:
    """A state dict without shards, on every rank. To be called on every rank if the model is sharded."""
    state = model.state_dict()
    if any(_is_sharded(tensor) for tensor in state.values()):
        share_buffers(model)
    return {name: whole(tensor) for name, tensor in state.items()}


def whole(tensor: Tensor) -> Tensor:
    """A tensor of all ranks from its shards. To be called on every rank."""
    return tensor.full_tensor() if _is_sharded(tensor) else tensor


def _is_sharded(tensor: Tensor) -> bool:
    """Is it a DTensor? Importing that class, to ask, takes longer than all of this project."""
    return hasattr(tensor, "full_tensor")


def skeleton(model: nn.Module) -> nn.Module:
    """A copy of a model without numbers, to be given them by `load_state_dict(..., assign=True)`."""
    return copy.deepcopy(model).to("meta")
