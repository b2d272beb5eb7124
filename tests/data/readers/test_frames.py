"""Frame i is the i-th frame of a sequential decode: for every reader, kind of file and pattern of access."""

from __future__ import annotations

import pickle
import random
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mvit_video.data.readers import READERS, VideoInfo, make_reader
from mvit_video.data.readers.decord_reader import why_not
from mvit_video.data.readers.pyav_reader import Video, open_video
from mvit_video.errors import InputError
from tests.data.readers.videos import SIZE, VIDEOS, number_in

ORDINARY = [
    *("closed.mp4", "closed.mkv", "closed.mov", "no_b.mp4", "intra.mp4", "short_gop.mp4"),
    *("scene_cuts.mp4", "long_gop.mp4", "fragments.mp4", "index_first.mp4", "no_cues.mkv"),
    *("variable_rate.mp4", "variable_rate.webm", "full_range.mp4", "gray.mp4", "one_frame.mp4"),
    *("narrow_16.mp4", "narrow_24.mp4", "narrow_48.mp4", "narrow_72.mp4", "odd_width.webm"),
    *("vp8.webm", "vp9.webm"),
]
"""The videos that decord may read. It fails on some (narrow ones, no cues), and says so; then PyAV reads them."""

COUNTED = [
    *("closed.flv", "closed.ts", "closed.avi", "closed.h264", "phantom.mp4", "hidden_vp8.webm"),
    *(
        "superframe_vp9.webm",
        "mpeg4_b.avi",
        "packed.avi",
        "placeholder.avi",
        "latin1_tags.avi",
        "mpeg2.mpg",
    ),
    *("mpeg2.ts", "motion_jpeg.avi", "lossless.mkv"),
]
"""The videos whose packets do not prove which frame is which."""


