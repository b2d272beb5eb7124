"""SlowFast's configs, read as what they say.

facebookresearch/SlowFast spells most things as we do, so most keys pass through. The rest is here: keys
without meaning in this project, keys that have one value here, keys that are counted otherwise, and what
SlowFast means by a key that a file leaves out.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from mvit_video.errors import InputError

Entries = dict[str, tuple[Any, str]]
"""{full key: (value, where it was written)}"""

# Keys that have one value here: (values that mean the same here, what another would mean).
_MODEL_MUST: dict[str, tuple[tuple[Any, ...], str]] = {
    "MODEL.ARCH": (("mvit",), "another architecture"),
    "MODEL.MODEL_NAME": (("MViT",), "another architecture"),
    "MODEL.HEAD_ACT": (("softmax",), "scores that are no probabilities"),
    "MVIT.NORM": (("layernorm",), "another normalisation"),
    "MVIT.REV.ENABLE": ((False,), "the reversible MViT"),
    "MVIT.USE_FIXED_SINCOS_POS": ((False,), "fixed positions, which SlowFast adds twice"),
    "DETECTION.ENABLE": ((False,), "a detector"),
}
_RUN_MUST = _MODEL_MUST | {
    "TASK": (("", "ssl_eval"), "self-supervised pre-training"),
    "MODEL.LOSS_FUNC": (("cross_entropy", "soft_cross_entropy"), "another loss"),
    "SOLVER.LR_POLICY": (("cosine",), "another schedule"),
    "SOLVER.DAMPENING": ((0, 0.0), "dampened momentum"),
    "SOLVER.LARS_ON": ((False,), "another optimiser"),
    "SOLVER.CLIP_GRAD_VAL": ((), "clipping every gradient for itself"),
    "TRAIN.CHECKPOINT_TYPE": (("pytorch",), "Caffe2 weights"),
    "TEST.CHECKPOINT_TYPE": (("pytorch",), "Caffe2 weights"),
    "TRAIN.CHECKPOINT_CLEAR_NAME_PATTERN": (([], "()"), "weights under other names"),
    "DATA.MULTI_LABEL": ((False,), "several labels per video"),
    "DATA.PATH_LABEL_SEPARATOR": ((" ", ","), "another kind of list"),
    "DATA.TRAIN_JITTER_MOTION_SHIFT": ((False,), "an augmentation unknown here"),
    "DATA.TRAIN_JITTER_FPS": ((0, 0.0), "an augmentation unknown here"),
    "DATA.TRAIN_CROP_NUM_TEMPORAL": ((1,), "several clips of a video"),
    "DATA.USE_OFFSET_SAMPLING": ((True,), "test clips that never reach a video's end"),
    "DATA.SSL_COLOR_JITTER": ((False,), "an augmentation unknown here"),
    "DATA.COLOR_RND_GRAYSCALE": ((0, 0.0), "an augmentation unknown here"),
    "DATA.TIME_DIFF_PROB": ((0, 0.0), "an augmentation unknown here"),
    "MULTIGRID.SHORT_CYCLE": ((False,), "multigrid training"),
    "MULTIGRID.LONG_CYCLE": ((False,), "multigrid training"),
    "MASK.ENABLE": ((False,), "masked pre-training"),
}

# Keys without meaning here: other models, other tasks, switches of things that are always on or that
# SlowFast itself never reads. NUM_SHARDS is one: its command line overwrites the file's value.
_NO_MEANING = re.compile(
    r"(BN|RESNET|X3D|NONLOCAL|SLOWFAST|AVA|DEMO|BENCHMARK|PREFETCH|VIS_MASK|CONTRASTIVE|MASK|MULTIGRID"
    r"|DETECTION|ASYNC|MVIT\.REV)\..*"
    r"|TENSORBOARD\.(?!ENABLE).*"
    r"|TASK|NUM_SHARDS|SHARD_ID|DIST_BACKEND|LOG_MODEL_INFO"
    r"|MODEL\.(ARCH|LOSS_FUNC|HEAD_ACT|SINGLE_PATHWAY_ARCH|MULTI_PATHWAY_ARCH|DROPCONNECT_RATE|FC_INIT_STD"
    r"|FP16_ALLREDUCE|FROZEN_BN|DETACH_FINAL_FC)"
    r"|MVIT\.(NORM|PATCH_2D|LAYER_SCALE_INIT_VALUE|USE_FIXED_SINCOS_POS)"
    r"|DATA\.(DECODING_BACKEND|DECODING_SHORT_SIZE|USE_OFFSET_SAMPLING|MULTI_LABEL|PATH_LABEL_SEPARATOR"
    r"|PATH_TO_PRELOAD_IMDB|LOADER_CHUNK_SIZE|LOADER_CHUNK_OVERALL_SIZE|SKIP_ROWS|DUMMY_LOAD|IN22K_TRAINVAL"
    r"|IN22k_VAL_IN1K|IN_VAL_CROP_RATIO|IN1K_VAL_CROP_RATIO|TRAIN_PCA_EIGVAL|TRAIN_PCA_EIGVEC|TRAIN_JITTER_MOTION_SHIFT"
    r"|TRAIN_JITTER_FPS|TRAIN_CROP_NUM_TEMPORAL|TRAIN_CROP_NUM_SPATIAL|SSL_COLOR_JITTER|COLOR_RND_GRAYSCALE"
    r"|SSL_COLOR_BRI_CON_SAT|SSL_COLOR_HUE|SSL_MOCOV2_AUG|SSL_BLUR_SIGMA_MIN|SSL_BLUR_SIGMA_MAX|TIME_DIFF_PROB)"
    r"|AUG\.(RE_SPLIT|GEN_MASK_LOADER|MASK_.*|MAX_MASK_.*)"
    r"|SOLVER\.(LR_POLICY|GAMMA|STEP_SIZE|STEPS|LRS|WARMUP_FACTOR|DAMPENING|LARS_ON|CLIP_GRAD_VAL"
    r"|BASE_LR_SCALE_NUM_SHARDS)"
    r"|TRAIN\.(CHECKPOINT_TYPE|CHECKPOINT_INFLATE|CHECKPOINT_IN_INIT|CHECKPOINT_EPOCH_RESET"
    r"|CHECKPOINT_CLEAR_NAME_PATTERN|KILL_LOSS_EXPLOSION_FACTOR|MIXED_PRECISION)"
    r"|TEST\.(CHECKPOINT_TYPE|SAVE_RESULTS_PATH|NUM_TEMPORAL_CLIPS)"
    r"|DATA_LOADER\.ENABLE_MULTI_THREAD_DECODE"
)

# What SlowFast means by keys that a file leaves out, where we mean something else.
_DEFAULTS: dict[str, Any] = {
    "RNG_SEED": 1,
    "OUTPUT_DIR": "./tmp",
    "DATA.NUM_FRAMES": 8,
    "DATA.SAMPLING_RATE": 8,
    "DATA.TEST_CROP_SIZE": 256,
    "MVIT.ZERO_DECAY_POS_CLS": True,
    "AUG.AA_TYPE": "rand-m9-mstd0.5-inc1",
    "MIXUP.LABEL_SMOOTH_VALUE": 0.1,
    "SOLVER.OPTIMIZING_METHOD": "sgd",
    "SOLVER.WARMUP_START_LR": 0.01,
    "SOLVER.COSINE_AFTER_WARMUP": False,
    "SOLVER.MAX_EPOCH": 300,
    "SOLVER.WEIGHT_DECAY": 1e-4,
    "SOLVER.ZERO_WD_1D_PARAM": False,
    "TRAIN.BATCH_SIZE": 64,
    "TRAIN.EVAL_PERIOD": 10,
    "TRAIN.CHECKPOINT_PERIOD": 10,
    "TEST.NUM_ENSEMBLE_VIEWS": 10,
    "TEST.NUM_SPATIAL_CROPS": 3,
}

_USED_WITH_THE_MODEL = {
    "MODEL.NUM_CLASSES",
    "MODEL.DROPOUT_RATE",
    "DATA.NUM_FRAMES",
    "DATA.SAMPLING_RATE",
    "DATA.TARGET_FPS",
    "DATA.TRAIN_JITTER_SCALES",
    "DATA.TRAIN_CROP_SIZE",
    "DATA.TEST_CROP_SIZE",
    "DATA.INPUT_CHANNEL_NUM",
    "DATA.MEAN",
    "DATA.STD",
}


@dataclass(frozen=True)
class Reading:
    """A file's entries in our keys, and what a person should know of the way there, one line each."""

    entries: Entries
    notes: tuple[str, ...] = ()


