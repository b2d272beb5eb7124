"""Frame numbers against restatements of SlowFast's arithmetic, its known values, and ffmpeg's own fps filter."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mvit_video.data.sampling import (
    clip_shape,
    middle_segments,
    random_clip,
    random_segments,
    uniform_clips,
)

FRAME_RATES = (25.0, 30000 / 1001, 30.0, 60.0)
LENGTHS = (10, 64, 250, 300)


def slowfast_views(n: int, fps: float, frames: int, rate: int, num_views: int) -> list[list[int]]:
    """SlowFast's get_start_end_idx (offset sampling) and temporal_sampling, in exact arithmetic."""
    fps_exact = Fraction(fps).limit_denominator(2000)
    span = max(frames * rate * fps_exact / 30, Fraction(1))
    room = max(n - span, Fraction(0))
    views = []
    for view in range(num_views):
        start = room / 2 // 1 if num_views == 1 else view * (room / (num_views - 1) // 1)
        positions = [start + i * (span - 1) / max(frames - 1, 1) for i in range(frames)]
        views.append([min(int(position // 1), n - 1) for position in positions])
    return views


@pytest.mark.parametrize("fps", FRAME_RATES)
@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize(("frames", "rate"), [(16, 4), (32, 3), (8, 8), (1, 1)])
def test_test_views_are_slowfasts(fps: float, n: int, frames: int, rate: int) -> None:
    shape = clip_shape("slowfast", frames, rate, fps, 30.0)
    for num_views in (1, 2, 5, 10):
        found = uniform_clips(shape, n, num_views)
        assert found.tolist() == slowfast_views(n, fps, frames, rate, num_views)


def test_known_frames_of_a_16x4_clip() -> None:
    shape = clip_shape("slowfast", 16, 4, 30.0, 30.0)
    known = [0, 4, 8, 12, 16, 21, 25, 29, 33, 37, 42, 46, 50, 54, 58, 63]
    assert shape.offsets.tolist() == known
    assert uniform_clips(shape, 64, 1).tolist() == [known]
    assert uniform_clips(shape, 300, 5)[:, 0].tolist() == [0, 59, 118, 177, 236]
    assert uniform_clips(shape, 250, 1)[0, 0] == 93
    at_60 = clip_shape("slowfast", 16, 4, 60.0, 30.0)
    assert at_60.offsets.tolist()[:6] == [0, 8, 16, 25, 33, 42] and at_60.offsets[-1] == 127
    at_25 = clip_shape("slowfast", 16, 4, 25.0, 30.0)
    assert at_25.offsets.tolist()[:6] == [0, 3, 6, 10, 13, 17] and at_25.offsets[-1] == 52


@pytest.mark.parametrize(("frames", "rate"), [(8, 8), (16, 4), (32, 3), (40, 3), (64, 3), (4, 16)])
def test_offsets_are_those_of_slowfasts_linspace(frames: int, rate: int) -> None:
    positions = torch.linspace(0, frames * rate - 1, frames).long()
    assert clip_shape("slowfast", frames, rate, 30.0, 30.0).offsets.tolist() == positions.tolist()


def test_stride_is_exact_at_any_frame_rate() -> None:
    for fps in FRAME_RATES:
        shape = clip_shape("stride", 16, 4, fps, 30.0)
        assert shape.offsets.tolist() == list(range(0, 61, 4))
        assert uniform_clips(shape, 300, 5)[:, 0].tolist() == [0, 59, 118, 177, 236]


def test_a_short_video_repeats_its_last_frame() -> None:
    for sampling in ("slowfast", "stride"):
        clip = uniform_clips(clip_shape(sampling, 16, 4, 30.0, 30.0), 10, 1)[0]
        assert clip.tolist() == [0, 4, 8] + [9] * 13


@given(
    n=st.integers(1, 400),
    fps=st.floats(1, 240),
    sampling=st.sampled_from(["slowfast", "stride"]),
    seed=st.integers(0, 2**32),
)
def test_training_clips_keep_their_shape_and_stay_inside(
    n: int, fps: float, sampling: str, seed: int
) -> None:
    shape = clip_shape(sampling, 16, 4, fps, 30.0)
    clip = random_clip(shape, n, np.random.default_rng(seed))
    assert clip.min() >= 0 and clip.max() < n
    inside = clip < n - 1
    assert ((clip - clip[0]) == shape.offsets)[inside].all()


def test_every_start_is_drawn_equally_often() -> None:
    shape = clip_shape("slowfast", 16, 4, 30.0, 30.0)
    rng = np.random.default_rng(0)
    starts = np.bincount([random_clip(shape, 67, rng)[0] for _ in range(4000)])
    assert len(starts) == 4 and (abs(starts - 1000) < 120).all()


def slowfast_segments(n: int, frames: int) -> list[tuple[int, int]]:
    """Segment bounds of SlowFast's Ssv2.get_seq_frames."""
    size = float(n - 1) / frames
    return [(int(np.round(size * i)), int(np.round(size * (i + 1)))) for i in range(frames)]


@pytest.mark.parametrize("n", LENGTHS)
def test_segments_are_slowfasts_where_the_file_runs_at_the_target_rate(n: int) -> None:
    bounds = slowfast_segments(n, 16)
    middles = [(first + last) // 2 for first, last in bounds]
    assert middle_segments(16, n, 30.0, 30.0, 1).tolist() == [middles]
    rng = np.random.default_rng(0)
    drawn = np.array([random_segments(16, n, 30.0, 30.0, rng) for _ in range(500)])
    assert drawn.min(axis=0).tolist() == [first for first, _ in bounds]
    assert drawn.max(axis=0).tolist() == [last for _, last in bounds]


def ffmpeg_shows(n: int, fps: int, target: int) -> list[int]:
    """Which of n frames ffmpeg's fps filter shows, one after the other."""
    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=16, height=16, format="gray", time_base=Fraction(1, fps), name="in"
    )
    rate, sink = graph.add("fps", f"fps={target}"), graph.add("buffersink")
    source.link_to(rate)
    rate.link_to(sink)
    graph.configure()
    shown = []
    for i in range(n):
        frame = av.VideoFrame.from_ndarray(np.full((16, 16), i, dtype=np.uint8), format="gray")
        frame.pts, frame.duration, frame.time_base = i, 1, Fraction(1, fps)
        graph.push(frame)
    graph.push(None)
    while True:
        try:
            shown.append(int(graph.pull().to_ndarray()[0, 0]))
        except (av.error.BlockingIOError, av.error.EOFError):
            return shown


@pytest.mark.parametrize("fps", [12, 10, 24, 25, 30])
@pytest.mark.parametrize("n", [48, 37])
def test_ssv2_frames_are_those_of_files_resampled_by_ffmpeg(fps: int, n: int) -> None:
    shown = ffmpeg_shows(n, fps, 30)
    middles = [(first + last) // 2 for first, last in slowfast_segments(len(shown), 16)]
    found = middle_segments(16, n, float(fps), 30.0, 1)[0]
    assert found.tolist() == [shown[tick] for tick in middles]


def test_several_views_of_segments_differ_and_stay_in_their_segments() -> None:
    views = middle_segments(8, 300, 30.0, 30.0, 3)
    bounds = np.array(slowfast_segments(300, 8))
    assert len(np.unique(views, axis=0)) == 3
    assert (views >= bounds[:, 0]).all() and (views <= bounds[:, 1]).all()
