"""Overlays: frames, times, sound and size of the copy are those of the original, and the labels are there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from mvit_video.data.readers.stream import open_stream
from mvit_video.errors import InputError, VideoError
from mvit_video.predict.drawing import Panel
from mvit_video.predict.overlay import labels_of, write_overlay
from mvit_video.predict.results import ClassScore

RATE = 44100


def nothing(_: float) -> tuple[ClassScore, ...]:
    return (ClassScore(0, "walking", 0.7),)


@dataclass(frozen=True)
class Facts:
    """Of a file, as FFmpeg decodes it."""

    times: np.ndarray
    duration: float
    size: tuple[int, int]
    sound: bytes
    sound_begins: float
    last: np.ndarray


def facts(path: Path) -> Facts:
    times, sound, begins = [], b"", []
    with av.open(str(path), metadata_errors="ignore") as container:
        video = container.streams.video[0]
        for packet in container.demux():
            if packet.stream.type == "audio" and packet.size:
                sound += bytes(packet)
                begins.append(float(packet.pts * packet.time_base))
            for frame in packet.decode() if packet.stream.type == "video" else ():
                times.append(float((frame.pts or 0) * video.time_base))
                last = frame.to_ndarray(format="rgb24")
        duration = container.duration / av.time_base
    height, width = last.shape[:2]
    return Facts(np.array(times), duration, (height, width), sound, min(begins, default=0.0), last)


def write_source(
    path: Path,
    times: np.ndarray,
    size: tuple[int, int] = (48, 64),
    sound: str = "aac",
    sound_from: float = 0.0,
) -> None:
    """Grey frames shown at `times` (seconds), and a tone as long."""
    pixels = "yuv420p" if size[0] % 2 == size[1] % 2 == 0 else "yuv444p"
    unit = Fraction(1, 12800)
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=30, options={"bf": "2"})
        video.height, video.width, video.pix_fmt = *size, pixels
        video.codec_context.time_base = unit
        if sound:
            audio = container.add_stream(sound, rate=RATE, layout="mono")
        for time in times:
            frame = av.VideoFrame.from_ndarray(np.full((*size, 3), 128, np.uint8), format="rgb24")
            frame.pts, frame.time_base = round(time / unit), unit
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if sound:
            wave = np.sin(np.arange(int(RATE * times[-1])) / 20).astype(np.float32)
            for begin in range(0, len(wave) - 1023, 1024):
                samples = (30000 * wave[None, begin : begin + 1024]).astype(np.int16)
                frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
                frame.sample_rate, frame.pts = RATE, begin + round(sound_from * RATE)
                container.mux(audio.encode(frame))
            container.mux(audio.encode(None))


CONSTANT = np.arange(60) / 30
VARIABLE = np.cumsum(np.random.default_rng(0).integers(1, 2000, 60)) / 12800


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("times", [CONSTANT, VARIABLE], ids=["constant", "variable"])
def test_frames_times_and_sound_are_those_of_the_original(tmp_path, times, suffix):
    source, target = tmp_path / "source.mp4", tmp_path / f"target{suffix}"
    write_source(source, times - times[0])
    write_overlay(source, target, nothing)
    before, after = facts(source), facts(target)
    if suffix == ".mkv":  # which has no times below 0: the sound's lead-in moves all
        before, after = (replace(f, times=f.times - f.sound_begins) for f in (before, after))
    rounding = 1e-6 if suffix == ".mp4" else 2e-3  # Matroska counts milliseconds
    np.testing.assert_allclose(after.times, before.times, atol=rounding)
    assert len(after.times) == 60
    assert after.duration == pytest.approx(before.duration, abs=0.03)
    assert after.sound == before.sound
    assert len(after.sound) > 1000
    assert after.size == before.size
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source.mp4", target.name]


def test_sound_that_begins_later_still_does(tmp_path):
    write_source(tmp_path / "source.mp4", CONSTANT, sound_from=0.5)
    write_overlay(tmp_path / "source.mp4", tmp_path / "target.mp4", nothing)
    before, after = facts(tmp_path / "source.mp4"), facts(tmp_path / "target.mp4")
    assert before.sound_begins > 0.4
    assert after.sound_begins == pytest.approx(before.sound_begins, abs=1e-3)


def test_a_file_that_begins_late_begins_at_zero_and_stays_in_step(tmp_path):
    write_source(tmp_path / "source.ts", CONSTANT + 5, sound_from=5)
    write_overlay(tmp_path / "source.ts", tmp_path / "target.mp4", nothing)
    before, after = facts(tmp_path / "source.ts"), facts(tmp_path / "target.mp4")
    assert before.times[0] > 1
    assert after.times[0] < 0.1
    np.testing.assert_allclose(np.diff(after.times), np.diff(before.times), atol=2e-4)
    apart = before.times[0] - before.sound_begins
    assert after.times[0] - after.sound_begins == pytest.approx(apart, abs=0.03)


@pytest.mark.parametrize("size", [(49, 65), (49, 64), (48, 33), (16, 16), (33, 200)])
def test_any_size_will_do(tmp_path, size):
    write_source(tmp_path / "source.mp4", CONSTANT[:5], size, sound="")
    write_overlay(tmp_path / "source.mp4", tmp_path / "target.mp4", nothing)
    after = facts(tmp_path / "target.mp4")
    assert after.size == tuple(side + side % 2 for side in size)
    assert len(after.times) == 5
    assert not after.sound


def test_labels_come_when_they_are_on(tmp_path):
    write_source(tmp_path / "source.mp4", VARIABLE - VARIABLE[0], (96, 128))
    middle = (VARIABLE[-1] - VARIABLE[0]) / 2

    def labels(seconds: float) -> tuple[ClassScore, ...]:
        return (ClassScore(0, "", 1.0),) if seconds >= middle else ()

    write_overlay(tmp_path / "source.mp4", tmp_path / "target.mkv", labels)
    with av.open(str(tmp_path / "target.mkv")) as container:
        for frame in container.decode(video=0):
            red, _, blue = frame.to_ndarray(format="rgb24")[4:10, 4:40].mean((0, 1))
            assert (blue - red > 60) == (frame.time >= middle - 1e-3), frame.time


def test_a_turned_video_is_written_upright(shared, tmp_path):
    source = shared / "clips" / "decord_rot90.mov"
    write_overlay(source, tmp_path / "target.mp4", nothing)
    assert facts(tmp_path / "target.mp4").size == (568, 320)


def test_sound_without_a_place_is_an_error_that_names_one_with(tmp_path):
    write_source(tmp_path / "source.mov", CONSTANT, sound="pcm_mulaw")
    with pytest.raises(VideoError, match=r"pcm_mulaw sound .* \.mov"):
        write_overlay(tmp_path / "source.mov", tmp_path / "target.mp4", nothing)
    assert [path.name for path in tmp_path.iterdir()] == ["source.mov"]
    write_overlay(tmp_path / "source.mov", tmp_path / "target.mov", nothing)
    assert facts(tmp_path / "target.mov").sound == facts(tmp_path / "source.mov").sound


REAL = [
    "decord_unordered.mov",  # times out of order
    "hmdb_TrumanShow_wave.avi",  # no times, and no frame at the first
    "ucf_SoccerJuggling_g23_c01.avi",  # pictures packed two to a packet
    "mma_test.avi",  # sound: MP3
    "decord_flipping_a_pancake.mkv",  # sound: AAC
    "ssv2_121896_with_masks.webm",
    "tc_h264_10bits.mp4",
    "tc_av1.mkv",
]


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_a_real_clip_keeps_its_frames_length_and_sound(shared, tmp_path, name):
    source, target = shared / "clips" / name, tmp_path / "target.mp4"
    write_overlay(source, target, nothing)
    before, after = facts(source), facts(target)
    assert len(after.times) == len(before.times)
    assert after.sound == before.sound
    assert after.duration == pytest.approx(before.duration, abs=0.05)
    with open_stream(source) as stream:
        shown = [timed.begin for timed in stream]
    np.testing.assert_allclose(after.times - after.times[0], shown, atol=2e-3)


def test_what_cannot_be_written_leaves_nothing(tmp_path):
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(VideoError):
        write_overlay(tmp_path / "text.mp4", tmp_path / "target.mp4", nothing)
    with pytest.raises(InputError, match="suffix"):
        write_overlay(tmp_path / "text.mp4", tmp_path / "target.avi", nothing)
    with pytest.raises(OSError):
        write_overlay(tmp_path / "text.mp4", tmp_path / "text.mp4" / "target.mp4", nothing)
    assert [path.name for path in tmp_path.iterdir()] == ["text.mp4"]


def test_the_panel_shows_scores_as_bars_and_shortens_names():
    picture = np.full((240, 320, 3), 100, np.uint8)
    top = (ClassScore(0, "a name that has no room at all " * 9, 0.5), ClassScore(1, "\x1b\n", 0.0))
    Panel(240, 320).draw(picture, top)
    blue = picture[..., 2].astype(int) - picture[..., 0] > 60
    assert blue[8].sum() == pytest.approx(0.5 * (picture[0, :, 0] != 100).sum(), abs=40)
    assert (picture[60:] == 100).all()


def test_a_timeline_labels_each_moment_by_its_nearest_window(recognizer, trained):
    found = recognizer.timeline(trained.videos / "test_0.mp4", 0.2, 0.1)
    labels = labels_of(found, recognizer.class_names, 2)
    centres = found.windows.mean(axis=1)
    for seconds in np.linspace(0, found.duration, 23):
        nearest = found.scores[np.abs(centres - seconds).argmin()]
        assert labels(seconds)[0].score == pytest.approx(nearest.max())
        assert len(labels(seconds)) == 2
