"""Videos, lists and lengths that ask for any amount of memory or time, measured in a process of their own."""

from __future__ import annotations

import os
import shutil
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


def peaks_of(code: str, *words: object) -> list[tuple[str, float]]:
    """What a program prints between `begin()` and `end()`, and by how many MB its memory peaked above that at begin."""
    program = f"""
import re, sys
def memory(key):  # ru_maxrss would begin at the memory of the process that started this one
    return int(re.search(key + r":\\s*(\\d+)", open("/proc/self/status").read())[1]) / 1024
def begin():
    global before
    open("/proc/self/clear_refs", "w").write("5")  # the peak is now what is in use
    before = memory("VmRSS")
def end():
    print(f"\\0{{memory('VmHWM') - before}}", end="\\0")
words = sys.argv[1:]
{code}
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
    parts = done.stdout.split("\0")
    return [(told, float(grown)) for told, grown in zip(parts[::2], parts[1::2], strict=False)]


PREDICT = """
from mvit_video import Recognizer
from mvit_video.errors import VideoError
checkpoint, warm, *videos = words
recognizer = Recognizer.from_checkpoint(checkpoint, "cpu")
recognizer(warm), recognizer.timeline(warm)
for video in videos:
    begin()
    for look in (recognizer, recognizer.timeline):
        try:
            print(type(look(video)).__name__)
        except VideoError as error:
            print(error.reason)
    end()
"""


def test_a_video_twenty_thousand_pixels_wide_takes_bounded_memory(trained, tmp_path):
    expected = {
        64: ("is 20000 x 64 pixels, and a strip", 40),
        3_400: ("frames are 20000 x 3400 pixels", 40),
        1_300: ("Prediction\nTimeline", 200),
    }
    for height in expected:
        write_still(tmp_path / f"{height}.avi", height, 20_000)
    videos = [tmp_path / f"{height}.avi" for height in expected]
    found = peaks_of(PREDICT, trained.checkpoint, trained.videos / "test_0.mp4", *videos)
    assert len(found) == 3
    for (told, grown), (message, megabytes) in zip(found, expected.values(), strict=True):
        assert message in told
        assert grown < megabytes, told


def patched(path: Path, changes: dict[bytes, list[tuple[int, int]]]) -> None:
    """An MP4 with 32-bit numbers changed: {box: [(offset behind its name, value)]}."""
    data = bytearray(path.read_bytes())
    for box, values in changes.items():
        at = data.find(box)
        assert at > 0
        for offset, value in values:
            struct.pack_into(">I", data, at + 4 + offset, value)
    path.write_bytes(data)


HUGE = 0x7FFF_FFFF
BOMBS = {  # boxes changed, one after the other; what comes of it; MB
    "lasts for days": (
        {b"mvhd": [(16, HUGE)], b"tkhd": [(20, HUGE)], b"mdhd": [(16, HUGE)]},
        "Prediction\nTimeline\n",
        90,
    ),
    "frames a day apart": ({b"stts": [(12, HUGE // 16)]}, "Timeline", 90),
    "a million frames": (
        {
            b"stsz": [(4, 1), (8, 1_000_000)],
            b"stts": [(8, 1_000_000)],
            b"stsc": [(4, 1), (12, 1_000_000)],
        },
        "no frame can be decoded",
        150,
    ),
}


def test_a_tiny_file_that_states_a_huge_duration_and_frame_count(trained, tmp_path):
    """Sixteen frames that claim to last for days, and then to be a million."""
    write_video(tmp_path / "bomb.mp4", 0, seed=1)
    paths = []
    for name, (changes, _, _) in BOMBS.items():
        patched(tmp_path / "bomb.mp4", changes)
        paths.append(shutil.copy(tmp_path / "bomb.mp4", tmp_path / f"{name}.mp4"))
    found = peaks_of(PREDICT, trained.checkpoint, trained.videos / "test_0.mp4", *paths)
    assert len(found) == 3
    for (told, grown), (_, message, megabytes) in zip(found, BOMBS.values(), strict=True):
        assert message in told
        assert grown < megabytes, told


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
print(len(inputs), inputs.name(999_999), end="")
end()
"""


@pytest.mark.slow
def test_a_list_of_a_million_videos_takes_little_memory(tmp_path):
    names = (f"/datasets/kinetics/train/some_class/video_{i:07d}.mp4" for i in range(1_000_000))
    (tmp_path / "list.txt").write_text("\n".join(names))
    ((found, grown),) = peaks_of(MILLION, tmp_path / "list.txt")
    assert found == "1000000 /datasets/kinetics/train/some_class/video_0999999.mp4"
    assert grown < 300


LONG = """
from mvit_video import Recognizer
recognizer = Recognizer.from_checkpoint(words[0], "cpu")
for video in words[1:]:
    begin()
    found = recognizer.timeline(video)
    print(len(found.windows), round(found.duration, 3), end="")
    end()
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
def test_an_hour_takes_no_more_memory_than_five_minutes(trained, tmp_path):
    """Both after a minute's, in which what is only loaded once is loaded."""
    minutes = (1, 5, 60)
    for length in minutes:
        write_long(tmp_path / f"{length}.mp4", length)
    paths = [tmp_path / f"{length}.mp4" for length in minutes]
    found = peaks_of(LONG, trained.checkpoint, *paths)
    assert [told for told, _ in found] == ["117 60.0", "597 300.0", "7197 3600.0"]
    (_, five), (_, sixty) = found[1:]
    # The pictures of an hour are 330 MB. Its scores are less than one, but kept one by one they pin what lay between.
    assert sixty < five + 20
