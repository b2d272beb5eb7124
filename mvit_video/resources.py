"""Files that ship with the package: configs and data lists.

In a checkout they lie at the top level; an installed package carries them inside (setup.py), so that a
shipped name such as `configs/K400/MVIT_B_16x4.yaml` is found from any folder.
"""

from __future__ import annotations

from pathlib import Path

from mvit_video.errors import InputError

_PACKAGE = Path(__file__).resolve().parent


def _shipped(room: str) -> Path:
    installed = _PACKAGE / room
    return installed if installed.is_dir() else _PACKAGE.parent / room


def configs_dir() -> Path:
    """Folder of the shipped configs."""
    return _shipped("configs")


def data_lists_dir() -> Path:
    """Folder of the shipped class names and demo lists."""
    return _shipped("data_lists")


def is_shipped_list(name: str) -> bool:
    """True for the name of a shipped list of classes, such as "kinetics400"."""
    return (data_lists_dir() / "classes" / f"{name}.txt").is_file()


def read_class_names(name: str) -> tuple[str, ...]:
    """Class names by index: a shipped list ("kinetics400", "imagenet1k", ...), or a file with one name a line.

    Raises:
        InputError: there is neither.
    """
    shipped = data_lists_dir() / "classes"
    file = shipped / f"{name}.txt" if is_shipped_list(name) else find_shipped(name)
    if not file.is_file():
        known = ", ".join(sorted(path.stem for path in shipped.glob("*.txt")))
        raise InputError(
            f"class names {name}: neither a file nor one of the shipped lists, {known}"
        )
    return tuple(file.read_text(encoding="utf-8-sig").splitlines())


def find_shipped(path: str) -> Path:
    """`path` itself if it exists, else the shipped file or folder of that name (`configs/...` or `data_lists/...`).

    Returns `path` unchanged when there is neither, so that the caller's error names what the user wrote.
    """
    given = Path(path)
    if given.exists() or given.is_absolute():
        return given
    for folder in (configs_dir(), data_lists_dir()):
        if given.parts and given.parts[0] == folder.name:
            shipped = folder.joinpath(*given.parts[1:])
            if shipped.exists():
                return shipped
    return given
