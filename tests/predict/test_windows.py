"""Windows over timed frames: which pictures they see, and how much they hold."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mvit_video.data.preprocessing import Preprocessing
from mvit_video.errors import InputError
from mvit_video.predict.windows import Window, WindowPlan, Windows

SLOWFAST = Preprocessing(4, 2, "slowfast", 30.0, 36, 32, (0.45,) * 3, (0.225,) * 3, False)


def picture(number: int) -> torch.Tensor:
    return torch.full((3, 1, 1), number)


def cut(times: list[float], plan: WindowPlan) -> list[Window]:
    """Windows over frames 0, 1, ... that begin at `times`, the last of which is the end."""
    frames = zip(times, times[1:], range(len(times)), strict=False)
    return list(Windows(frames, plan, picture))


def numbers(window: Window) -> list[list[int]]:
    """Frame numbers of each clip."""
    return window.clips[:, 0, :, 0, 0].tolist()


def test_a_window_sees_the_frames_that_the_middle_clip_of_the_test_would():
    plan = WindowPlan.of(SLOWFAST, 30.0, length=10 / 30, stride=2 / 30)
    windows = cut([i / 30 for i in range(41)], plan)
    assert [round(w.begin * 30) for w in windows] == list(range(0, 31, 2))
    # 8 of 10 frames, from the second on: steps of 7 / 3 frames.
    assert [numbers(w) for w in windows[:2]] == [[[1, 3, 5, 8]], [[3, 5, 7, 10]]]


def test_a_long_window_is_seen_in_several_clips_and_segments_fill_it():
    plan = WindowPlan.of(SLOWFAST, 30.0, length=1.0, stride=0.5)
    (first, *_) = cut([i / 30 for i in range(61)], plan)
    assert [clip[0] for clip in numbers(first)] == [0, 7, 15, 22]
    segments = WindowPlan.of(replace(SLOWFAST, sampling="segments"), 30.0, 1.0, 0.5)
    (first, *_) = cut([i / 30 for i in range(61)], segments)
    assert numbers(first) == [[3, 11, 18, 26]]


def test_frames_are_chosen_by_the_time_they_are_shown_at():
    plan = WindowPlan(1.0, 1.0, np.array([[0.1, 0.4, 0.6, 0.9]]))
    windows = cut([0, 0.02, 0.04, 0.5, 0.55, 0.7, 1.95, 2.0], plan)
    assert [numbers(w) for w in windows] == [[[2, 2, 4, 5]], [[5, 5, 5, 5]]]


def test_a_clip_longer_than_its_window_begins_with_the_video_and_ends_with_its_last_frame():
    plan = WindowPlan.of(SLOWFAST, 30.0, length=2 / 30, stride=2 / 30)
    windows = cut([i / 30 for i in range(13)], plan)
    assert len(windows) == 6
    assert numbers(windows[0]) == [[0, 2, 4, 7]]
    assert numbers(windows[-1]) == [[7, 9, 11, 11]]


def test_a_video_shorter_than_a_window_has_one():
    plan = WindowPlan.of(SLOWFAST, 30.0, length=1.0, stride=0.5)
    (window,) = cut([0, 1 / 30], plan)
    assert set(window.clips.unique().tolist()) == {0}


def test_a_picture_that_stands_still_for_ages_takes_no_time():
    plan = WindowPlan.of(SLOWFAST, 30.0, length=1.0, stride=0.5)
    windows = cut([0, 0.1, 1e9, 1e9 + 0.2, 1e9 + 2], plan)
    assert len(windows) < 12
    assert windows[-1].end >= 1e9 + 1
    assert all(a.begin < b.begin for a, b in pairwise(windows))


@given(
    st.lists(st.floats(0.001, 3.0), min_size=1, max_size=30),
    st.floats(0.2, 3.0),
    st.floats(0.1, 1.0),
)
def test_every_window_within_the_video_comes_once_and_few_are_held(gaps, length, share):
    times = [0.0, *np.cumsum(gaps)]
    plan = WindowPlan.of(SLOWFAST, 30.0, length, length * share)
    windows = Windows(zip(times, times[1:], range(len(gaps)), strict=False), plan, picture)
    held, begins = 0, []
    for window in windows:
        held = max(held, len(windows._open))
        begins.append(round(window.begin / plan.stride))
        assert window.end <= times[-1] + 0.001 or len(begins) == 1
        for clip, instants in zip(numbers(window), plan.instants + window.begin, strict=True):
            shown = np.searchsorted(times, instants - min(instants.min(), 0), side="right") - 1
            inside = shown < len(gaps)
            assert (np.array(clip) == shown)[inside].all()
    assert begins == sorted(set(begins))
    assert held <= (max(length, 1.0) + 3.0) / plan.stride + 3


@pytest.mark.parametrize(("length", "stride"), [(0, 0), (1, 2), (1, 0), (-1, 1), (float("inf"), 1)])
def test_windows_that_cannot_be_are_refused(length, stride):
    with pytest.raises(InputError, match="window"):
        WindowPlan.of(SLOWFAST, 30.0, length, stride)