def patterns(count: int, seed: int = 0) -> list[list[int]]:
    """Lists of frame numbers, as training, testing and people ask for them."""
    chance = random.Random(seed)
    clips = [[min(start + 4 * k, count - 1) for k in range(16)] for start in (0, count // 2)]
    scattered = [[chance.randrange(count) for _ in range(8)] for _ in range(3)]
    sparse = [*range(0, count, max(count // 3, 1)), count - 1]
    return [*clips, *scattered, sparse, list(range(count))[::-1], [count - 1, 0, 0], [count // 2]]


def test_the_videos_show_their_numbers_when_decoded_in_sequence(made, truth):
    for path, numbers in made.items():
        assert [number_in(frame) for frame in truth(path)] == numbers, path.name


@pytest.mark.parametrize("name", VIDEOS)
@pytest.mark.parametrize("reader", ["pyav", "decord"])
def test_frames_are_those_of_a_sequential_decode(reader, name, folder, made, truth):
    path, expected = folder / name, truth(folder / name)
    for wanted in patterns(len(expected)):
        frames, info = make_reader(reader).read(str(path), wanted)
        assert info.num_frames == len(expected)
        assert (info.height, info.width) == expected[0].shape[:2]
        assert frames.shape == (len(wanted), info.height, info.width, 3)
        assert frames.dtype == np.uint8
        assert [number_in(frame) for frame in frames] == [made[path][i] for i in wanted]
        for frame, i in zip(frames, wanted, strict=True):
            np.testing.assert_array_equal(frame, expected[i])


@pytest.mark.parametrize("reader", ["pyav", "decord"])
@pytest.mark.parametrize("name", ["closed.mp4", "open.mp4", "hevc.mp4", "packed.avi", "vp9.webm"])
def test_any_list_of_frames_gives_the_frames_of_a_sequential_decode(reader, name, folder, truth):
    path, expected = folder / name, truth(folder / name)

    @settings(max_examples=25, deadline=None)
    @given(st.lists(st.integers(0, len(expected) - 1), max_size=12))
    def check(wanted: list[int]) -> None:
        frames, _ = make_reader(reader).read(str(path), wanted)
        np.testing.assert_array_equal(
            frames, np.reshape([expected[i] for i in wanted], frames.shape)
        )

    check()


def test_decord_gets_the_files_that_it_reads_exactly_and_no_other(made):
    allowed = []
    for path in made:
        with open_video(path) as video:
            if why_not(video) is None:
                allowed.append(path.name)
    assert sorted(allowed) == sorted(ORDINARY)


def test_frame_numbers_are_proven_by_packets_wherever_they_can_be(made):
    doubted = []
    for path in made:
        with open_video(path) as video:
            if video.index.doubt:
                doubted.append(path.name)
    assert sorted(doubted) == sorted(COUNTED)


@pytest.mark.parametrize("name", sorted(set(VIDEOS) - set(COUNTED)))
def test_what_is_proven_is_read_by_seeking_alone(name, folder, monkeypatch):
    with open_video(folder / name) as video:
        monkeypatch.setattr(Video, "_open", lambda self: pytest.fail("begun anew"))
        for wanted in patterns(video.info.num_frames):
            assert len(video.read(wanted)) == len(wanted)


def test_only_the_wanted_stretches_are_decoded(folder, monkeypatch):
    decoded = []
    original = Video._decode
    monkeypatch.setattr(
        Video, "_decode", lambda *args: (decoded.append(f) or f for f in original(*args))
    )
    with open_video(folder / "no_b.mp4") as video:
        decoded.clear()
        video.read([1, 3, 26, 38])
    assert len(decoded) == 4 + 3 + 3  # from 0 to 3, from 24 to 26, from 36 to 38


def test_decord_itself_reads_where_it_may(folder, monkeypatch):
    import decord

    opened = []
    original = decord.VideoReader
    monkeypatch.setattr(
        decord, "VideoReader", lambda path, **how: opened.append(path) or original(path, **how)
    )
    for name in ("closed.mp4", "closed.mkv", "vp8.webm", "vp9.webm", "open.mp4", "hevc.mp4"):
        make_reader("decord").read(str(folder / name), [3])
    assert [path.rsplit("/", 1)[1] for path in opened] == [
        *("closed.mp4", "closed.mkv", "vp8.webm", "vp9.webm")
    ]


def test_a_file_that_decord_must_not_read_is_told_once(folder, caplog, monkeypatch):
    monkeypatch.setattr("mvit_video.data.readers.decord_reader._said", set())
    for name in ("hevc.mp4", "hevc.mp4", "hevc.mkv", "open.mp4", "open.mkv"):
        make_reader("decord").read(str(folder / name), [0])
    kinds = [record.getMessage().split(": ")[1] for record in caplog.records]
    assert len(kinds) == len(set(kinds)) == 3
    assert "hevc.mp4" in caplog.text


def test_a_frame_that_decord_repeats_is_read_again(folder, truth, monkeypatch):
    import decord

    class Repeating(decord.VideoReader):
        def get_batch(self, indices):
            return super().get_batch([indices[0]] * len(indices))

    monkeypatch.setattr(decord, "VideoReader", Repeating)
    frames, _ = make_reader("decord").read(str(folder / "closed.mp4"), [4, 9])
    np.testing.assert_array_equal(frames[1], truth(folder / "closed.mp4")[9])


@pytest.mark.parametrize("name", READERS)
def test_readers_travel_between_processes(name, folder):
    reader = pickle.loads(pickle.dumps(make_reader(name)))
    assert reader.probe(str(folder / "vp8.webm")) == VideoInfo(40, 25.0, *SIZE)


def test_an_unknown_reader_is_refused():
    with pytest.raises(InputError, match=r"'opencv'.*decord, pyav, auto"):
        make_reader("opencv")


@pytest.mark.parametrize("reader", ["pyav", "decord"])
def test_frames_and_size_may_depend_on_the_video_and_are_asked_once(reader, folder):
    asked = []

    def last_two(info: VideoInfo) -> list[int]:
        asked.append(info)
        return [info.num_frames - 1, info.num_frames - 2]

    def half(info: VideoInfo) -> tuple[int, int]:
        asked.append(info)
        return info.height // 2, info.width // 2

    for name in ("closed.mp4", "packed.avi"):
        asked.clear()
        frames, info = make_reader(reader).read(str(folder / name), last_two, half)
        assert asked == [info, info]
        assert frames.shape == (2, 32, 48, 3)
        assert [number_in(frame) for frame in frames] == [39, 38]


@pytest.mark.parametrize("reader", ["pyav", "decord"])
@pytest.mark.parametrize("name", ["closed.mp4", "rotated_90.mp4", "vp8.webm", "odd_height.webm"])
def test_size_is_height_and_width_of_the_upright_picture(reader, name, folder, truth):
    wanted = [0, 5, 20]
    frames, info = make_reader(reader).read(str(folder / name), wanted, (80, 112))
    assert frames.shape == (3, 80, 112, 3)
    assert [number_in(frame) for frame in frames] == wanted
    assert (info.height, info.width) == truth(folder / name)[0].shape[:2]


def test_pictures_stand_upright(folder):
    upright, _ = make_reader("pyav").read(str(folder / "closed.mp4"), [10])
    for turns in (90, 180, 270):
        frames, info = make_reader("pyav").read(str(folder / f"rotated_{turns}.mp4"), [10])
        assert number_in(frames[0]) == 10
        if turns == 180:
            assert np.abs(frames[0].astype(int) - upright[0]).mean() < 6
        else:
            assert (info.width, info.height) == SIZE[::-1]


def test_no_frames_are_an_empty_array(folder):
    for reader in ("pyav", "decord"):
        assert make_reader(reader).read(str(folder / "closed.mp4"), [])[0].shape == (0, 64, 96, 3)


@pytest.mark.parametrize("wanted", [[40], [-1], [0, 1000]])
def test_a_frame_number_outside_of_the_video_is_an_index_error(wanted, folder):
    for reader in ("pyav", "decord"):
        with pytest.raises(IndexError, match="40 frames"):
            make_reader(reader).read(str(folder / "closed.mp4"), wanted)


def test_the_rate_is_that_of_the_frames_shown(folder):
    probe = make_reader("pyav").probe
    assert probe(str(folder / "edited.mp4")).fps == pytest.approx(25)
    for name in ("variable_rate.mp4", "variable_rate.webm", "variable_rate.avi"):
        assert probe(str(folder / name)).fps == pytest.approx(4, abs=0.3), name


@pytest.mark.parametrize("reader", ["pyav", "decord"])
@pytest.mark.parametrize(
    "name", ["with space.mp4", "quo'te\".mp4", "héllo 视频.mp4", "a:b.mp4", "%03d.mp4", "-x.mp4"]
)
def test_any_file_name_will_do(reader, name, folder, tmp_path, monkeypatch):
    shutil.copy(folder / "closed.mp4", tmp_path / name)
    monkeypatch.chdir(tmp_path)
    for path in (name, str(tmp_path / name)):
        frames, _ = make_reader(reader).read(path, [30])
        assert number_in(frames[0]) == 30
