"""The memory that a training step takes, and the fewest blocks to recompute so that it fits (TRAIN.MEMORY_BUDGET).

Nothing is allocated to know it: a step runs on fake tensors, which have sizes and no numbers, and the bytes alive are
counted after every operation. So it takes seconds to a minute, on any machine, and knows of the tensors kept for the
backward pass, of what autocast adds and of what a recomputed block takes while it is at it. It does not know what
CUDA, its libraries and fragmentation add, nor that compiled blocks keep less.

Blocks are recomputed from the first one on: a block's activations grow with its tokens times their width, its work
with tokens times width squared, so the earlier the stage the more memory is saved for the time it costs.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from fvcore.common.config import CfgNode
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from mvit_video.errors import InputError
from mvit_video.evaluate.scoring import autocast
from mvit_video.models.blocks import blocks_of
from mvit_video.models.cost import shadow
from mvit_video.world import World

GIB = 2**30
_log = logging.getLogger(__name__)


def fit_to_budget(model: nn.Module, cfg: CfgNode, world: World) -> int:
    """Marks the fewest of the model's blocks to be recomputed with which a step fits TRAIN.MEMORY_BUDGET.

    Args:
        model: not yet compiled, sharded or replicated.

    Returns:
        How many are recomputed. The same on every rank.

    Raises:
        InputError: not even all of them are enough.
    """
    clips = clips_per_pass(cfg, world.size)
    state = state_bytes(model, cfg, world.size)
    budget = cfg.TRAIN.MEMORY_BUDGET * GIB

    def peak(recomputed: int) -> int:
        return state + activation_bytes(model, cfg, clips, recomputed)

    number, least = 0, len(blocks_of(model))
    if (smallest := peak(least)) > budget:
        raise InputError(
            f"a training step of {clips} clips takes {smallest / GIB:.3g} GiB on a rank with every block recomputed, "
            f"more than TRAIN.MEMORY_BUDGET {cfg.TRAIN.MEMORY_BUDGET}; lower TRAIN.BATCH_SIZE, raise "
            "SOLVER.ACCUMULATE_STEPS, or spread the batch over more ranks"
        )
    while number < least:  # fewer than `number` are too few, `least` are enough
        middle = (number + least) // 2
        if peak(middle) > budget:
            number = middle + 1
        else:
            least = middle
    recompute_first(model, number)
    _log.info(
        "TRAIN.MEMORY_BUDGET %g GiB: a step of %d clips takes about %.3g GiB, %.3g of them weights, gradients and "
        "optimiser, with %d of %d blocks recomputed%s",
        cfg.TRAIN.MEMORY_BUDGET, clips, peak(number) / GIB, state / GIB, number, len(blocks_of(model)),
        _by_stage(model),
    )  # fmt: skip
    return number


def recompute_first(model: nn.Module, number: int) -> None:
    """Marks the first `number` blocks to be recomputed, and no others."""
    for index, block in enumerate(blocks_of(model)):
        block.recompute = index < number


def clips_per_pass(cfg: CfgNode, ranks: int) -> int:
    """Clips in a forward pass of one rank."""
    return cfg.TRAIN.BATCH_SIZE * cfg.AUG.NUM_SAMPLE // (ranks * cfg.SOLVER.ACCUMULATE_STEPS)


def state_bytes(model: nn.Module, cfg: CfgNode, ranks: int) -> int:
    """Bytes on one rank of weights, gradients, optimiser state and averaged weights, all in float32."""
    weights = sum(p.numel() for p in model.parameters())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    moments = 2 if cfg.SOLVER.OPTIMIZING_METHOD == "adamw" else 1
    numbers = weights * (2 if cfg.SOLVER.EMA_DECAY else 1) + trained * (1 + moments)
    if cfg.TRAIN.FSDP and ranks > 1:
        # Beside its shard a rank has two blocks whole: the one it is at, and the one that is being gathered.
        largest = sorted(sum(p.numel() for p in block.parameters()) for block in blocks_of(model))
        numbers = numbers // ranks + 2 * sum(largest[-2:])
    return 4 * numbers


def activation_bytes(model: nn.Module, cfg: CfgNode, clips: int, recomputed: int) -> int:
    """Most bytes alive in a forward and backward pass of `clips` clips beyond `state_bytes`, clips included.

    Args:
        recomputed: how many blocks are, from the first one on, in place of those that are marked.
    """
    size = (clips, 3, cfg.DATA.NUM_FRAMES, cfg.DATA.TRAIN_CROP_SIZE, cfg.DATA.TRAIN_CROP_SIZE)
    mode = FakeTensorMode()
    with mode:
        fake = shadow(model, lambda tensor: torch.empty(tensor.shape, dtype=tensor.dtype))
        trained = [parameter for parameter in fake.parameters() if parameter.requires_grad]
        for parameter in trained:
            parameter.grad = torch.empty_like(parameter)
    recompute_first(fake.train(), recomputed)
    live = LiveBytes((*fake.parameters(), *fake.buffers(), *(p.grad for p in trained)))
    with mode, live:
        _raw = torch.empty(size, dtype=torch.uint8)  # stays while the pass lasts
        batch = torch.empty(size)
        with autocast(torch.device("cpu"), cfg.TRAIN.PRECISION):
            target = torch.zeros(clips, dtype=torch.int64)
            loss = F.cross_entropy(fake(batch), target)
        loss.backward()
    return live.peak


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of tensors made inside it that are still alive, and the most there were.

    Args:
        before: tensors that are there already. A view of one would look like a new tensor.
    """

    def __init__(self, before: Iterable[Tensor]) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known = WeakIdKeyDictionary((tensor.untyped_storage(), 0) for tensor in before)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())
        return out

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage in self._known:
            return
        self._known[storage] = size = storage.nbytes()
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._free, size)

    def _free(self, size: int) -> None:
        self.now -= size


def _by_stage(model: nn.Module) -> str:
    """ ", stage 0: 2 of 2, ..." of the stages that are recomputed."""
    stages: dict[int, list[bool]] = {}
    for block in blocks_of(model):
        stages.setdefault(block.stage, []).append(block.recompute)
    return "".join(
        f", stage {stage}: {sum(marks)} of {len(marks)}"
        for stage, marks in stages.items()
        if any(marks)
    )
