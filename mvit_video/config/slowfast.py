"""SlowFast's configs, read as what they say.

facebookresearch/SlowFast spells most things as we do, so most keys pass through.
"""

from __future__ import annotations

from typing import Any

from mvit_video.errors import InputError

Entries = dict[str, tuple[Any, str]]
"""{full key: (value, where it was written)}"""

# Keys of the architecture that have one value here: (value, what another one would mean).
_MODEL_MUST = {
    "MODEL.ARCH": ("mvit", "another architecture"),
    "MODEL.MODEL_NAME": ("MViT", "another architecture"),
    "MVIT.NORM": ("layernorm", "another normalisation"),
    "MVIT.REV.ENABLE": (False, "the reversible MViT"),
    "MVIT.USE_FIXED_SINCOS_POS": (False, "positions that SlowFast itself adds twice"),
    "DETECTION.ENABLE": (False, "a detector"),
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


def model_entries(entries: Entries, known: set[str]) -> Entries:
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
        and value is not None
    }


def _refuse_others(entries: Entries, must: dict[str, tuple[Any, str]]) -> None:
    for name, (wanted, meaning) in must.items():
        value, source = entries.get(name, (wanted, ""))
        if value != wanted:
            raise InputError(f"{source}: {name} is {value!r}, {meaning}; here it is {wanted!r}")
