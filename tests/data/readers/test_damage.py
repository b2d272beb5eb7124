"""What is no video, and what is a broken one: one kind of error, in one line, and never a wrong or repeated frame."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import wave
from pathlib import Path

import av
import numpy as np
import pytest

from mvit_video.data.readers import make_reader
from mvit_video.data.readers.decord_reader import why_not
from mvit_video.data.readers.index import packets_of
from mvit_video.data.readers.pyav_reader import open_video
from mvit_video.errors import VideoError
from tests.data.readers.sequential import sequential
from tests.data.readers.videos import number_in

READ_ALL = """
import json, logging, sys
from mvit_video.data.readers import make_reader
from mvit_video.errors import VideoError
logging.disable()
told = {}
for path in json.load(sys.stdin):
    for name in ("pyav", "decord"):
        try:
            make_reader(name).read(path, [0, 22])
            told[path + name] = "no error"
        except VideoError as error:
            told[path + name] = error.reason
print(json.dumps(told))
"""


def damage(source: Path, folder: Path, packet: int) -> Path:
    """A copy of a video with noise in place of the pixels of one packet, by its number in decoding order."""
    target = folder / f"damaged-{source.name}"
    with av.open(str(source)) as container:
        packets = [p for p in container.demux(video=0) if p.size]
    data = bytearray(source.read_bytes())
    begin, end = packets[packet].pos + 16, packets[packet].pos + packets[packet].size
    data[begin:end] = np.random.default_rng(0).bytes(end - begin)
    target.write_bytes(data)
    return target


def bad_files(folder: Path, good: Path) -> dict[str, str]:
    """Files that are no videos, and a word that the reason must hold."""
    bad = {"missing.mp4": "No such file", "dangling.mp4": "No such file", "nul\0.mp4": "null"}
    (folder / "dangling.mp4").symlink_to(folder / "nowhere.mp4")
    contents = {
        "empty.mp4": (b"", "empty"),
        "text.mp4": (b"hello world\n" * 99, "Invalid data"),
        "text.txt": (b"hello world\n" * 99, "text"),
        "noise.mp4": (np.random.default_rng(0).bytes(5000), "Invalid data"),
        "zeros.mp4": (bytes(5000), "Invalid data"),
        "list.mp4": (f"ffconcat version 1.0\nfile {good.name}\n".encode(), "list"),
        "list.m3u8": (b"#EXTM3U\n#EXTINF:9,\nhttp://192.0.2.1/x.ts\n#EXT-X-ENDLIST\n", ""),
        "unknown.mp4": (good.read_bytes().replace(b"avc1", b"zzzz"), "cannot decode"),
        "half.mp4": (good.read_bytes()[:2000], "Invalid data"),
    }
    for name, (data, word) in contents.items():
        (folder / name).write_bytes(data)
        bad[name] = word
    os.mkdir(folder / "directory.mp4")
    bad["directory.mp4"] = "directory"
    os.mkfifo(folder / "pipe.mp4")
    bad["pipe.mp4"] = "regular file"
    with wave.open(str(folder / "sound.wav"), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(8000))
    bad["sound.wav"] = "no video stream"
    with av.open(str(folder / "sound.m4a"), "w") as container:
        stream = container.add_stream("aac", rate=8000, layout="mono")
        for k in range(4):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            frame.rate, frame.pts = 8000, 1024 * k
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    bad["sound.m4a"] = "no video stream"
    return bad


def test_what_is_no_video_is_told_in_one_line_and_nothing_hangs(folder, tmp_path):
    good = tmp_path / "good.mp4"
    shutil.copy(folder / "closed.mp4", good)
    bad = bad_files(tmp_path, good)
    damaged = damage(folder / "no_b.mp4", tmp_path, packet=20)
    paths = [str(tmp_path / name) for name in bad] + ["/dev/null", str(damaged)]
    done = subprocess.run(
        [sys.executable, "-c", READ_ALL],
        input=json.dumps(paths),
        text=True,
        capture_output=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.stderr == ""
    told = json.loads(done.stdout)
    for name, word in bad.items():
        for reader in ("pyav", "decord"):
            reason = told[str(tmp_path / name) + reader]
            assert word in reason and reason != "no error", name
            assert "\n" not in reason and str(tmp_path) not in reason


def test_the_error_travels_between_processes(tmp_path):
    with pytest.raises(VideoError) as raised:
        make_reader("decord").probe(str(tmp_path / "x.mp4"))
    error = pickle.loads(pickle.dumps(raised.value))
    assert (error.path, error.reason) == (str(tmp_path / "x.mp4"), "No such file or directory")


def test_a_cover_picture_is_no_video(tmp_path):
    path = tmp_path / "song.mp3"
    with av.open(str(path), "w") as container:
        sound = container.add_stream("mp3", rate=44100, layout="mono")
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 64, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        picture = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
        container.mux(cover.encode(picture))
        container.mux(cover.encode())
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1152), np.float32), "fltp", "mono")
        silence.rate = 44100
        container.mux(sound.encode(silence))
        container.mux(sound.encode())
    with pytest.raises(VideoError, match="cover picture"):
        make_reader("pyav").probe(str(path))


def test_too_many_promised_frames_are_not_believed(folder):
    info = make_reader("decord").probe(str(folder / "over_reported.avi"))
    assert info.num_frames == 40


@pytest.mark.parametrize("share", [0.4, 0.6, 0.8, 0.9, 0.97])
@pytest.mark.parametrize(
    "name",
    [
        *("index_first.mp4", "fragments.mp4", "closed.mkv", "closed.ts", "vp8.webm", "mpeg4.avi"),
        *("mpeg4_b.avi", "packed.avi", "mpeg2.mpg", "closed.flv", "closed.h264", "hevc.mkv"),
    ],
)
def test_of_a_file_that_was_cut_off_all_that_is_whole_can_be_read(name, share, folder, tmp_path):
    data = (folder / name).read_bytes()
    path = tmp_path / name
    path.write_bytes(data[: int(len(data) * share)])
    try:
        expected = sequential(path)
    except av.error.FFmpegError:
        expected = []
    for reader in ("pyav", "decord"):
        try:
            frames, info = make_reader(reader).read(str(path), lambda info: range(info.num_frames))
        except VideoError as error:
            assert len(expected) < 2, error
            continue
        assert 0 <= len(expected) - info.num_frames <= 3  # those that the cut has damaged
        numbers = [number_in(frame) for frame in frames]
        assert numbers == sorted(set(numbers))
        np.testing.assert_array_equal(frames, expected[: info.num_frames])


def test_decord_does_not_get_a_file_that_ends_between_two_packets(folder, tmp_path):
    with av.open(str(folder / "index_first.mp4")) as container:
        packets = [p for p in container.demux(video=0) if p.size]
    path = tmp_path / "cut.mp4"
    path.write_bytes((folder / "index_first.mp4").read_bytes()[: packets[24].pos])
    with open_video(path) as video:
        assert video.info.num_frames == 24
        assert why_not(video) == "missing packets"


def test_a_damaged_frame_and_those_predicted_from_it_are_errors(folder, tmp_path, truth):
    path = str(damage(folder / "no_b.mp4", tmp_path, packet=20))  # a key frame every 12
    read, whole = make_reader("pyav").read, truth(folder / "no_b.mp4")
    for wanted in ([0, 11, 19], [24, 39], [3, 39]):
        np.testing.assert_array_equal(read(path, wanted)[0], [whole[i] for i in wanted])
    for wanted in ([20], [23], [0, 21], [39, 22]):
        with pytest.raises(VideoError, match=r"damaged at or before frame 2[0-3]"):
            read(path, wanted)


def test_damage_is_noticed_where_b_pictures_shown_before_it_were_predicted_from_it(
    folder, tmp_path
):
    with av.open(str(folder / "closed.mp4")) as container:
        times = [p.pts for p in container.demux(video=0) if p.size]
    held_back = next(k for k in range(1, 40) if times[k] > times[k + 1])
    shown_at = sorted(times).index(times[held_back])
    path = str(damage(folder / "closed.mp4", tmp_path, packet=held_back))
    with pytest.raises(VideoError, match="damaged"):
        make_reader("pyav").read(path, [shown_at - 1])


def test_of_a_counted_file_only_what_lies_before_the_damage_is_read(folder, tmp_path, truth):
    path = str(damage(folder / "mpeg4_b.avi", tmp_path, packet=20))
    for reader in ("pyav", "decord"):
        frames, _ = make_reader(reader).read(path, range(12))
        np.testing.assert_array_equal(frames, truth(folder / "mpeg4_b.avi")[:12])
        with pytest.raises(VideoError, match="damaged"):
            make_reader(reader).read(path, [30])


def test_a_stream_that_begins_in_the_middle_of_the_file_is_passed_over(folder):
    class Container:
        """As PyAV's: fails once, at a packet of a stream that it does not know, then goes on."""

        def __init__(self, container):
            self.container, self.failed = container, False

        def demux(self, stream):
            for k, packet in enumerate(self.container.demux(stream)):
                yield packet
                if k == 9 and not self.failed:
                    self.failed = True
                    raise IndexError("list index out of range")

    with av.open(str(folder / "mpeg2.ts")) as container:
        packets = list(packets_of(Container(container), container.streams.video[0]))
    assert len(packets) == 40


def test_a_picture_that_went_in_must_come_out(folder, monkeypatch):
    monkeypatch.setattr("mvit_video.data.readers.index._doubt", lambda *facts: None)
    reader = make_reader("pyav")
    assert reader.read(str(folder / "hidden_vp8.webm"), [3])[1].num_frames == 40  # it is 39
    with pytest.raises(VideoError, match="loses a picture at or before frame 18"):
        reader.read(str(folder / "hidden_vp8.webm"), [18])


@pytest.fixture
def nobody():
    """For the length of a test, root is somebody who may not read everything."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    yield
    os.seteuid(user)


def test_a_file_that_may_not_be_read_is_told(nobody):
    with (
        tempfile.TemporaryDirectory() as place
    ):  # pytest's own folders are closed to others altogether
        path = Path(place, "secret.mp4")
        path.write_bytes(b"not empty")
        path.chmod(0)
        for reader in ("pyav", "decord"):
            with pytest.raises(VideoError, match="Permission denied"):
                make_reader(reader).read(str(path), [0])
