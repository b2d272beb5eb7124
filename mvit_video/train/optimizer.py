"""Optimisers, and which parameters they decay.

Weight decay as in the published recipe (SlowFast's slowfast/models/optimizer.py): biases and one-dimensional
parameters (norms) are not decayed, position tables and the class token are, unless MVIT.ZERO_DECAY_POS_CLS says
otherwise.
"""

from __future__ import annotations

from typing import Any

import torch
from fvcore.common.config import CfgNode
from torch import nn

from mvit_video.errors import InputError

_POSITION_NAMES = ("cls_token", "pos_embed", "rel_pos")


def parameter_groups(
    model: nn.Module,
    weight_decay: float,
    decay_1d: bool = False,
    decay_positions: bool = True,
    layer_decay: float = 1.0,
) -> list[dict[str, Any]]:
    """Every trainable parameter of `model` in exactly one group, in the order of `named_parameters`.

    Args:
        model: the bare model, not wrapped.
        weight_decay: of the parameters that are decayed.
        decay_1d: decay biases and one-dimensional parameters too.
        decay_positions: decay position tables and the class token.
        layer_decay: factor on the learning rate from each block to the one before it (BEiT, arXiv 2106.08254).

    Returns:
        Groups of `params`, `weight_decay` and `lr_scale`: those of the head first, the decayed ones before the others.
    """
    depth = _depth(model) if layer_decay != 1 else 0
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        leaf = name.rpartition(".")[2]
        is_1d = parameter.ndim == 1 or leaf == "bias"
        is_position = leaf.startswith(_POSITION_NAMES)
        spared = (is_1d and not decay_1d) or (is_position and not decay_positions)
        scale = layer_decay ** (depth + 1 - _layer(name, depth)) if depth else 1.0
        groups.setdefault((scale, spared), []).append(parameter)
    return [
        {"params": params, "weight_decay": 0.0 if spared else weight_decay, "lr_scale": scale}
        for (scale, spared), params in sorted(groups.items(), key=lambda g: (-g[0][0], g[0][1]))
    ]


def _depth(model: nn.Module) -> int:
    blocks = getattr(model, "blocks", None)
    if blocks is None:
        raise InputError(
            f"SOLVER.LAYER_DECAY counts blocks one after the other, which {type(model).__name__} has not; set it to 1.0"
        )
    return len(blocks)


def _layer(name: str, depth: int) -> int:
    """0 for what comes before the blocks, i + 1 for block i, depth + 1 for what comes after them."""
    first, *rest = name.split(".")
    if first == "blocks":
        return int(rest[0]) + 1
    return 0 if first.startswith((*_POSITION_NAMES, "patch_embed")) else depth + 1


def build_optimizer(model: nn.Module, cfg: CfgNode) -> torch.optim.Optimizer:
    """The optimiser of SOLVER over `model`. Its learning rate is set anew before every step (schedule.py)."""
    solver = cfg.SOLVER
    groups = parameter_groups(
        model,
        solver.WEIGHT_DECAY,
        decay_1d=not solver.ZERO_WD_1D_PARAM,
        decay_positions=not cfg.MVIT.ZERO_DECAY_POS_CLS,
        layer_decay=solver.LAYER_DECAY,
    )
    if solver.OPTIMIZING_METHOD == "adamw":
        return torch.optim.AdamW(groups, solver.BASE_LR, betas=tuple(solver.BETAS), fused=True)
    sgd = torch.optim.SGD(
        groups,
        solver.BASE_LR,
        momentum=solver.MOMENTUM,
        nesterov=solver.NESTEROV and solver.MOMENTUM > 0,  # torch refuses Nesterov without momentum
        fused=True,
    )
    if solver.MOMENTUM:
        # torch makes the buffers in the first step and leaves them unwritten if that one is skipped. Zeros do the same.
        for parameter in (p for group in sgd.param_groups for p in group["params"]):
            sgd.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return sgd
