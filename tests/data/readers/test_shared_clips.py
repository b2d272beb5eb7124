"""Real clips (Kinetics, UCF101, HMDB51, SSv2, and curiosities): read exactly, or an error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mvit_video.data.readers import make_reader
from mvit_video.errors import VideoError
from tests.data.readers.sequential import sequential

COUNTS = {
    "cot_pillow.mp4": 147,
    "hmdb_RATRACE_wave.avi": 72,
    "hmdb_SchoolRules_wave.avi": 74,
    "hmdb_TrumanShow_wave.avi": 48,
    "k400_R6llTwEh07w.mp4": 303,
    "ssv2_121896_with_masks.webm": 132,
    "ucf_SoccerJuggling_g24_c01.avi": 251,
}
"""Frames that decode, of some clips (MANIFEST.md), where the header often says another number."""


def test_every_real_clip_is_read_exactly_or_reported(shared: Path):
    reported = []
    for path in sorted((shared / "clips").glob("*.*")):
        if path.suffix == ".md":
            continue
        count = make_reader("pyav").probe(str(path)).num_frames
        wanted = [count - 1, 0, *(min(count // 3 + 4 * k, count - 1) for k in range(16))]
        expected = sequential(path, set(wanted))
        assert count == len(expected) == COUNTS.get(path.name, count), path.name
        for reader in ("pyav", "decord"):
            try:
                frames, info = make_reader(reader).read(str(path), wanted)
            except VideoError as error:
                reported.append((path.name, error.reason))
                continue
            assert info.num_frames == count
            for frame, i in zip(frames, wanted, strict=True):
                np.testing.assert_array_equal(frame, expected[i], err_msg=path.name)
    assert [name for name, _ in reported] == ["decord_corrupted.mp4"] * 2
    assert all("damaged" in reason for _, reason in reported)


@pytest.mark.parametrize("reader", ["pyav", "decord"])
def test_what_lies_before_the_damage_is_read(reader, shared: Path):
    path = shared / "clips" / "decord_corrupted.mp4"
    expected = sequential(path, {0, 9, 20})
    frames, _ = make_reader(reader).read(str(path), [0, 9, 20])
    np.testing.assert_array_equal(frames, [expected[i] for i in (0, 9, 20)])
    with pytest.raises(VideoError):
        make_reader(reader).read(str(path), [40])