def is_slowfast(entries: Collection[str], known: Collection[str]) -> bool:
    """True for a file with keys that only SlowFast has."""
    return any(name not in known and _NO_MEANING.fullmatch(name) for name in entries)


def read_slowfast(entries: Entries, known: Collection[str]) -> Reading:
    """What a SlowFast file says, in our keys.

    Args:
        entries: the file's.
        known: our keys. A key that neither project knows stays, to be refused with the nearest known one.

    Raises:
        InputError: a key would change the result and cannot be honoured.
    """
    _refuse_others(entries, _RUN_MUST)
    ours = {
        name: (value, source)
        for name, (value, source) in entries.items()
        if not _is_none(value) and (name in known or not _NO_MEANING.fullmatch(name))
        if name != "NUM_SHARDS"
    }
    unread = sorted(set(entries) - set(ours) - _READ_BELOW)
    for name, value in _DEFAULTS.items():
        ours.setdefault(name, (value, "SlowFast's default"))
    notes = [f"keys of SlowFast without meaning here: {', '.join(unread)}"] if unread else []
    for read in (_images, _rates, _processes, _views, _precision, _smoothing, _channels):
        notes += read(entries, ours)
    return Reading(ours, tuple(notes))


# Keys that have no meaning as they stand, and are turned into others.
_READ_BELOW = {
    "TRAIN.MIXED_PRECISION",
    "TEST.NUM_TEMPORAL_CLIPS",
    "SOLVER.BASE_LR_SCALE_NUM_SHARDS",
    "AUG.COLOR_JITTER",
}


