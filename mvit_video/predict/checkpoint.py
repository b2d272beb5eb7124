"""All that it takes to recognise, from one weight file: the model, what it wants to be fed, and how it was tested."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from fvcore.common.config import CfgNode
from torch import nn

from mvit_video.config import load_config
from mvit_video.data.preprocessing import Preprocessing
from mvit_video.errors import InputError
from mvit_video.resources import read_class_names
from mvit_video.weights import Checkpoint, model_from_checkpoint, read_checkpoint
from mvit_video.weights.architecture import embedded_config
from mvit_video.weights.download import is_url
from mvit_video.weights.zoo import ZOO, Published, weights_url


@dataclass(frozen=True)
class TestSettings:
    """How a model is tested, and so how it predicts where nothing else is said.

    Attributes:
        clips, crops: views of a video, in time and in space.
        precision: number format of the forward pass, "float32", "bfloat16" or "float16".
        ensemble: how views are combined, "sum" or "max".
        reader: name of the video reader.
        cuda_graphs: on a GPU, forward passes are recorded and replayed.
    """

    __test__ = False  # not a test case, whatever pytest thinks of its name

    clips: int = 1
    crops: int = 1
    precision: str = "float32"
    ensemble: str = "sum"
    reader: str = "auto"
    cuda_graphs: bool = False

    @classmethod
    def from_config(cls, cfg: CfgNode) -> TestSettings:
        """Those of a config."""
        test = cfg.TEST
        return cls(
            test.NUM_ENSEMBLE_VIEWS,
            test.NUM_SPATIAL_CROPS,
            test.PRECISION,
            cfg.DATA.ENSEMBLE_METHOD,
            cfg.DATA.READER,
            test.CUDA_GRAPHS,
        )


@dataclass(frozen=True)
class Recognition:
    """What a recognizer is made of; the model is in eval mode, on the CPU."""

    model: nn.Module
    preprocessing: Preprocessing
    settings: TestSettings


def load_recognition(
    source: str | os.PathLike[str], config: str = "", class_names: str = ""
) -> Recognition:
    """Reads a weight file, and finds out how its model is used.

    The first of these says it: `config`, the preprocessing stored in the file, the config stored in it, and for the
    files of the model zoo (known by their names) the config that this project ships for them.

    Args:
        source: a path, a URL, or the name of a preset whose weights are public, such as "MVITv2_S_16x4".
        config: the model's config, a YAML file or the name of a shipped one.
        class_names: the name of a shipped list of classes, or a file with one name a line.

    Raises:
        InputError: the file cannot be used (mvit_video/weights), or nothing says how.
    """
    source = _find(os.fspath(source))
    checkpoint = read_checkpoint(source)
    official = next((entry for entry in ZOO if _is_file_of(entry, source)), None)
    told = load_config(config) if config else None
    known = told or _stored_config(checkpoint) or _shipped_config(official)
    preprocessing = _preprocessing(checkpoint, told, known)
    if preprocessing is None:
        raise InputError(
            f"{source} does not say how its model is fed (no preprocessing, no config): give the config it was trained "
            "with (config=..., --cfg configs/...), or convert it once with tools/convert_weights.py --cfg ... "
            "--class-names ..."
        )
    model = model_from_checkpoint(checkpoint, config=told)
    names = _class_names(class_names, checkpoint, preprocessing, official)
    if names and len(names) != model.spec.num_classes:
        raise InputError(
            f"{source} tells {model.spec.num_classes} classes apart, but there are {len(names)} class names"
        )
    settings = TestSettings.from_config(known) if known else TestSettings()
    return Recognition(model, replace(preprocessing, class_names=names), settings)


def _find(source: str) -> str:
    """A path or URL; a preset's name is replaced by the address of its weights."""
    if is_url(source) or "://" in source or Path(source).exists():
        return source
    if url := weights_url(source):
        return url
    public = sorted({entry.preset for entry in ZOO if entry.url})
    raise InputError(
        f"checkpoint {source}: there is no such file, and no public weights of that name; those with are "
        + ", ".join(public)
    )


def _is_file_of(entry: Published, source: str) -> bool:
    return bool(entry.url) and os.path.basename(entry.url) == os.path.basename(source)


def _stored_config(checkpoint: Checkpoint) -> CfgNode | None:
    """The config in the file, without the folders of the machine it was trained on."""
    config = embedded_config(checkpoint)
    if config is None:
        return None
    config = config.clone()
    config.defrost()
    config.DATA.PATH_TO_DATA_DIR = ""
    return config


def _shipped_config(official: Published | None) -> CfgNode | None:
    return load_config(official.config) if official and official.config else None


def _preprocessing(
    checkpoint: Checkpoint, told: CfgNode | None, known: CfgNode | None
) -> Preprocessing | None:
    if told is None and checkpoint.preprocessing is not None:
        return Preprocessing.from_dict(checkpoint.preprocessing)
    return Preprocessing.from_config(known) if known else None


def _class_names(
    given: str,
    checkpoint: Checkpoint,
    preprocessing: Preprocessing,
    official: Published | None,
) -> tuple[str, ...]:
    if given:
        return read_class_names(given)
    names = checkpoint.class_names or preprocessing.class_names
    if not names and official and (config := _shipped_config(official)):
        names = Preprocessing.from_config(config).class_names
    return names
