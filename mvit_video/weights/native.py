"""Our own weight files: safetensors whose metadata makes them enough to predict with.

The metadata holds the family and its spec, the config (YAML, where one is known), the preprocessing,
the class names, and how the weights were made from others (`converted`). Everything but the config is
JSON.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from safetensors.torch import save
from torch import nn

from mvit_video.errors import InputError
from mvit_video.files import atomic_file
from mvit_video.models import REGISTRY

FORMAT = "mvit-video"
VERSION = 1


def save_native(
    model: nn.Module,
    path: str | os.PathLike[str],
    *,
    family: str,
    config: str = "",
    preprocessing: Mapping[str, Any] | None = None,
    class_names: Sequence[str] = (),
    converted: Mapping[str, Any] | None = None,
) -> None:
    """Writes a model's weights with all that is needed to use them.

    Args:
        model: any model of ours; its `spec` goes into the file.
        path: the file; one that exists is replaced once the new one is whole.
        family: its name in `mvit_video.models.REGISTRY`.
        config: YAML text of the config, if there is one.
        preprocessing: `Preprocessing.to_dict()`.
        class_names: by class index.
        converted: where the weights come from and what was done to them.
    """
    record = {
        "format": FORMAT,
        "version": VERSION,
        "family": family,
        "spec": spec_to_dict(model.spec),
        "preprocessing": dict(preprocessing) if preprocessing else None,
        "class_names": list(class_names),
        "converted": dict(converted or {}),
    }
    metadata = {key: json.dumps(value, ensure_ascii=False) for key, value in record.items()}
    tensors = {key: tensor.contiguous() for key, tensor in model.state_dict().items()}
    with atomic_file(path) as file:
        file.write(save(tensors, metadata | {"config": config}))


def spec_to_dict(spec: Any) -> dict[str, Any]:
    """The fields of a spec that made it, without what it works out from them."""
    given = [field.name for field in fields(spec) if field.init]
    values = asdict(spec)
    return {name: values[name] for name in given}


def spec_from_dict(family: str, values: Mapping[str, Any]) -> Any:
    """The spec of `family` that `spec_to_dict` gave `values` of.

    Raises:
        InputError: the values were written by a version whose specs have other fields.
    """
    spec_class = type(next(iter(REGISTRY[family].presets.values())))
    known = {field.name for field in fields(spec_class) if field.init}
    if unknown := sorted(values.keys() - known):
        raise InputError(
            f"the file's spec has fields unknown here: {', '.join(unknown)}; it is newer than this code"
        )
    return spec_class(**{name: _tuples(value) for name, value in values.items()})


def _tuples(value: Any) -> Any:
    """JSON's lists as the tuples they were."""
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
