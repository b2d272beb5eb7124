"""From a YAML file and command-line overrides to the frozen config of a run."""

from __future__ import annotations

import ast
import difflib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fvcore.common.config import CfgNode

from mvit_video.config.checks import check_config
from mvit_video.config.defaults import SECTIONS, TOP_KEYS
from mvit_video.config.schema import Key
from mvit_video.config.slowfast import (
    Entries,
    is_slowfast,
    model_entries,
    read_slowfast,
    reference_batch,
)
from mvit_video.config.strict_yaml import parse_yaml, read_lenient_yaml
from mvit_video.errors import InputError
from mvit_video.resources import find_shipped

BASE_KEY = "_BASE_"
_log = logging.getLogger(__name__)


def all_keys() -> dict[str, Key]:
    """Every key of the tree by its full name, such as "DATA.NUM_FRAMES"."""
    keys = dict(TOP_KEYS)
    for name, section in SECTIONS.items():
        keys.update({f"{name}.{key}": value for key, value in section.keys.items()})
    return keys


def get_cfg() -> CfgNode:
    """The tree of defaults, not frozen."""
    cfg = CfgNode()
    for full_name, key in all_keys().items():
        _set(cfg, full_name, key.default)
    return cfg


def load_config(path: str | Path | None = None, overrides: Sequence[str] = ()) -> CfgNode:
    """The config of a run: defaults, then the file with what it inherits, then the overrides.

    Args:
        path: YAML file, or the name of a shipped one ("configs/K400/MVIT_B_16x4.yaml", from any folder); None for
            defaults only. `_BASE_` in it names a file, or a list of files, to start from.
        overrides: alternating keys and values, ["SOLVER.BASE_LR", "1e-4", ...], as on a command line.

    Returns:
        A frozen CfgNode that passed every check.

    Raises:
        InputError: what is wrong, where, and what to change.
    """
    cfg = get_cfg()
    if path is not None:
        file = find_shipped(str(path))
        _assign_all(cfg, _with_reference_batch(_read_with_bases(file)))
    _override(cfg, overrides)
    check_config(cfg)
    cfg.freeze()
    return cfg


def parse_config(
    text: str, source: str, slowfast: bool = False, overrides: Sequence[str] = ()
) -> CfgNode:
    """The config that stands in a checkpoint: defaults, then `text`, frozen.

    Args:
        text: YAML as `config.yaml` holds it.
        source: names the checkpoint in errors.
        slowfast: SlowFast wrote it; only its model is read.
        overrides: as in `load_config`.

    Raises:
        InputError: as `load_config`, but for checks across keys, which concern running it.
    """
    entries = {name: (value, source) for name, value in _flatten(parse_yaml(text, source))}
    cfg = get_cfg()
    _assign_all(cfg, model_entries(entries, set(all_keys())) if slowfast else entries)
    _override(cfg, overrides)
    cfg.freeze()
    return cfg


def _override(cfg: CfgNode, overrides: Sequence[str]) -> None:
    if len(overrides) % 2:
        raise InputError(
            f"overrides come in pairs KEY VALUE, but {overrides[-1]!r} at the end has no partner"
        )
    for full_name, text in zip(overrides[::2], overrides[1::2], strict=True):
        _assign(cfg, full_name, _parse(text), "the command line")


def _assign_all(cfg: CfgNode, entries: Entries) -> None:
    for full_name, (value, source) in entries.items():
        _assign(cfg, full_name, value, source)


def _read_with_bases(file: Path, parents: tuple[Path, ...] = ()) -> Entries:
    """{full key: (value, where it was written)} of `file` over its bases; later entries win."""
    if file in parents:
        chain = " -> ".join(map(str, (*parents, file)))
        raise InputError(f"{BASE_KEY} goes round in a circle: {chain}")
    tree, repeats = read_lenient_yaml(file)
    bases = tree.pop(BASE_KEY, [])
    merged: Entries = {}
    for base in [bases] if isinstance(bases, str) else bases:
        merged.update(_read_with_bases(_base_path(base, file), (*parents, file)))
    merged.update(
        _in_our_keys({name: (value, str(file)) for name, value in _flatten(tree)}, repeats, file)
    )
    return merged


