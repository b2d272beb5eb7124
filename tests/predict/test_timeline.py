"""The timeline of real files: made of clips whose classes are known."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from mvit_video import Recognizer
from mvit_video.data import demo
from mvit_video.data.lists import read_csv
from mvit_video.data.readers.stream import LiveSource, open_stream
from mvit_video.errors import VideoError
from mvit_video.predict.segments import Segment
from mvit_video.predict.timeline import ScoredWindow, Timeline
from mvit_video.resources import data_lists_dir
from tests.conftest import REPOSITORY
from tests.tiny_run import COLORS


def write_frames(path: Path, frames: Iterable[np.ndarray], times: Iterable[float]) -> None:
    """A video of (H, W, 3) frames shown at `times`, in seconds."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"crf": "18", "bf": "2"})
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for number, (frame, time) in enumerate(zip(frames, times, strict=True)):
            if number == 0:
                stream.height, stream.width = frame.shape[:2]
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            picture.pts, picture.time_base = round(1000 * time), Fraction(1, 1000)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))


def colours(labels: Iterable[int]) -> Iterable[np.ndarray]:
    rng = np.random.default_rng(0)
    for label in labels:
        frame = np.full((48, 64, 3), 110) + rng.integers(-15, 16, (48, 64, 3))
        frame[12:36, 16:48] = COLORS[label]
        yield frame.astype(np.uint8)


@pytest.mark.parametrize("rate", ["constant", "variable"])
def test_segments_lie_where_the_colours_are(recognizer, tmp_path, rate):
    rng = np.random.default_rng(1)
    steps = np.full(240, 1 / 30) if rate == "constant" else rng.uniform(0.004, 0.06, 240)
    times = np.cumsum(steps) - steps[0]
    labels = (times // 2).astype(int) % 3
    write_frames(tmp_path / "video.mp4", colours(labels), times)
    found = recognizer.timeline(tmp_path / "video.mp4", window=0.4, stride=0.1)
    bounds = [0, *(times[i] for i in np.flatnonzero(np.diff(labels)) + 1), found.duration]
    assert [s.name for s in found.segments] == ["red", "green", "blue", "red"][: len(bounds) - 1]
    assert found.duration == pytest.approx(times[-1], abs=0.08)
    for segment, (begin, end) in zip(found.segments, pairwise(bounds), strict=True):
        assert segment.begin == pytest.approx(begin, abs=0.15)
        assert segment.end == pytest.approx(end, abs=0.15)
    assert found.windows.shape == (len(found.scores), 2)
    np.testing.assert_allclose(found.scores.sum(axis=1), 1, rtol=1e-5)
    assert found.to_dict()["segments"][0]["name"] == "red"
    assert "red" in str(found)


def test_watching_gives_what_the_timeline_does_as_soon_as_it_is_known(recognizer, tmp_path):
    write_frames(tmp_path / "v.mkv", colours([0] * 60 + [1] * 60), np.arange(120) / 30)
    timeline = recognizer.timeline(tmp_path / "v.mkv", 0.4, 0.2)
    seen = list(recognizer.watch(LiveSource(str(tmp_path / "v.mkv")), 0.4, 0.2))
    segments = [item for item in seen if isinstance(item, Segment)]
    assert [(s.begin, s.end, s.label) for s in segments] == [
        (s.begin, s.end, s.label) for s in timeline.segments
    ]
    first_end = seen.index(segments[0])
    assert isinstance(seen[first_end - 1], ScoredWindow)
    assert seen[first_end - 1].end < segments[0].end + 1


def test_damage_is_passed_over_and_counted(recognizer, shared):
    found = recognizer.timeline(shared / "clips" / "decord_corrupted.mp4")
    assert found.damaged > 0
    assert len(found.scores) > 1


def test_no_video_is_a_video_error(recognizer, tmp_path):
    (tmp_path / "text.mp4").write_text("no video")
    for name in ("text.mp4", "missing.mp4", "."):
        with pytest.raises(VideoError):
            recognizer.timeline(tmp_path / name)
    with pytest.raises(VideoError):
        next(recognizer.watch(LiveSource(str(tmp_path / "missing"), "mpegts")))


def test_a_stream_is_a_sequential_decode(shared):
    with open_stream(shared / "clips" / "ucf_SoccerJuggling_g23_c01.avi") as stream:
        frames = list(stream)
    assert len(frames) == 240
    assert frames[0].begin == 0
    assert all(a.end == b.begin for a, b in pairwise(frames))
    with open_stream(shared / "clips" / "decord_rot90.mov") as stream:
        timed = next(iter(stream))
        assert stream.upright(timed.frame).shape == (568, 320, 3)


# Slow: the trained demo.


@pytest.fixture(scope="session")
def demo_recognizer(tmp_path_factory) -> Recognizer:
    """The README's demo, trained here where no run of it is at hand."""
    ready = REPOSITORY / "output" / "demo" / "checkpoints" / "best.pt"
    if ready.exists():
        return Recognizer.from_checkpoint(ready, "cpu")
    folder = tmp_path_factory.mktemp("demo")
    demo.write_demo(folder / "data", num_workers=2)
    words = ("TEST.ENABLE", "False", "DATA.PATH_PREFIX", "data", "OUTPUT_DIR", "output")
    config = REPOSITORY / "configs" / "demo" / "MVIT_XS_8x4.yaml"
    tool = REPOSITORY / "tools" / "run_net.py"
    command = [sys.executable, str(tool), "--cfg", str(config), *words]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=1200
    )
    assert done.returncode == 0, done.stderr
    return Recognizer.from_checkpoint(folder / "output" / "checkpoints" / "best.pt", "cpu")


