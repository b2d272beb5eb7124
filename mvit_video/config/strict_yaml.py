"""YAML that keeps its promises: nothing executes, no key twice.

PyYAML's safe loader takes the last of two equal keys in silence, which is how released video configs
came to hold settings that never applied. Here a repeated key is an error that names both lines.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from iopath.common.file_io import g_pathmgr

from mvit_video.errors import InputError


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader that notices repeated keys."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.repeats: list[str] = []


def _mapping_without_repeats(loader: _StrictLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    first_line: dict[Any, int] = {}
    for key_node, _ in node.value:
        key = loader.construct_object(key_node)
        line = key_node.start_mark.line + 1
        if key in first_line:
            loader.repeats.append(
                f"key {key!r} stands twice, in line {first_line[key]} and line {line}"
            )
        first_line[key] = line
    return loader.construct_mapping(node, deep=True)


_StrictLoader.add_constructor(
    yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping_without_repeats
)


def parse_yaml(text: str, source: str) -> dict[str, Any]:
    """The mapping that `text` holds; `source` names it in errors.

    Raises:
        InputError: not YAML, a tag that would build an object, a repeated key, or no mapping.
    """
    tree, repeats = parse_lenient_yaml(text, source)
    if repeats:
        raise InputError(f"{source}: {repeats[0]}; keep one of them")
    return tree


def parse_lenient_yaml(text: str, source: str) -> tuple[dict[str, Any], list[str]]:
    """As `parse_yaml`, but a repeated key's last value holds, and each repetition is a line of the second result."""
    loader = _StrictLoader(text)
    loader.name = source
    try:
        tree = loader.get_single_data()
    except yaml.constructor.ConstructorError as error:
        line = error.problem_mark.line + 1
        raise InputError(
            f"{source}, line {line}: {error.problem}; only plain values are read from a config"
        ) from None
    except (yaml.YAMLError, ValueError, TypeError) as error:
        problem = " ".join(str(error).split())
        raise InputError(f"{source} is not valid YAML: {problem}") from None
    finally:
        loader.dispose()
    if tree is None:
        return {}, loader.repeats
    if not isinstance(tree, dict):
        raise InputError(f"{source} holds a {type(tree).__name__}, not a mapping of config keys")
    return tree, loader.repeats


def read_lenient_yaml(path: str | Path) -> tuple[dict[str, Any], list[str]]:
    """`parse_lenient_yaml` of the file at `path` (local, or remote through iopath)."""
    try:
        with g_pathmgr.open(str(path), "r") as file:
            text = file.read()
    except FileNotFoundError:
        raise InputError(
            f"config {path} does not exist; shipped ones are named configs/..."
        ) from None
    except IsADirectoryError:
        raise InputError(f"config {path} is a folder; name a YAML file in it") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"config {path} cannot be read: {error}") from None
    return parse_lenient_yaml(text, str(path))
