"""Attention rollout (Abnar and Zuidema, arXiv 2005.00928) through MViT's changing grids.

How much of what the head reads comes from which place of the clip? Every token of a block's output is half the token
that skipped the block and half what its attention gathered; the MLPs move nothing. A share is therefore handed back
from the head to the embedding, block by block, and no matrix of tokens by tokens is kept. On the way:

* the query's pool makes one query of several tokens, which the skip around it matches with a max pool: a share goes
  back to the tokens that the maxima were taken from, channel by channel;
* keys and values are pooled: a share goes back to the tokens in the window, in proportion to the mean size of the
  pool's filters there (evenly for max and average pools);
* residual pooling (MViTv2) adds the pooled query to what the attention gathered: half and half again, but for the
  class token, which goes without;
* the class token is no place: what it keeps is left out at the end.

Shares are kept whole: they add up to one on every grid. A grid has places that many windows read whatever the picture
shows, so what is drawn is the share beyond that of a model which attends to everything alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mvit_video.layers.pooling import DepthwiseConv3d
from mvit_video.models.mvit import MultiScaleBlock, MViT
from mvit_video.predict.explain.recording import AttentionCall, recorded

Grid = tuple[int, int, int]


@dataclass(frozen=True)
class Step:
    """What one block did with one clip.

    Attributes:
        block: the block.
        thw: grid of the tokens that went in, after the class token if there is one.
        call: its attention.
        skipped: what its skip connection pooled, (1, T, H, W, C); None where it pools nothing.
    """

    block: MultiScaleBlock
    thw: Grid
    call: AttentionCall
    skipped: Tensor | None

    def back(self, share: Tensor, blind: bool = False) -> Tensor:
        """Shares of the tokens that came out, (N',), as shares of those that went in, (N,).

        `blind` puts an attention to all keys alike in place of the block's own.
        """
        extra, attn = self.block.num_extra, self.block.attn
        gathered, kept = share.clone(), torch.zeros_like(share)
        if attn.residual_pooling:
            gathered[extra:] /= 2
            kept[extra:] = gathered[extra:]
        if blind:
            num_keys = self.call.key.shape[1]
            keys = (gathered.sum() / num_keys).expand(num_keys)
        else:
            keys = self.call.share_of_keys(gathered)
        branch = self._unpool(attn.pool_v, keys) + self._unpool(attn.pool_q, kept)
        return (self._unskip(share) + branch) / 2

    def _unpool(self, pool: nn.Module | None, share: Tensor) -> Tensor:
        """Shares of a pool's outputs, handed back to the tokens in their windows."""
        if pool is None:
            return share
        extra, grid = share.split((self.block.num_extra, len(share) - self.block.num_extra))
        windows = _windows(pool).to(share.device)
        with torch.enable_grad():
            cube = torch.zeros(1, *self.thw, 1, device=share.device, requires_grad=True)
            pooled = windows(cube) / windows(torch.ones_like(cube)).detach()
        (back,) = torch.autograd.grad(pooled, cube, grid.view_as(pooled))
        return torch.cat((extra, back.flatten()))

    def _unskip(self, share: Tensor) -> Tensor:
        """Shares of the skip's outputs, handed back to where its maxima come from."""
        if self.skipped is None:
            return share
        extra, grid = share.split((self.block.num_extra, len(share) - self.block.num_extra))
        with torch.enable_grad():
            cube = self.skipped.detach().requires_grad_()
            pooled = self.block.pool_skip(cube)
        channels = pooled.shape[-1]
        shares = (grid / channels).view(*pooled.shape[:-1], 1).expand_as(pooled)
        (back,) = torch.autograd.grad(pooled, cube, shares)
        return torch.cat((extra, back.sum(dim=-1).flatten()))


def rollout(model: MViT, clip: Tensor) -> Tensor:
    """(T', H', W') on the grid of the embedding: the share that the head reads from each place, beyond a blind model's.

    Args:
        clip: (1, 3, T, H, W), normalised.
    """
    steps = trace(model, clip)
    share = head_share(model, steps)
    seen, blind = roll_back(steps, share), roll_back(steps, share, blind=True)
    extra = int(model.spec.class_token)
    seen, blind = (places[extra:] / places[extra:].sum() for places in (seen, blind))
    return (seen - blind).clamp(min=0).view(steps[0].thw)


@torch.no_grad()
def trace(model: MViT, clip: Tensor) -> list[Step]:
    """What each block of the model does with a clip (1, 3, T, H, W)."""
    grids: dict[nn.Module, Grid] = {}
    skipped: dict[nn.Module, Tensor] = {}
    hooks = []
    for block in model.blocks:
        hooks.append(
            block.register_forward_pre_hook(lambda block, inputs: grids.update({block: inputs[1]}))
        )
        if block.pool_skip is not None:
            hooks.append(
                block.pool_skip.register_forward_pre_hook(
                    lambda pool, inputs: skipped.update({pool: inputs[0]})
                )
            )
    try:
        with recorded(block.attn for block in model.blocks) as calls:
            model(clip)
    finally:
        for hook in hooks:
            hook.remove()
    return [
        Step(block, tuple(grids[block]), *calls[block.attn], skipped.get(block.pool_skip))
        for block in model.blocks
    ]


def head_share(model: MViT, steps: list[Step]) -> Tensor:
    """(N,): the share of each of the last block's tokens in what the head reads."""
    extra = int(model.spec.class_token)
    share = steps[-1].call.query.new_zeros(steps[-1].call.query.shape[1])
    if model.spec.class_token and not model.spec.mean_pooling:
        share[0] = 1.0
    else:
        share[extra:] = 1 / (len(share) - extra)
    return share


@torch.no_grad()
def roll_back(steps: list[Step], share: Tensor, blind: bool = False) -> Tensor:
    """Shares of the last block's tokens as shares of the embedding's, both adding up to the same."""
    for step in reversed(steps):
        share = step.back(share, blind)
    return share


def _windows(pool: nn.Module) -> DepthwiseConv3d:
    """A pool as one filter without sign, for shares to go through."""
    if not isinstance(pool, DepthwiseConv3d):
        windows = DepthwiseConv3d(1, pool.kernel, pool.stride)
        nn.init.ones_(windows.weight)
        return windows
    windows = DepthwiseConv3d(1, pool.kernel, pool.stride, pool.temporal_padding)
    with torch.no_grad():
        windows.weight.copy_(pool.weight.abs().mean(dim=0, keepdim=True))
    return windows
