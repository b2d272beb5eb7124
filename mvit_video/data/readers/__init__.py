"""Video readers: a path and frame numbers in, uint8 frames and the stream's facts out."""

from __future__ import annotations

from importlib.util import find_spec

from mvit_video.data.readers.base import Frames, Reader, Size, SizeRequest, VideoInfo
from mvit_video.errors import InputError

__all__ = ["Frames", "Reader", "Size", "SizeRequest", "VideoInfo", "make_reader"]

READERS = ("decord", "pyav", "auto")


def make_reader(name: str) -> Reader:
    """The reader of this name (`DATA.READER`).

    "decord" reads with decord the files that decord reads exactly, and the rest with PyAV; "pyav" reads all with PyAV;
    "auto" takes the fastest that is exact, which is PyAV on every kind of file measured so far.

    Raises:
        InputError: there is no such reader, or its package is not installed.
    """
    if name not in READERS:
        raise InputError(f"DATA.READER is {name!r}, but must be one of {', '.join(READERS)}")
    package = "decord" if name == "decord" else "av"
    if find_spec(package) is None:
        raise InputError(
            f"DATA.READER {name!r} needs the package {package!r}, which is not installed: "
            f"pip install {package}, or choose another of {', '.join(READERS)}"
        )
    if name == "decord":
        from mvit_video.data.readers.decord_reader import DecordReader

        return DecordReader()
    from mvit_video.data.readers.pyav_reader import PyAVReader

    return PyAVReader()