def reference_batch(entries: Entries) -> Reading:
    """`entries` with the clips per update that their learning rates are stated for.

    A file that states BASE_LR and not for how many clips follows SlowFast's convention: for the clips of
    one node, TRAIN.BATCH_SIZE x AUG.NUM_SAMPLE.
    """
    videos, samples = (
        entries.get(name, (default, ""))[0]
        for name, default in (("TRAIN.BATCH_SIZE", 16), ("AUG.NUM_SAMPLE", 1))
    )
    rate, source = entries["SOLVER.BASE_LR"]
    clips = videos * samples if isinstance(videos, int) and isinstance(samples, int) else 0
    note = (
        f"SOLVER.BASE_LR {rate} stands without SOLVER.REFERENCE_BATCH_SIZE, so it is read as SlowFast's, stated for "
        f"one node: TRAIN.BATCH_SIZE {videos} x AUG.NUM_SAMPLE {samples} clips, SOLVER.REFERENCE_BATCH_SIZE {clips}; "
        "it follows the clips per update of this run"
    )
    return Reading(entries | {"SOLVER.REFERENCE_BATCH_SIZE": (clips, source)}, (note,))


def _rates(entries: Entries, ours: Entries) -> list[str]:
    if "SOLVER.BASE_LR" not in entries:
        ours["SOLVER.BASE_LR"] = (0.1, "SlowFast's default")
        ours["SOLVER.REFERENCE_BATCH_SIZE"] = (0, "SlowFast's default")
        return []
    if not entries.get("SOLVER.BASE_LR_SCALE_NUM_SHARDS", (True, ""))[0]:
        ours["SOLVER.REFERENCE_BATCH_SIZE"] = (0, "SOLVER.BASE_LR_SCALE_NUM_SHARDS False")
        return ["SOLVER.BASE_LR_SCALE_NUM_SHARDS False: learning rates are used as they stand"]
    reading = reference_batch(ours)
    ours.update(reading.entries)
    return list(reading.notes)


def _images(entries: Entries, ours: Entries) -> list[str]:
    """SlowFast's ImageNet loader cuts Inception crops whatever the file says."""
    if ours.get("TRAIN.DATASET", ("", ""))[0] == "imagenet":
        ours["DATA.TRAIN_JITTER_SCALES_RELATIVE"] = ([0.08, 1.0], "SlowFast's ImageNet loader")
        ours["DATA.TRAIN_JITTER_ASPECT_RELATIVE"] = ([0.75, 1.3333], "SlowFast's ImageNet loader")
    return []


