"""Copies that load fast show what the originals show."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from mvit_video.data.preparation.probe import probe
from mvit_video.data.preparation.reencode import copy_size, reencode
from mvit_video.data.readers import make_reader
from mvit_video.errors import VideoError
from tests.tiny_run import write_video


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2)))


def key_frames(path: Path) -> list[int]:
    with av.open(str(path)) as container:
        return [
            k
            for k, packet in enumerate(container.demux(video=0))
            if packet.size and packet.is_keyframe
        ]


def test_a_copy_has_the_same_frames_in_closed_groups_of_32(tmp_path: Path) -> None:
    source, target = tmp_path / "a.mp4", tmp_path / "copies" / "deep" / "a.mp4"
    write_video(source, 0, seed=1, frames=70)
    reencode(str(source), str(target))
    facts = probe(str(target))
    assert (facts.frames, facts.width, facts.height, facts.fps) == (70, 64, 48, 30.0)
    assert facts.decord == "exact"
    assert key_frames(target) == [0, 32, 64]
    reader = make_reader("pyav")
    before, _ = reader.read(str(source), range(70))
    after, _ = reader.read(str(target), range(70))
    own = [psnr(a, b) for a, b in zip(before, after, strict=True)]
    next_one = [psnr(a, b) for a, b in zip(before[:-1], after[1:], strict=True)]
    assert min(own) > 28 and all(a > b for a, b in zip(own, next_one, strict=False))
    assert [path.name for path in target.parent.iterdir()] == ["a.mp4"]
    again = tmp_path / "again.mp4"
    reencode(str(source), str(again))
    assert again.read_bytes() == target.read_bytes()


@pytest.mark.parametrize(
    ("name", "frames", "size"),
    [
        ("decord_rot90.mov", 3, (568, 320)),
        ("cot_pillow.mp4", 147, (418, 320)),
        ("hmdb_TrumanShow_wave.avi", 48, (240, 432)),
        ("tc_h264_10bits.mp4", 30, (200, 200)),
        ("ssv2_121896_with_masks.webm", 132, (240, 428)),
    ],
)
def test_real_clips_of_every_kind(
    shared: Path, tmp_path: Path, name: str, frames: int, size: tuple[int, int]
) -> None:
    """Rotated, with an edit list, with B-frames in AVI, of 10 bits, of odd width: upright and exact afterwards."""
    source, target = shared / "clips" / name, tmp_path / "copy.mp4"
    reencode(str(source), str(target))
    facts = probe(str(target))
    assert (facts.frames, facts.height, facts.width, facts.decord) == (frames, *size, "exact")
    reader = make_reader("pyav")
    numbers = [0, frames // 2, frames - 1]
    before, info = reader.read(str(source), numbers, size)
    after, copied = reader.read(str(target), numbers)
    # The clip of 10 bits is a test pattern: swscale spreads its chroma over pixels in another way than that of 8 bits.
    limit = 25 if "10bits" in name else 30
    assert min(psnr(a, b) for a, b in zip(before, after, strict=True)) > limit
    assert copied.fps == pytest.approx(info.fps, rel=1e-4)


def test_a_damaged_source_leaves_no_copy(tmp_path: Path) -> None:
    source = tmp_path / "a.mp4"
    source.write_text("no video")
    with pytest.raises(VideoError):
        reencode(str(source), str(tmp_path / "copies" / "a.mp4"))
    assert list((tmp_path / "copies").iterdir()) == []


def test_sizes_are_even_and_never_grow() -> None:
    assert copy_size(720, 1280) == (320, 568)
    assert copy_size(480, 368) == (418, 320)
    assert copy_size(240, 427) == (240, 428)
    assert copy_size(51, 33) == (52, 32)
    assert copy_size(1, 1) == (2, 2)
