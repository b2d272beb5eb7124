"""Facts of good videos, reasons of bad ones."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from mvit_video.data.preparation.probe import Facts, probe
from mvit_video.errors import VideoError
from tests.tiny_run import write_video


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("probe") / "a.mp4"
    write_video(path, 1, seed=0, frames=40)
    return path


@pytest.mark.parametrize("quick", [False, True])
def test_facts_of_a_good_video(video: Path, quick: bool) -> None:
    size = video.stat().st_size
    assert probe(str(video), quick) == Facts(40, 30.0, 64, 48, 1.333, "h264", "mp4", "exact", size)


def test_facts_of_real_clips(shared: Path) -> None:
    """Frames and sizes as the clips' own page states them; what decord is not exact on is known."""
    clips = shared / "clips"
    facts = probe(str(clips / "hmdb_TrumanShow_wave.avi"))
    assert (facts.frames, facts.width, facts.height, facts.codec) == (48, 432, 240, "mpeg4")
    assert facts.decord != "exact"
    facts = probe(str(clips / "decord_rot90.mov"))
    assert (facts.frames, facts.width, facts.height) == (3, 320, 568)
    with pytest.raises(VideoError, match="damaged at or before frame 28"):
        probe(str(clips / "decord_corrupted.mp4"))


def damage(video: Path, kind: str, folder: Path) -> Path:
    path = folder / "bad.mp4"
    content = bytearray(video.read_bytes())
    if kind == "missing":
        return path
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "text":
        path.write_text("this is no video\n" * 50)
    elif kind == "empty":
        path.touch()
    elif kind == "header only":
        path.write_bytes(content[:40])
    elif kind == "cut":
        path.write_bytes(content[: len(content) * 2 // 3])
    elif kind == "flipped bytes":
        middle = len(content) // 2
        noise = np.random.default_rng(0).integers(0, 256, 1500, dtype=np.uint8)
        content[middle : middle + 1500] = noise.tobytes()
        path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    "kind", ["missing", "directory", "fifo", "text", "empty", "header only", "cut", "flipped bytes"]
)
def test_bad_files_are_refused_with_a_reason_of_one_line(
    kind: str, video: Path, tmp_path: Path
) -> None:
    path = damage(video, kind, tmp_path)
    with pytest.raises(VideoError) as error:
        probe(str(path))
    assert error.value.path == str(path)
    assert error.value.reason and "\n" not in error.value.reason