def _processes(entries: Entries, ours: Entries) -> list[str]:
    """The file's GPUs are those of the machine it was written on."""
    count, _ = ours.pop("NUM_GPUS", (1, ""))
    return [f"NUM_GPUS {count} is read as -1, all GPUs of this machine"] if count != 1 else []


def _views(entries: Entries, ours: Entries) -> list[str]:
    """A list of numbers of clips is one test with the largest; a batch counts videos, not views."""
    notes = []
    clips, source = entries.get("TEST.NUM_TEMPORAL_CLIPS", ([], ""))
    if clips:
        ours["TEST.NUM_ENSEMBLE_VIEWS"] = (max(clips), source)
        notes = [
            f"TEST.NUM_TEMPORAL_CLIPS {clips} is one test of {max(clips)} views, which also gives the score of fewer"
        ]
    if "TEST.BATCH_SIZE" in ours:
        views = ours["TEST.NUM_ENSEMBLE_VIEWS"][0] * ours["TEST.NUM_SPATIAL_CROPS"][0]
        clips, source = ours["TEST.BATCH_SIZE"]
        ours["TEST.BATCH_SIZE"] = (max(1, clips // views), source)
        notes.append(
            f"TEST.BATCH_SIZE {clips} clips are {max(1, clips // views)} videos of {views} views a step, over all ranks"
        )
    return notes


def _precision(entries: Entries, ours: Entries) -> list[str]:
    mixed, source = entries.get("TRAIN.MIXED_PRECISION", (False, ""))
    if mixed:
        ours["TRAIN.PRECISION"] = ("float16", source)
    return ["TRAIN.MIXED_PRECISION True: TRAIN.PRECISION float16"] if mixed else []


def _smoothing(entries: Entries, ours: Entries) -> list[str]:
    """SlowFast smooths labels where it mixes them, and nowhere else."""
    if not entries.get("MIXUP.ENABLE", (False, ""))[0]:
        ours["MIXUP.LABEL_SMOOTH_VALUE"] = (0.0, "MIXUP.ENABLE False")
    if _is_none(entries.get("AUG.COLOR_JITTER", (0.4, ""))[0]):
        ours["AUG.COLOR_JITTER"] = (0.0, entries["AUG.COLOR_JITTER"][1])
    return []


def _channels(entries: Entries, ours: Entries) -> list[str]:
    """SlowFast reads SSv2's frames as BGR and normalises them as such; reversing then makes them RGB.

    So its statistics meet the channels in reverse, and REVERSE_INPUT_CHANNEL means the opposite of what
    it means for Kinetics.
    """
    if str(ours.get("TRAIN.DATASET", ours.get("TEST.DATASET", ("", "")))[0]).lower() != "ssv2":
        return []
    reverse, source = ours.get("DATA.REVERSE_INPUT_CHANNEL", (False, "SlowFast's default"))
    ours["DATA.REVERSE_INPUT_CHANNEL"] = (not reverse, source)
    if not reverse:
        return ["SSv2 without DATA.REVERSE_INPUT_CHANNEL: the model is fed BGR"]
    for name in ("DATA.MEAN", "DATA.STD"):
        if name in ours:
            values, source = ours[name]
            ours[name] = (list(values)[::-1], source)
    return ["SSv2 with DATA.REVERSE_INPUT_CHANNEL: the model is fed RGB, MEAN and STD are reversed"]


def model_entries(entries: Entries, known: Collection[str]) -> Entries:
    """What using the model takes, from the config that SlowFast stores in a checkpoint.

    Args:
        entries: all of it; SlowFast stores every key, defaults included.
        known: our keys.

    Raises:
        InputError: the config is of a model that is not built here.
    """
    _refuse_others(entries, _MODEL_MUST)
    return {
        name: (value, source)
        for name, (value, source) in entries.items()
        if name in known
        and (name.startswith("MVIT.") or name in _USED_WITH_THE_MODEL)
        and not _is_none(value)
    }


def _is_none(value: Any) -> bool:
    return value is None or value == "None"


def _refuse_others(entries: Entries, must: dict[str, tuple[tuple[Any, ...], str]]) -> None:
    for name, (allowed, meaning) in must.items():
        value, source = entries.get(name, (None, ""))
        if not _is_none(value) and value not in allowed:
            instead = f"; here it is {allowed[0]!r}" if allowed else "; leave it out"
            raise InputError(f"{source}: {name} is {value!r}, {meaning}{instead}")
