"""Videos, lists and lengths that ask for any amount of memory or time, measured in a process of their own."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from mvit_video.errors import VideoError
from tests.conftest import REPOSITORY
from tests.tiny_run import write_video


def write_still(path: Path, height: int, width: int) -> None:
    """One grey JPEG picture as a video: any size in few bytes."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=30)
        stream.height, stream.width, stream.pix_fmt = height, width, "yuvj420p"
        frame = av.VideoFrame(width, height, "yuvj420p")
        for plane in frame.planes:
            plane.update(b"\x80" * plane.buffer_size)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def peak_of(code: str, *words: object) -> tuple[str, float]:
    """What a program prints, and by how many MB its memory peaked above what it had once `begin()` was called."""
    program = f"""
import re, sys
def peak():  # ru_maxrss would begin at the memory of the process that started this one
    return int(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1]) / 1024
def begin():
    global before
    before = peak()
words = sys.argv[1:]
{code}
print(peak() - before)
"""
    if not Path("/proc/self/status").exists():
        pytest.skip("this system does not tell a process its peak memory")
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, words)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    *told, megabytes = done.stdout.splitlines()
    return "\n".join(told), float(megabytes)


PREDICT = """
from mvit_video import Recognizer
from mvit_video.errors import VideoError
recognizer = Recognizer.from_checkpoint(words[0], "cpu")
begin()
for look in (recognizer, recognizer.timeline):
    try:
        print(type(look(words[1])).__name__)
    except VideoError as error:
        print(error.reason)
"""


@pytest.mark.parametrize(
    ("height", "width", "told", "megabytes"),
    [
        (64, 20_000, "is 20000 x 64 pixels, and a strip", 40),
        (3_400, 20_000, "frames are 20000 x 3400 pixels", 40),
        (1_300, 20_000, "Prediction\nTimeline", 200),
    ],
)
def test_a_video_twenty_thousand_pixels_wide_takes_bounded_memory(
    trained, tmp_path, height, width, told, megabytes
):
    write_still(tmp_path / "wide.avi", height, width)
    found, grown = peak_of(PREDICT, trained.checkpoint, tmp_path / "wide.avi")
    assert told in found
    assert grown < megabytes


def patched(path: Path, changes: dict[bytes, list[tuple[int, int]]]) -> None:
    """An MP4 with 32-bit numbers changed: {box: [(offset behind its name, value)]}."""
    data = bytearray(path.read_bytes())
    for box, values in changes.items():
        at = data.find(box)
        assert at > 0
        for offset, value in values:
            struct.pack_into(">I", data, at + 4 + offset, value)
    path.write_bytes(data)


def test_a_tiny_file_that_states_a_huge_duration_and_frame_count(trained, tmp_path):
    """Sixteen frames that claim to last for days, and then to be a million."""
    path = tmp_path / "bomb.mp4"
    write_video(path, 0, seed=1)
    huge = 0x7FFF_FFFF
    patched(path, {b"mvhd": [(16, huge)], b"tkhd": [(20, huge)], b"mdhd": [(16, huge)]})
    found, grown = peak_of(PREDICT, trained.checkpoint, path)
    assert found == "Prediction\nTimeline"
    assert grown < 90
    patched(path, {b"stts": [(12, huge // 16)]})  # frames a day apart
    found, grown = peak_of(PREDICT, trained.checkpoint, path)
    assert "Timeline" in found
    assert grown < 90
    patched(
        path,
        {
            b"stsz": [(4, 1), (8, 1_000_000)],
            b"stts": [(8, 1_000_000)],
            b"stsc": [(4, 1), (12, 1_000_000)],
        },
    )
    found, grown = peak_of(PREDICT, trained.checkpoint, path)
    assert "no frame can be decoded" in found
    assert grown < 150


def test_a_list_in_disguise_reaches_nothing_else(recognizer, trained, tmp_path):
    secret = trained.videos / "test_0.mp4"
    lists = {
        "concat.mp4": f"ffconcat version 1.0\nfile {secret}\n",
        "hls.mp4": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{secret}\n#EXT-X-ENDLIST\n",
    }
    for name, text in lists.items():
        (tmp_path / name).write_text(text)
        for look in (recognizer, recognizer.timeline):
            with pytest.raises(VideoError):
                look(tmp_path / name)


MILLION = """
from mvit_video.predict.inputs import Inputs
begin()
inputs = Inputs.of(words)
print(len(inputs), inputs.name(999_999))
"""


@pytest.mark.slow
def test_a_list_of_a_million_videos_takes_little_memory(tmp_path):
    names = (f"/datasets/kinetics/train/some_class/video_{i:07d}.mp4" for i in range(1_000_000))
    (tmp_path / "list.txt").write_text("\n".join(names))
    found, grown = peak_of(MILLION, tmp_path / "list.txt")
    assert found == "1000000 /datasets/kinetics/train/some_class/video_0999999.mp4"
    assert grown < 300


HOURS = """
from mvit_video import Recognizer
recognizer = Recognizer.from_checkpoint(words[0], "cpu")
recognizer.timeline(words[1], stride=2.0)
begin()
found = recognizer.timeline(words[2], stride=2.0)
print(len(found.windows), found.duration)
"""


def write_long(path: Path, minutes: int) -> None:
    """Noise at 10 frames per second, a key frame every 10 s."""
    pictures = np.random.default_rng(0).integers(0, 255, (8, 48, 64, 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        options = {"preset": "ultrafast", "g": "100"}
        stream = container.add_stream("libx264", rate=10, options=options)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for number in range(minutes * 600):
            frame = av.VideoFrame.from_ndarray(pictures[number % 8], format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.mark.slow
def test_an_hour_takes_no_more_memory_than_a_minute(trained, tmp_path):
    write_long(tmp_path / "minute.mp4", 1)
    write_long(tmp_path / "hour.mp4", 60)
    words = (trained.checkpoint, tmp_path / "minute.mp4", tmp_path / "hour.mp4")
    found, grown = peak_of(HOURS, *words)
    assert found == "1800 3600.0"
    assert grown < 40
