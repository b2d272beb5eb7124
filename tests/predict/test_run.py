"""Many inputs: in order, with the bad ones named, killed and gone on with, in shards."""

from __future__ import annotations

import json
import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from mvit_video.errors import InputError
from mvit_video.launch.cli import run_tool
from mvit_video.predict.request import Outcome, Request, TimelineSettings, shard_file
from mvit_video.predict.run import predict_inputs
from mvit_video.predict.shards import merge_shards
from tests.conftest import REPOSITORY


@pytest.fixture
def folder(trained, tmp_path) -> Path:
    """Nine videos and, in the middle, two files that are none."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for i in range(9):
        os.link(trained.videos / f"test_{i % 7}.mp4", folder / f"{i}.mp4")
    (folder / "4.5.mp4").write_bytes(b"no video" * 99)
    (folder / "4.6.mp4").touch()
    return folder


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_results_stand_in_input_order_and_bad_inputs_are_named(
    recognizer, trained, folder, tmp_path, capfd, num_workers
):
    request = Request((str(folder),), json=str(tmp_path / "out.jsonl"), num_workers=num_workers)
    outcome = predict_inputs(request, recognizer)
    assert outcome == Outcome(11, 11, 2, False)
    found = read(tmp_path / "out.jsonl")
    assert [record["video"] for record in found] == sorted(map(str, folder.iterdir()))
    assert [record["video"] for record in found if "error" in record] == [
        str(folder / "4.5.mp4"),
        str(folder / "4.6.mp4"),
    ]
    for i, record in enumerate(r for r in found if "top" in r):
        scores = trained.predictions.scores[i % 7].mean(axis=0, dtype=np.float64)
        assert [best["score"] for best in record["top"]] == sorted(scores, reverse=True)
    told = capfd.readouterr().err
    assert "2 of 11 inputs failed" in told
    assert "4.6.mp4: is empty" in told


def tool(*words: object, **options) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(REPOSITORY / "tools" / "predict.py"), *map(str, words)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def test_a_run_that_was_killed_goes_on_and_ends_with_the_same_bytes(recognizer, trained, tmp_path):
    videos = tmp_path / "videos"
    videos.mkdir()
    for i in range(150):
        os.link(trained.videos / f"test_{i % 7}.mp4", videos / f"{i:03d}.mp4")
    out = tmp_path / "out.jsonl"
    words = (videos, "--checkpoint", trained.checkpoint, "--device", "cpu", "--json", out)
    killed = tool(*words, "--workers", 1)
    deadline = time.monotonic() + 120
    while not out.exists() or out.read_bytes().count(b"\n") < 3:
        assert killed.poll() is None, killed.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    done_before = out.read_bytes().count(b"\n")
    assert done_before < 150
    with open(out, "ab") as file:
        file.write(b'{"video": "/vid')  # what a kill in the middle of a line leaves
    whole = Request((str(videos),), json=str(tmp_path / "whole.jsonl"))
    predict_inputs(whole, recognizer)
    again = predict_inputs(Request((str(videos),), json=str(out)), recognizer)
    assert again == Outcome(150, 150, 0, False)
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_a_run_that_is_told_to_stop_goes_on_later(recognizer, folder, tmp_path):
    class Stop:
        requested = True

    request = Request((str(folder),), json=str(tmp_path / "out.jsonl"), csv=str(tmp_path / "t.csv"))
    outcomes = [predict_inputs(request, recognizer, Stop()) for _ in range(11)]
    assert [outcome.num_done for outcome in outcomes] == list(range(1, 12))
    assert [outcome.stopped for outcome in outcomes] == [True] * 10 + [False]
    assert outcomes[-1].num_failed == 2
    assert [record["video"] for record in read(tmp_path / "out.jsonl")] == sorted(
        map(str, folder.iterdir())
    )
    assert (tmp_path / "t.csv").read_text().count("\n") == 1 + 9 * 3 + 2


def test_inputs_that_are_added_or_tried_again_take_their_place(recognizer, folder, tmp_path):
    out = tmp_path / "out.jsonl"
    request = Request((str(folder),), json=str(out))
    predict_inputs(request, recognizer)
    lines = out.read_bytes().splitlines(keepends=True)
    os.link(folder / "1.mp4", folder / "0.5.mp4")
    (folder / "4.6.mp4").unlink()
    os.link(folder / "2.mp4", folder / "4.6.mp4")
    out.write_bytes(b"".join(line for line in lines if b"4.6.mp4" not in line))
    assert predict_inputs(request, recognizer) == Outcome(12, 12, 1, False)
    assert [record["video"] for record in read(out)] == sorted(map(str, folder.iterdir()))
    assert set(lines) - set(out.read_bytes().splitlines(keepends=True)) == {
        line for line in lines if b"4.6.mp4" in line
    }


def test_results_of_another_way_of_looking_are_not_mixed(recognizer, folder, tmp_path):
    out = str(tmp_path / "out.jsonl")
    predict_inputs(Request((str(folder),), json=out), recognizer)
    with pytest.raises(InputError, match="another views"):
        predict_inputs(Request((str(folder),), json=out, views="1x1"), recognizer)
    with pytest.raises(InputError, match="another timeline"):
        predict_inputs(Request((str(folder),), json=out, timeline=TimelineSettings()), recognizer)
    (tmp_path / "notes.jsonl").write_text('{"my": "notes"}\n')
    with pytest.raises(InputError, match="notes"):
        predict_inputs(Request((str(folder),), json=str(tmp_path / "notes.jsonl")), recognizer)
    assert (tmp_path / "notes.jsonl").read_text() == '{"my": "notes"}\n'


def test_shards_make_the_whole(recognizer, folder, tmp_path):
    whole = Request((str(folder),), json=str(tmp_path / "whole.jsonl"), csv=str(tmp_path / "w.csv"))
    predict_inputs(whole, recognizer)
    out = tmp_path / "out.jsonl"
    for number in (3, 1):
        predict_inputs(Request((str(folder),), json=str(out), shard=(number, 3)), recognizer)
    merging = Request((str(folder),), json=str(out), csv=str(tmp_path / "o.csv"))
    with pytest.raises(InputError, match=r"4 of 11 inputs have no result: .*1\.mp4.*shard 2 of 3"):
        merge_shards(merging, 3)
    assert not out.exists()
    second = Request((str(folder),), json=str(out), shard=(2, 3))
    predict_inputs(second, recognizer)
    assert merge_shards(merging, 3) == Outcome(11, 11, 2, False)
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert (tmp_path / "o.csv").read_bytes() == (tmp_path / "w.csv").read_bytes()
    cut = shard_file(out, 2, 3)
    cut.write_bytes(b"".join(cut.read_bytes().splitlines(keepends=True)[:-1]))
    with pytest.raises(InputError, match="1 of 11 inputs have no result"):
        merge_shards(merging, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shard": (0, 3), "json": "x"}, "1/3"),
        ({"shard": (4, 3), "json": "x"}, "4/3"),
        ({"shard": (1, 3)}, "--json"),
        ({"srt": "x.srt"}, "--timeline"),
        ({"topk": 0}, "topk"),
        ({"overlay": "x.avi"}, ".mp4"),
    ],
)
def test_requests_that_cannot_be_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        Request(("x.mp4",), **changes)


def test_one_file_for_several_inputs_is_refused(recognizer, folder, tmp_path):
    one = Request((str(folder),), timeline=TimelineSettings(), srt=str(tmp_path / "one.srt"))
    with pytest.raises(InputError, match="11 inputs: name a folder"):
        predict_inputs(one, recognizer)


def test_the_tool_writes_timelines_subtitles_and_overlays(trained, folder, tmp_path):
    words = (
        "--checkpoint",
        trained.checkpoint,
        "--device",
        "cpu",
        "--window",
        0.3,
        "--stride",
        0.1,
    )
    one = tool(folder / "0.mp4", *words, "--srt", "o.srt", "--overlay", "o.mkv", cwd=tmp_path)
    several = tool(folder, *words, "--vtt", "subtitles", "--csv", "t.csv", cwd=tmp_path)
    out, told = one.communicate()
    assert one.returncode == 0, told
    assert "red" in out
    assert "00:00:00,000 --> 00:00:00,5" in (tmp_path / "o.srt").read_text()
    assert (tmp_path / "o.mkv").stat().st_size > 1000
    _, told = several.communicate()
    assert several.returncode == 1, told
    assert "2 of 11 inputs failed" in told
    assert len(list((tmp_path / "subtitles").glob("*.vtt"))) == 9
    assert (tmp_path / "t.csv").read_text().startswith("video,begin,end,label,name,score,error\n")


def test_wrong_words_end_with_code_2_and_one_message(trained, tmp_path, monkeypatch, capsys):
    bad = tmp_path / "bad.pt"
    bad.write_bytes(b"\x80\x04code")
    (tmp_path / "file").touch()
    video, known = trained.videos / "test_0.mp4", ("--checkpoint", trained.checkpoint)
    runs = {
        "name INPUTs": known,
        "--checkpoint is missing": (video,),
        "could run code": (video, "--checkpoint", bad),
        "'3' is not like 3/100": (video, *known, "--shard", "3"),
        "missing.mkv": ("--camera", tmp_path / "missing.mkv", *known),
        "--wrong": (video, *known, "--wrong"),
        "5x2": (video, *known, "--views", "5x2"),
        "window nan": (video, *known, "--timeline", "--window", "nan"),
        "enter 2": (video, *known, "--timeline", "--enter", "2"),
        "out.srt cannot be written": (video, *known, "--srt", tmp_path / "file" / "out.srt"),
        "out.mp4 cannot be written": (video, *known, "--overlay", tmp_path / "file" / "out.mp4"),
        "out.csv cannot be written": (video, *known, "--csv", tmp_path / "file" / "out.csv"),
        "/out cannot be written": (video, *known, "--json", tmp_path / "file" / "out"),
    }
    main = runpy.run_path(str(REPOSITORY / "tools" / "predict.py"))["main"]
    for message, words in runs.items():
        monkeypatch.setattr(sys, "argv", ["predict.py", *map(str, words)])
        assert run_tool(main) == 2, message
        told = capsys.readouterr().err
        assert message in told and told.count("error: ") == told.count("\n") == 1, told


def test_a_fifo_is_watched_as_it_comes(trained, tmp_path):
    """What a camera is to FFmpeg: a source that is read once, from its beginning."""
    os.mkfifo(tmp_path / "camera")
    words = (
        "--checkpoint",
        trained.checkpoint,
        "--device",
        "cpu",
        "--window",
        0.3,
        "--stride",
        0.1,
    )
    run = tool("--camera", tmp_path / "camera", "--camera-format", "mov", *words)
    with open(tmp_path / "camera", "wb") as camera:
        camera.write(fragmented(trained.videos / "test_2.mp4"))
    out, told = run.communicate(timeout=60)
    assert run.returncode == 0, told
    assert "blue" in out


def fragmented(source: Path) -> bytes:
    """An MP4 that can be read without going back."""
    import io

    import av

    target = io.BytesIO()
    options = {"movflags": "frag_keyframe+empty_moov"}
    with av.open(str(source)) as one, av.open(target, "w", "mp4", options=options) as two:
        stream = two.add_stream_from_template(one.streams.video[0])
        for packet in one.demux(video=0):
            if packet.size:
                packet.stream = stream
                two.mux(packet)
    return target.getvalue()


@pytest.mark.slow
def test_real_clips_are_all_predicted_and_the_damaged_one_is_named(recognizer, shared, tmp_path):
    folder = shared / "clips"
    request = Request((str(folder),), json=str(tmp_path / "out.jsonl"))
    outcome = predict_inputs(request, recognizer)
    assert outcome.num_failed == 1
    found = read(tmp_path / "out.jsonl")
    assert len(found) == sum(file.suffix != ".md" for file in folder.iterdir())
    (bad,) = (record for record in found if "error" in record)
    assert bad["video"].endswith("decord_corrupted.mp4")