def joined(path: Path, clips: Iterable[tuple[str, int]]) -> None:
    pictures = np.concatenate([demo.render(name, label) for name, label in clips])
    write_frames(path, pictures, np.arange(len(pictures)) / demo.FPS)


def num_right(found: Timeline, labels: list[int], seconds: float) -> int:
    """How many of the joined clips have a segment of their class, both its ends within half a second of theirs."""
    return sum(
        any(
            s.label == label
            and abs(s.begin - i * seconds) <= 0.5
            and abs(s.end - (i + 1) * seconds) <= 0.5
            for s in found.segments
        )
        for i, label in enumerate(labels)
    )


@pytest.mark.slow
def test_eight_joined_demo_clips_are_told_apart(demo_recognizer, tmp_path):
    """Four times eight of the demo's own test videos, 1.33 seconds each: hardly longer than the model's clip."""
    videos = [(name, label) for _, name, label in read_csv(data_lists_dir() / "demo" / "test.csv")]
    right = []
    for seed in range(4):
        rng = random.Random(seed)
        labels = rng.sample(range(len(demo.CLASS_NAMES)), 8)
        chosen = [rng.choice([v for v in videos if v[1] == label]) for label in labels]
        joined(tmp_path / "joined.mp4", chosen)
        found = demo_recognizer.timeline(tmp_path / "joined.mp4", window=1.0, stride=0.125)
        right.append(num_right(found, labels, demo.NUM_FRAMES / demo.FPS))
    assert sum(right) >= 28, right
    assert max(right) == 8


@pytest.mark.slow
def test_eight_longer_clips_are_told_apart_as_it_comes(demo_recognizer, tmp_path, monkeypatch):
    """Three seconds of each direction, which can go on for that long, with no setting touched."""
    monkeypatch.setattr(demo, "NUM_FRAMES", 90)
    labels = random.Random(0).sample(range(8), 8)
    joined(tmp_path / "joined.mp4", [(f"clip {i}", label) for i, label in enumerate(labels)])
    found = demo_recognizer.timeline(tmp_path / "joined.mp4")
    assert num_right(found, labels, 3.0) >= 7, str(found)
