"""The learning rate: linear warm-up, then half a cosine, as a function of the fractional epoch.

The values are SlowFast's (slowfast/utils/lr_policy.py); the parts are fvcore's parameter schedulers. Nothing
here has a state: a resumed run needs to know its position only.
"""

from __future__ import annotations

from collections.abc import Callable

from fvcore.common.config import CfgNode
from fvcore.common.param_scheduler import (
    CompositeParamScheduler,
    CosineParamScheduler,
    LinearParamScheduler,
)


def learning_rate_scale(cfg: CfgNode) -> float:
    """Factor on the config's learning rates: clips per update over SOLVER.REFERENCE_BATCH_SIZE, or its square root.

    Clips per update are TRAIN.BATCH_SIZE videos x AUG.NUM_SAMPLE, over all ranks and micro-batches.
    """
    if not cfg.SOLVER.REFERENCE_BATCH_SIZE:
        return 1.0
    ratio = cfg.TRAIN.BATCH_SIZE * cfg.AUG.NUM_SAMPLE / cfg.SOLVER.REFERENCE_BATCH_SIZE
    return ratio if cfg.SOLVER.LR_SCALING == "linear" else ratio**0.5


def build_schedule(cfg: CfgNode) -> Callable[[float], float]:
    """The learning rate at a fractional epoch, 0 <= epoch < SOLVER.MAX_EPOCH."""
    solver, scale = cfg.SOLVER, learning_rate_scale(cfg)
    length, warmup = solver.MAX_EPOCH, solver.WARMUP_EPOCHS
    base, start, end = (
        rate * scale for rate in (solver.BASE_LR, solver.WARMUP_START_LR, solver.COSINE_END_LR)
    )
    cosine = CosineParamScheduler(base, end)
    if not warmup:
        return lambda epoch: cosine(epoch / length)
    # The warm-up ends on the cosine: at its top if it begins there, else where it has come to meanwhile.
    share = warmup / length
    top = base if solver.COSINE_AFTER_WARMUP else cosine(share)
    linear = LinearParamScheduler(start, top)
    if share == 1:
        return lambda epoch: linear(epoch / length)
    schedule = CompositeParamScheduler(
        [linear, cosine],
        lengths=[share, 1 - share],
        interval_scaling=["rescaled", "rescaled" if solver.COSINE_AFTER_WARMUP else "fixed"],
    )
    return lambda epoch: schedule(epoch / length)