def _in_our_keys(entries: Entries, repeats: list[str], file: Path) -> Entries:
    """A file's entries; those of a SlowFast file are translated, and what is worth knowing about that is said."""
    keys = all_keys()
    if not is_slowfast(entries, keys):
        if repeats:
            raise InputError(f"{file}: {repeats[0]}; keep one of them")
        return entries
    reading = read_slowfast(entries, keys)
    for note in (*(f"{repeat}; the last one holds" for repeat in repeats), *reading.notes):
        _log.warning("%s: %s", file, note)
    return reading.entries


def _with_reference_batch(entries: Entries) -> Entries:
    if "SOLVER.BASE_LR" not in entries or "SOLVER.REFERENCE_BATCH_SIZE" in entries:
        return entries
    reading = reference_batch(entries)
    _log.warning("%s: %s", entries["SOLVER.BASE_LR"][1], reading.notes[0])
    return reading.entries


def _base_path(base: str, file: Path) -> Path:
    """`base` is relative to the file that names it, or a shipped config's name."""
    beside = file.parent / Path(base).expanduser()
    return Path(beside.resolve()) if beside.exists() else find_shipped(base)


def _flatten(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        full_name = f"{prefix}{name}"
        if isinstance(value, dict):
            yield from _flatten(value, f"{full_name}.")
        elif value is None and full_name in SECTIONS:
            continue  # a section's head with nothing under it
        else:
            yield full_name, value


def _parse(text: str) -> Any:
    """A command-line value: a Python literal where it is one, else the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        lowered = {"true": True, "false": False}
        return lowered.get(text.lower(), text)


def _assign(cfg: CfgNode, full_name: str, value: Any, source: str) -> None:
    keys = all_keys()
    if full_name in SECTIONS:
        inner = next(iter(SECTIONS[full_name].keys))
        raise InputError(
            f"{source}: {full_name} is a section; set a key in it, such as {full_name}.{inner}"
        )
    if full_name not in keys:
        raise InputError(f"{source}: unknown key {full_name}{_did_you_mean(full_name, keys)}")
    key = keys[full_name]
    value = _coerce(value, key.default, f"{source}: {full_name}")
    if key.choices and value not in key.choices:
        allowed = ", ".join(map(str, key.choices))
        raise InputError(f"{source}: {full_name} is {value!r}; choose one of {allowed}")
    _set(cfg, full_name, value)


def _set(cfg: CfgNode, full_name: str, value: Any) -> None:
    *sections, leaf = full_name.split(".")
    for section in sections:
        cfg = cfg.setdefault(section, CfgNode())
    cfg[leaf] = list(value) if isinstance(value, list) else value


def _did_you_mean(full_name: str, keys: dict[str, Key]) -> str:
    """Nearest known keys: by their full names, and by the last part in whichever section it stands."""
    leaf = full_name.rsplit(".", 1)[-1]
    elsewhere = [key for key in keys if key.rsplit(".", 1)[-1] == leaf]
    nearest = elsewhere + [
        key
        for key in difflib.get_close_matches(full_name.upper(), keys, n=3, cutoff=0.6)
        if key not in elsewhere
    ]
    if not nearest:
        return "; docs/configuration.md lists the known ones"
    return f"; did you mean {' or '.join(nearest[:3])}?"


def _coerce(value: Any, default: Any, where: str) -> Any:
    """`value` in the type of `default`.

    An int where a float is meant is fine, and so is 1e-4, which YAML 1.1 reads as text.
    """
    if isinstance(value, str) and not isinstance(default, str):
        value = _parse(value)
    if isinstance(value, tuple):
        value = list(value)
    if isinstance(default, str) and isinstance(value, (int, float)) and not isinstance(value, bool):
        value = str(value)  # OUTPUT_DIR 3
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if isinstance(default, str) and value is None:
        value = ""
    if type(value) is not type(default):
        raise InputError(
            f"{where} is {value!r}, a {type(value).__name__}; it takes a {type(default).__name__}, such as {default!r}"
        )
    return value
