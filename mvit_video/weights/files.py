"""Reading a weight file without trusting it.

What the file is comes from its first bytes, not from its name. Nothing in it is ever run: torch files go through
`torch.load(weights_only=True)`, which builds tensors and plain values only.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from iopath.common.file_io import g_pathmgr
from safetensors.torch import load_file

from mvit_video.errors import InputError
from mvit_video.weights.download import fetch, is_url

SHARDS = (
    "shards"  # the entry by which a file says that its tensors are in shards (`weights.shards`)
)

_ZIP = b"PK\x03\x04"
# What torch < 1.6 pickles first, a magic number.
_LEGACY_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_SCALAR = np.float64(0).__reduce__()[0]

# Plain holders of values that trainers leave beside the weights (`args`, `best_acc`); building them runs nothing.
_HARMLESS = [
    argparse.Namespace,
    np.dtype,
    *{type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8", "?")},
    (_SCALAR, "numpy.core.multiarray.scalar"),
    (_SCALAR, "numpy._core.multiarray.scalar"),
]


def read_file(
    source: str | os.PathLike[str], sha256: str = "", together: bool = True
) -> tuple[Any, dict[str, str]]:
    """What a weight file holds: the saved object, and safetensors' metadata ({} for torch files).

    Args:
        source: a path, anything iopath knows, or an http(s) URL, which is downloaded once.
        sha256: checksum of a download, where it is known.
        together: a sharded checkpoint's tensors are read from the folder beside the file, and put together.

    Raises:
        InputError: there is no such file, it is no weight file, it is damaged, or it wants to run code.
    """
    name = os.fspath(source)
    if is_url(name):
        path = fetch(name, sha256)
        try:
            return _read(path, name)
        except InputError:
            path.unlink()  # a web page in place of weights must not stay in the cache
            raise
    path = Path(g_pathmgr.get_local_path(name))
    if path.is_dir():
        raise InputError(f"{name} is a folder; name a weight file in it")
    if not path.is_file():
        raise InputError(f"weights {name}: there is no such file")
    saved, metadata = _read(path, name)
    if together and isinstance(saved, dict) and SHARDS in saved:
        # torch's distributed checkpoints take half a second to import, and few files are of that kind.
        from mvit_video.weights.shards import put_together

        return put_together(saved, path), metadata
    return saved, metadata


def _read(path: Path, name: str) -> tuple[Any, dict[str, str]]:
    with path.open("rb") as file:
        head = file.read(512)
    if head.startswith(_ZIP):
        _check_zip(path, name)
        return _load_torch(path, name), {}
    if head[8:9] == b"{":
        return _load_safetensors(path, name)
    if head.startswith(_LEGACY_TORCH):
        return _load_torch(path, name), {}
    raise InputError(f"{name} is no weight file: {_what_it_is(head)}")


def _what_it_is(head: bytes) -> str:
    text = head.lstrip().lower()
    if not head:
        return "it is empty"
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return "it is a web page, perhaps a log-in or download-warning page saved under that name; download it by hand"
    if text.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer; run `git lfs pull` where it came from"
    if head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"7z\xbc\xaf", b"Rar!")):
        return "it is a compressed archive; unpack it first"
    if head.startswith(b"\x80"):
        return "it is a bare Python pickle, which could run code; save a state_dict with torch.save"
    if head.startswith(b"\x89HDF"):
        return "it is an HDF5 file; torch (.pth, .pyth, .pt) and safetensors files are read"
    return f"it starts with {head[:16]!r}; torch (.pth, .pyth, .pt) and safetensors files are read"


def _check_zip(path: Path, name: str) -> None:
    """A torch file is a zip archive with a data.pkl; a torn one has no table of contents."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = {member.rsplit("/", 1)[-1] for member in archive.namelist()}
            broken = archive.testzip()
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError) as error:
        raise InputError(
            f"{name} is damaged or was cut off ({error}); download or copy it again"
        ) from None
    if broken:
        raise InputError(f"{name} is damaged: {broken} does not match its checksum; copy it again")
    if "data.pkl" not in members:
        raise InputError(f"{name} is a zip archive without weights of torch in it; unpack it first")
    if "constants.pkl" in members:
        raise InputError(
            f"{name} is a TorchScript program, which would run code; save the model's state_dict instead"
        )


def _load_torch(path: Path, name: str) -> Any:
    try:
        with torch.serialization.safe_globals(_HARMLESS):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        wanted = re.search(r"(?:GLOBAL|class|function|global)[\s`'\"]+([\w.]+\.[\w.]+)", str(error))
        if wanted:
            raise InputError(
                f"{name} wants to run {wanted[1]} while it is read, so it was not read: a weight "
                "file holds tensors and plain values only. If you trust its origin, save its state_dict on its own"
            ) from None
        raise InputError(
            f"{name} is damaged or no torch file ({_one_line(error)}); download or copy it again"
        ) from None
    except Exception as error:  # a damaged pickle can raise anything
        raise InputError(
            f"{name} is damaged or was cut off ({_one_line(error)}); download or copy it again"
        ) from None


def _load_safetensors(path: Path, name: str) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(min(length, path.stat().st_size)))
        return load_file(path), dict(header.get("__metadata__", {}))
    except Exception as error:  # safetensors' own errors, or a header that is no JSON
        raise InputError(
            f"{name} is damaged or was cut off, or no safetensors file ({_one_line(error)}); download or copy it again"
        ) from None


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 160 else f"{text[:157]}..."
