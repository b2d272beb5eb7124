"""A checkpoint, whoever wrote it, as tensors under our names and what came with them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from mvit_video.errors import InputError
from mvit_video.weights.dialect import Dialect, State, Translation, translate
from mvit_video.weights.dialects import READERS
from mvit_video.weights.family import FamilyReader
from mvit_video.weights.files import read_file

Source = str | os.PathLike[str] | Mapping[str, Any]

# Where trainers keep the weights: ours, averaged where the run averaged them (those are what it validates and tests);
# SlowFast and facebookresearch/mvit; ours and most others; timm.
_WRAPPERS = ("ema", "model_state", "model", "state_dict")
# What wrapping modules put before every key: DDP, torch.compile, SlowFast's PTVMViT.
_PREFIXES = ("module.", "_orig_mod.", "model.")


@dataclass(frozen=True)
class Checkpoint:
    """Weights under our names.

    Attributes:
        source: path or URL, for messages.
        dialect: whose names the file used.
        reader: how the family that the tensors belong to is read.
        translation: the tensors (`.state`), and what happened to their names on the way.
        config: the YAML text that came along, empty if none did.
        config_spelling: whose keys `config` uses.
        preprocessing: `Preprocessing.to_dict()`, where the file carries it.
        class_names: by class index, empty where the file does not carry them.
        record: the rest of a native file's metadata: the spec, and how it was converted.
    """

    source: str
    dialect: str
    reader: FamilyReader
    translation: Translation
    config: str = ""
    config_spelling: Literal["", "own", "slowfast"] = ""
    preprocessing: dict[str, Any] | None = None
    class_names: tuple[str, ...] = ()
    record: Mapping[str, Any] = field(default_factory=dict)

    @property
    def state(self) -> State:
        """Our names and tensors."""
        return self.translation.state

    @property
    def is_image_model(self) -> bool:
        """True if the first convolution sees one frame: an image checkpoint."""
        stem = self.state.get(self.reader.stem)
        return stem is not None and (stem.ndim == 4 or (stem.ndim == 5 and stem.shape[2] == 1))


def read_checkpoint(source: Source, sha256: str = "") -> Checkpoint:
    """Reads weights from a file, a URL or a mapping, in any dialect there is a table for.

    Args:
        source: path or URL of a SlowFast, torchvision, pytorchvideo, facebookresearch/mvit, safetensors or
            own file, or what such a file holds.
        sha256: checksum of a download, where it is known.

    Raises:
        InputError: the file is missing, damaged, no weight file, wants to run code, holds numbers that are
            not finite, or speaks no known dialect.
    """
    if isinstance(source, Mapping):
        name, saved, metadata = "the state dict", source, {}
    else:
        name = os.fspath(source)
        saved, metadata = read_file(source, sha256)
    tensors = _without_prefixes(_find_tensors(saved, name))
    _refuse_not_finite(tensors, name)
    reader, dialect = _recognise(tensors, name)
    translation = translate(tensors, dialect.rules, name)
    return Checkpoint(name, dialect.name, reader, translation, **_companions(saved, metadata, name))


def _find_tensors(saved: Any, name: str) -> dict[str, Tensor]:
    """The state dict in a saved object, whatever it is wrapped in."""
    if not isinstance(saved, Mapping):
        raise InputError(f"{name} holds a {type(saved).__name__}, not named tensors")
    if saved and all(isinstance(value, Tensor) for value in saved.values()):
        return dict(saved)
    for key in _WRAPPERS:
        inner = saved.get(key)
        if isinstance(inner, Mapping) and inner:
            if any(isinstance(inner.get(wrapper), Mapping) for wrapper in _WRAPPERS):
                return _find_tensors(inner, name)  # wrapped twice, as some fine-tuning code does
            others = sorted(k for k, value in inner.items() if not isinstance(value, Tensor))
            if others:
                raise InputError(f"{name}: under {key!r}, {others[0]!r} is no tensor")
            return dict(inner)
    found = ", ".join(map(str, list(saved)[:8])) or "nothing"
    raise InputError(
        f"{name} holds {found}; a state dict was expected, bare or under {', '.join(_WRAPPERS)}"
    )


def _without_prefixes(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    while prefix := next((p for p in _PREFIXES if all(k.startswith(p) for k in tensors)), ""):
        tensors = {key.removeprefix(prefix): tensor for key, tensor in tensors.items()}
    return tensors


def _refuse_not_finite(tensors: Mapping[str, Tensor], name: str) -> None:
    bad = [
        key
        for key, tensor in tensors.items()
        if tensor.is_floating_point() and not tensor.is_meta and not torch.isfinite(tensor).all()
    ]
    if bad:
        raise InputError(
            f"{name}: {len(bad)} of {len(tensors)} tensors hold NaN or infinite numbers, the first is {bad[0]}; the "
            "training that wrote it had diverged, or the file is damaged"
        )


def _recognise(tensors: Mapping[str, Tensor], name: str) -> tuple[FamilyReader, Dialect]:
    known = [(reader, dialect) for reader in READERS for dialect in reader.dialects]
    found = [(reader, dialect) for reader, dialect in known if dialect.speaks(tensors)]
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(f"{name} mixes the tensors of several naming schemes: {_names(found)}")
    first = ", ".join(list(tensors)[:4])
    raise InputError(
        f"{name} holds {len(tensors)} tensors ({first}, ...) in no naming scheme known here; known are {_names(known)}"
    )


def _names(schemes: list[tuple[FamilyReader, Dialect]]) -> str:
    return ", ".join(f"{reader.name} by {dialect.name}" for reader, dialect in schemes)


def _companions(saved: Mapping[str, Any], metadata: Mapping[str, str], name: str) -> dict[str, Any]:
    """Config, preprocessing, class names and record, from a native file, our trainer's, or SlowFast's."""
    if metadata:
        try:
            record = {key: json.loads(text) for key, text in metadata.items() if key != "config"}
        except ValueError:
            return {}  # somebody else's safetensors
        return _described(metadata.get("config", ""), record)
    if isinstance(saved.get("config"), str):
        return _described(saved["config"], {"preprocessing": saved.get("preprocessing")})
    if isinstance(saved.get("cfg"), str):
        return {"config": saved["cfg"], "config_spelling": "slowfast"}
    return {}


def _described(config: str, record: dict[str, Any]) -> dict[str, Any]:
    preprocessing = record.pop("preprocessing", None)
    names = record.pop("class_names", None) or (preprocessing or {}).get("class_names") or ()
    return {
        "config": config,
        "config_spelling": "own" if config else "",
        "preprocessing": preprocessing,
        "class_names": tuple(names),
        "record": record,
    }
