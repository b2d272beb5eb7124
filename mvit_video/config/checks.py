"""Checks across keys, made before anything is built. Each says what to change."""

from __future__ import annotations

from collections.abc import Callable

from fvcore.common.config import CfgNode

from mvit_video.errors import InputError


def check_config(cfg: CfgNode) -> None:
    """Raises InputError for the first combination that cannot work."""
    for check in _CHECKS:
        check(cfg)


def _positive(cfg: CfgNode) -> None:
    for name in (
        "DATA.NUM_FRAMES",
        "DATA.SAMPLING_RATE",
        "DATA.TARGET_FPS",
        "DATA.TRAIN_CROP_SIZE",
        "DATA.TEST_CROP_SIZE",
        "MODEL.NUM_CLASSES",
        "TRAIN.BATCH_SIZE",
        "TEST.BATCH_SIZE",
        "TEST.NUM_ENSEMBLE_VIEWS",
        "SOLVER.MAX_EPOCH",
        "SOLVER.ACCUMULATE_STEPS",
        "AUG.NUM_SAMPLE",
        "NUM_SHARDS",
        "LOG_PERIOD",
        "TRAIN.CHECKPOINT_PERIOD",
        "TRAIN.KEEP_CHECKPOINTS",
        "DATA_LOADER.PREFETCH_FACTOR",
    ):
        section, _, leaf = name.rpartition(".")
        value = (cfg[section] if section else cfg)[leaf]
        if value <= 0:
            counted = ", counted in videos over all ranks," if leaf == "BATCH_SIZE" else ""
            raise InputError(f"{name} is {value}; it{counted} must be above 0")
    if cfg.DATA.DECODE_TIMEOUT < 0:
        raise InputError(
            f"DATA.DECODE_TIMEOUT is {cfg.DATA.DECODE_TIMEOUT:g} seconds; it must be above 0, or 0 for no limit"
        )
    if cfg.NUM_GPUS == 0 or cfg.NUM_GPUS < -1:
        raise InputError(
            f"NUM_GPUS is {cfg.NUM_GPUS}; use -1 for all visible GPUs (or one CPU process), or a number of processes"
        )


def _crops(cfg: CfgNode) -> None:
    data = cfg.DATA
    if data.TEST_CROP_SIZE > data.TRAIN_CROP_SIZE:
        raise InputError(
            f"DATA.TEST_CROP_SIZE is {data.TEST_CROP_SIZE}, larger than the {data.TRAIN_CROP_SIZE} that the "
            "model is built for (DATA.TRAIN_CROP_SIZE); set both to the larger one: the position "
            "tables of loaded weights are interpolated"
        )
    if len(data.TRAIN_JITTER_SCALES) != 2 or (
        data.TRAIN_JITTER_SCALES[0] > data.TRAIN_JITTER_SCALES[1]
    ):
        raise InputError(
            f"DATA.TRAIN_JITTER_SCALES is {data.TRAIN_JITTER_SCALES}; it takes [least, most] short side in pixels"
        )
    largest_crop = max(
        data.TEST_CROP_SIZE, 0 if data.TRAIN_JITTER_SCALES_RELATIVE else data.TRAIN_CROP_SIZE
    )
    if data.TRAIN_JITTER_SCALES[0] < largest_crop:
        raise InputError(
            f"a crop of {largest_crop} does not fit into frames with a short side of {data.TRAIN_JITTER_SCALES[0]} "
            "(the first of DATA.TRAIN_JITTER_SCALES); raise that or lower the crop size"
        )
    for name in ("TRAIN_JITTER_SCALES_RELATIVE", "TRAIN_JITTER_ASPECT_RELATIVE"):
        pair = data[name]
        if pair and (len(pair) != 2 or not 0 < pair[0] <= pair[1]):
            raise InputError(f"DATA.{name} is {pair}; it takes [least, most], both above 0")


def _channels(cfg: CfgNode) -> None:
    for name in ("MEAN", "STD"):
        if len(cfg.DATA[name]) != 3:
            raise InputError(
                f"DATA.{name} is {cfg.DATA[name]}; it takes three numbers, one per channel"
            )
    if cfg.DATA.INPUT_CHANNEL_NUM != [3]:
        raise InputError(f"DATA.INPUT_CHANNEL_NUM is {cfg.DATA.INPUT_CHANNEL_NUM}; videos have [3]")
    if min(cfg.DATA.STD) <= 0:
        raise InputError(f"DATA.STD is {cfg.DATA.STD}; every value must be above 0")


def _schedule(cfg: CfgNode) -> None:
    solver = cfg.SOLVER
    if solver.WARMUP_EPOCHS > solver.MAX_EPOCH:
        raise InputError(
            f"SOLVER.WARMUP_EPOCHS ({solver.WARMUP_EPOCHS}) is longer than the run, "
            f"SOLVER.MAX_EPOCH ({solver.MAX_EPOCH})"
        )
    if cfg.TRAIN.BATCH_SIZE % solver.ACCUMULATE_STEPS:
        raise InputError(
            f"TRAIN.BATCH_SIZE, {cfg.TRAIN.BATCH_SIZE} videos per update over all ranks, cannot be computed in "
            f"SOLVER.ACCUMULATE_STEPS {solver.ACCUMULATE_STEPS} equal parts; choose a divisor"
        )
    if not 0 <= solver.EMA_DECAY < 1:
        raise InputError(
            f"SOLVER.EMA_DECAY is {solver.EMA_DECAY}; it lies in 0 ... 1, such as 0.9999"
        )
    if solver.EMA_WARMUP < 1:
        raise InputError(f"SOLVER.EMA_WARMUP is {solver.EMA_WARMUP}; it is 1 (none) or above")
    if not 0 <= cfg.MIXUP.LABEL_SMOOTH_VALUE < 1:
        raise InputError(
            f"MIXUP.LABEL_SMOOTH_VALUE is {cfg.MIXUP.LABEL_SMOOTH_VALUE}; it lies in 0 ... 1"
        )


def _sharding(cfg: CfgNode) -> None:
    if cfg.TRAIN.FSDP and cfg.TRAIN.PRECISION == "float16":
        raise InputError(
            "TRAIN.FSDP does not go with TRAIN.PRECISION float16, whose gradient scale ranks would have to agree on; "
            "take bfloat16, which needs none"
        )
    if cfg.TRAIN.FSDP and cfg.SOLVER.OPTIMIZING_METHOD != "adamw":
        raise InputError(
            f"TRAIN.FSDP does not go with SOLVER.OPTIMIZING_METHOD {cfg.SOLVER.OPTIMIZING_METHOD}, whose fused kernel "
            "in torch takes no shards; take adamw, or train copies with TRAIN.MEMORY_BUDGET"
        )


def _memory(cfg: CfgNode) -> None:
    if cfg.TRAIN.MEMORY_BUDGET < 0:
        raise InputError(
            f"TRAIN.MEMORY_BUDGET is {cfg.TRAIN.MEMORY_BUDGET}; it takes GiB per rank, or 0 for no budget"
        )


def _phases(cfg: CfgNode) -> None:
    if not (cfg.TRAIN.ENABLE or cfg.TEST.ENABLE):
        raise InputError("TRAIN.ENABLE and TEST.ENABLE are both False: there is nothing to do")


_CHECKS: tuple[Callable[[CfgNode], None], ...] = (
    _positive,
    _crops,
    _channels,
    _schedule,
    _sharding,
    _memory,
    _phases,
)
