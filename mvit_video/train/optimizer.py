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

_POSITION_NAMES = ("cls_token", "pos_embed", "rel_pos")


def parameter_groups(
    model: nn.Module, weight_decay: float, decay_1d: bool = False, decay_positions: bool = True
) -> list[dict[str, Any]]:
    """Every trainable parameter of `model` in exactly one group, in the order of `named_parameters`.

    Args:
        model: the bare model, not wrapped.
        weight_decay: of the parameters that are decayed.
        decay_1d: decay biases and one-dimensional parameters too.
        decay_positions: decay position tables and the class token.

    Returns:
        One or two groups, the decayed one first, each with its `params` and `weight_decay`.
    """
    decayed, kept = [], []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        leaf = name.rpartition(".")[2]
        is_1d = parameter.ndim == 1 or leaf == "bias"
        is_position = leaf.startswith(_POSITION_NAMES)
        spared = (is_1d and not decay_1d) or (is_position and not decay_positions)
        (kept if spared else decayed).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": kept, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def build_optimizer(model: nn.Module, cfg: CfgNode) -> torch.optim.Optimizer:
    """The optimiser of SOLVER over `model`. Its learning rate is set anew before every step (schedule.py)."""
    solver = cfg.SOLVER
    groups = parameter_groups(
        model,
        solver.WEIGHT_DECAY,
        decay_1d=not solver.ZERO_WD_1D_PARAM,
        decay_positions=not cfg.MVIT.ZERO_DECAY_POS_CLS,
    )
    if solver.OPTIMIZING_METHOD == "adamw":
        return torch.optim.AdamW(groups, solver.BASE_LR, betas=tuple(solver.BETAS), fused=True)
    return torch.optim.SGD(
        groups,
        solver.BASE_LR,
        momentum=solver.MOMENTUM,
        nesterov=solver.NESTEROV and solver.MOMENTUM > 0,  # torch refuses Nesterov without momentum
        fused=True,
    )
