"""Checkpoints that many processes wrote together, each its shard of every tensor.

A sharded checkpoint is a small torch file and, beside it, a folder of torch.distributed.checkpoint (DCP). The file
holds all that is no tensor, and under `shards` the folder's name with size and checksum of each file in it. It is
written last, so a folder that no file names is what a killed save left behind.

Tensors are named model.<name>, ema.<name> and optimizer.<parameter>.<name>, so that putting them together gives what
a plain checkpoint holds.
"""

from __future__ import annotations

import pathlib
import pickle
import warnings
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint.metadata import Metadata

from mvit_video.errors import InputError
from mvit_video.weights.files import SHARDS

_DCP = "torch.distributed.checkpoint."
_METADATA_CLASSES = {
    *((f"{_DCP}metadata", name) for name in (
        "Metadata", "MetadataIndex", "StorageMeta", "TensorStorageMetadata", "TensorProperties",
        "ChunkStorageMetadata", "_MEM_FORMAT_ENCODING",
    )),
    (f"{_DCP}filesystem", "_StorageInfo"),
    ("torch", "Size"), ("torch.serialization", "_get_layout"),
    ("pathlib", "PosixPath"), ("pathlib._local", "PosixPath"),
}  # fmt: skip


def describe_shards(folder: Path, pattern: str = "*") -> dict[str, list[int]]:
    """[size, checksum] of each file of a folder whose name fits `pattern`."""
    return {path.name: _fingerprint(path) for path in sorted(folder.glob(pattern))}


def shards_folder(saved: Mapping[str, Any], file: Path) -> Path:
    """The folder of a sharded checkpoint, each of its files found whole.

    Args:
        saved: what `file` holds.

    Raises:
        InputError: the folder or a file in it is missing or damaged.
    """
    record = saved[SHARDS]
    folder = file.parent / pathlib.PurePath(record["folder"]).name
    if not folder.is_dir():
        raise InputError(
            f"{file} belongs to a folder of shards, {folder.name}, which is not beside it; keep the two together"
        )
    for name, fingerprint in record["files"].items():
        path = folder / pathlib.PurePath(name).name
        if not path.is_file() or _fingerprint(path) != list(fingerprint):
            raise InputError(f"{path}, a shard of {file}, is missing or damaged; copy it again")
    return folder


def put_together(saved: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """What a plain checkpoint would hold, on the CPU. Raises InputError as `shards_folder`."""
    folder = shards_folder(saved, file)
    tensors = read_shards(folder)
    whole = {key: value for key, value in saved.items() if key != SHARDS}
    whole["model"] = _part(tensors, "model")
    whole["ema"] = _part(tensors, "ema") or None
    whole["optimizer"] = {"state": optimizer_state(tensors), **saved["optimizer"]}
    return whole


def read_shards(folder: Path) -> dict[str, Tensor]:
    """All tensors of a folder, whole, on the CPU; by one process for itself."""
    reader = ShardReader(folder)
    tensors = {
        key: torch.empty(stored.size, dtype=stored.properties.dtype)
        for key, stored in reader.read_metadata().state_dict_metadata.items()
    }
    with quiet_if_alone():
        dcp.load(tensors, storage_reader=reader, no_dist=True)
    return tensors


def optimizer_state(tensors: Mapping[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    """The `state` of an optimiser's state dict, from tensors named optimizer.<parameter>.<name>."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in _part(tensors, "optimizer").items():
        parameter, _, name = key.partition(".")
        state.setdefault(int(parameter), {})[name] = tensor
    return state


class ShardReader(dcp.FileSystemReader):
    """DCP's reader; but its metadata, a pickle, may build nothing except what describes tensors."""

    def read_metadata(self, *_: Any, **__: Any) -> Metadata:
        with (pathlib.Path(self.path) / ".metadata").open("rb") as file:
            return _MetadataUnpickler(file).load()


class _MetadataUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        is_dtype = module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)
        if is_dtype or (module, name) in _METADATA_CLASSES:
            return super().find_class(module, name)
        raise InputError(
            f"the shards' metadata wants to run {module}.{name} while it is read, so it was not read"
        )


@contextmanager
def quiet_if_alone() -> Iterator[None]:
    """DCP warns that a process is alone also where it is told so."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield


def _part(tensors: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
    prefix = f"{part}."
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _fingerprint(path: Path) -> list[int]:
    checksum, size = 0, 0
    with path.open("rb") as file:
        while piece := file.read(2**22):
            checksum, size = zlib.crc32(piece, checksum), size + len(piece)
    return [size, checksum]
