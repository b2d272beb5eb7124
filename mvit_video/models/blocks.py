"""The blocks that a model is made of: the units that are recomputed, compiled, and sharded over GPUs.

A model calls its blocks and knows nothing of this. What is done to them is decided outside: memory is saved by
`recompute`, time by `compile_blocks`, and `train.sharded` spreads them over GPUs. None of it changes a name in the
state dict.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from mvit_video.layers.recomputed import forgetting

_GRAPHS = 32  # of a block, at most


class Block(nn.Module):
    """A unit of a model, called with tensors whose first axis is the batch, and with what describes them.

    Attributes:
        stage: the model's stage that it belongs to, from 0.
        recompute: its activations are not kept for the backward pass but computed again there.
        compiled: the compiler decides which of them are kept.
    """

    stage = 0
    recompute = compiled = False

    def __call__(self, *inputs: Any) -> Any:
        if not torch.is_grad_enabled() or torch.compiler.is_compiling():
            return super().__call__(*inputs)
        if not self.recompute:
            with nullcontext() if self.compiled else forgetting():
                return super().__call__(*inputs)
        return checkpoint(
            super().__call__,
            *inputs,
            use_reentrant=False,
            context_fn=lambda: (nullcontext(), _statistics_held(self)),
        )


def blocks_of(model: nn.Module) -> list[Block]:
    """A model's blocks, in the order they were made, which is that of the forward pass."""
    return [module for module in model.modules() if isinstance(module, Block)]


def recompute(model: nn.Module, stages: Collection[int] | None = None) -> None:
    """Marks the blocks of some stages, or all, to be recomputed in the backward pass."""
    for block in blocks_of(model):
        block.recompute = stages is None or block.stage in stages


@contextmanager
def _statistics_held(block: nn.Module) -> Iterator[None]:
    """BatchNorm computes what it did, but counts no batch a second time."""
    norms = [module for module in block.modules() if isinstance(module, _BatchNorm)]
    before = [(norm.momentum, norm.num_batches_tracked.clone()) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, (momentum, batches) in zip(norms, before, strict=True):
            norm.momentum = momentum
            norm.num_batches_tracked.copy_(batches)


def compile_blocks(model: nn.Module, backend: str = "inductor") -> None:
    """Compiles the forward pass of every block, each in one graph, once for any batch size above 1.

    What is between the blocks, and the choice to recompute one, stays outside of the graphs. Copies of a compiled
    model would run the original's blocks: copy first.
    """
    blocks = blocks_of(model)
    # All blocks of a kind share the code of their class, also those of the averaged model, and each is compiled for
    # training and evaluation, one clip and several, each precision. torch takes as many for a mistake.
    config = torch._dynamo.config
    config.recompile_limit = max(config.recompile_limit, _GRAPHS * len(blocks))
    config.accumulated_recompile_limit = max(
        config.accumulated_recompile_limit, _GRAPHS * len(blocks)
    )
    for block in blocks:
        block.compiled = True
        block.register_forward_pre_hook(_leave_batch_free)
        # Not dynamic: blocks share the code of their class, and torch would take the grids and widths that differ from
        # one block to the next for sizes that vary, which makes slower kernels, and on CPU none at all for some.
        block.forward = torch.compile(block.forward, fullgraph=True, dynamic=False, backend=backend)


def _leave_batch_free(_: nn.Module, inputs: tuple[Any, ...]) -> None:
    for x in inputs:
        if isinstance(x, Tensor) and x.shape[0] > 1:  # a batch of 1 is always a case of its own
            torch._dynamo.mark_dynamic(x, 0)
