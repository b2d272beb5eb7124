"""The Recognizer: the test's own scores, from a file, frames, or a part of either."""

from __future__ import annotations

import pickle
import subprocess
import sys
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import torch

from mvit_video import Recognizer
from mvit_video.data.readers import make_reader
from mvit_video.errors import InputError, VideoError
from mvit_video.evaluate.metrics import fuse_views
from mvit_video.models.cuda_graph import CudaGraphs
from mvit_video.predict.checkpoint import load_recognition
from tests.tiny_run import CLASS_NAMES, write_video


def all_frames(path: Path) -> np.ndarray:
    frames, _ = make_reader("pyav").read(str(path), lambda info: range(info.num_frames))
    return frames


def test_scores_are_those_of_the_multi_view_test_bit_for_bit(recognizer, trained):
    names = trained.predictions.video_id
    found = recognizer([trained.videos / name for name in names])
    for prediction, expected in zip(found, trained.predictions.scores, strict=True):
        assert expected.shape == (9, 3)
        np.testing.assert_array_equal(prediction.view_scores, expected)
        np.testing.assert_array_equal(prediction.scores, fuse_views(expected[None])[0])
    assert len(np.unique(trained.predictions.scores)) > 3 * len(names)  # they do differ


def test_cuda_graphs_are_asked_where_the_settings_say_so(trained, monkeypatch):
    """Without a GPU they call the model; that each pass, of a video and of windows, goes through them can be seen."""
    passes = []

    class Seen(CudaGraphs):
        def __call__(self, clips):
            passes.append(len(clips))
            return super().__call__(clips)

    monkeypatch.setattr("mvit_video.predict.recognizer.CudaGraphs", Seen)
    found, video = load_recognition(trained.checkpoint), trained.videos / "test_0.mp4"
    for asked in (False, True):
        settings = replace(found.settings, cuda_graphs=asked)
        recognizer = Recognizer(found.model, found.preprocessing, settings)
        recognizer(video, views="2x1"), recognizer.timeline(video)
        assert bool(passes) == asked
    assert passes[0] == 2 and len(passes) > 1


def test_a_video_among_several_scores_as_it_does_alone(recognizer, trained):
    paths = [trained.videos / f"test_{i}.mp4" for i in range(3)]
    together = recognizer(paths, views="5x3")
    for path, one in zip(paths, together, strict=True):
        np.testing.assert_array_equal(recognizer(path, views=(5, 3)).view_scores, one.view_scores)


def test_the_best_classes_come_first_with_their_names(recognizer, trained):
    found = recognizer(trained.videos / "test_1.mp4", topk=2)
    assert found.video == str(trained.videos / "test_1.mp4")
    assert found.top[0].name == "green"
    assert [best.name for best in found.top] == [CLASS_NAMES[best.label] for best in found.top]
    assert found.top[0].score >= found.top[1].score
    assert len(recognizer(trained.videos / "test_1.mp4", topk=9).top) == 3
    assert str(found).startswith(f"{found.video}: green ")
    assert found.to_dict()["top"][0] == {"label": 1, "name": "green", "score": found.top[0].score}


@pytest.mark.parametrize("kind", ["numpy", "tensor"])
def test_frames_in_memory_score_as_their_file(recognizer, trained, kind):
    path = trained.videos / "test_2.mp4"
    frames = all_frames(path)
    given = frames if kind == "numpy" else torch.from_numpy(frames)
    found = recognizer(given, fps=30.0)
    np.testing.assert_array_equal(found.view_scores, recognizer(path).view_scores)
    assert found.video == "frames"


def test_a_part_of_a_video_scores_as_its_frames_alone(recognizer, trained):
    path = trained.videos / "test_2.mp4"
    frames = all_frames(path)
    part = recognizer(path, clip=(4 / 30, 12 / 30))
    alone = recognizer(frames[4:12], fps=30.0)
    np.testing.assert_array_equal(part.view_scores, alone.view_scores)
    np.testing.assert_array_equal(
        part.view_scores, recognizer(frames, fps=30.0, clip=(4 / 30, 12 / 30)).view_scores
    )
    assert not np.array_equal(part.view_scores, recognizer(path).view_scores)
    to_the_end = recognizer(path, clip=(4 / 30, None))
    np.testing.assert_array_equal(
        to_the_end.view_scores, recognizer(frames[4:], fps=30.0).view_scores
    )


def test_features_are_what_the_classifier_reads(recognizer, trained):
    path = trained.videos / "test_0.mp4"
    features = recognizer.embed(path, views="1x1")
    logits = recognizer.model.head.projection(features[None])
    expected = torch.from_numpy(recognizer(path, views="1x1").view_scores)
    torch.testing.assert_close(logits.softmax(dim=-1).detach(), expected)
    assert recognizer.embed(path, views="2x3").shape == features.shape
    assert not recognizer.model.head.projection._forward_pre_hooks


@pytest.mark.parametrize("views", ["5", "0x1", "5x2", "x3", "5x3x1", "-1x1", (0, 1), (3, 2)])
def test_views_that_cannot_be_are_refused(recognizer, trained, views):
    with pytest.raises(InputError, match="views"):
        recognizer(trained.videos / "test_0.mp4", views=views)


@pytest.mark.parametrize("clip", [(2.0, 1.0), (-1.0, 1.0), (1.0, 1.0), (float("nan"), None)])
def test_parts_that_cannot_be_are_refused(recognizer, trained, clip):
    with pytest.raises(InputError, match="seconds"):
        recognizer(trained.videos / "test_0.mp4", clip=clip)


def test_a_part_behind_the_end_is_a_video_error_that_tells_the_length(recognizer, trained):
    with pytest.raises(VideoError, match=r"0\.53 s long"):
        recognizer(trained.videos / "test_0.mp4", clip=(7.0, 8.0))


@pytest.mark.parametrize(
    ("frames", "fps", "message"),
    [
        (np.zeros((4, 32, 32, 3), np.uint8), None, "frames per second"),
        (np.zeros((4, 32, 32, 3), np.uint8), 0.0, "frames per second"),
        (np.zeros((4, 32, 32, 3), np.float32), 30.0, "float32"),
        (np.zeros((3, 4, 32, 32), np.uint8), 30.0, r"\(3, 4, 32, 32\)"),
        (np.zeros((0, 32, 32, 3), np.uint8), 30.0, r"\(0, 32, 32, 3\)"),
    ],
)
def test_frames_that_cannot_be_are_refused(recognizer, frames, fps, message):
    with pytest.raises(InputError, match=message):
        recognizer(frames, fps=fps)


def test_a_bad_video_is_named(recognizer, tmp_path):
    (tmp_path / "bad.mp4").write_bytes(b"no video" * 100)
    with pytest.raises(VideoError, match=r"bad\.mp4"):
        recognizer(tmp_path / "bad.mp4")
    with pytest.raises(VideoError, match=r"missing\.mp4"):
        recognizer(tmp_path / "missing.mp4")


@pytest.mark.parametrize(
    "name", ["a 'b' \"c\".mp4", "two\nlines.mp4", "-dash.mp4", "http:colon.mp4"]
)
def test_any_file_name_will_do(recognizer, tmp_path, monkeypatch, name):
    write_video(tmp_path / name, 0, seed=1)
    monkeypatch.chdir(tmp_path)
    assert recognizer(name).top[0].name == "red"


def test_a_url_is_downloaded_once_and_a_dead_one_named(recognizer, trained, tmp_path, monkeypatch):
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path))
    served = partial(SimpleHTTPRequestHandler, directory=str(trained.videos))
    with ThreadingHTTPServer(("127.0.0.1", 0), served) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        found = recognizer(f"{address}/test_1.mp4")
        with pytest.raises(VideoError) as dead:
            recognizer(f"{address}/none.mp4")
        server.shutdown()
    assert "404" in dead.value.reason and address not in dead.value.reason
    again = recognizer(f"{address}/test_1.mp4")  # from the cache: the server is gone
    expected = recognizer(trained.videos / "test_1.mp4").view_scores
    np.testing.assert_array_equal(found.view_scores, expected)
    np.testing.assert_array_equal(again.view_scores, expected)


def test_importing_the_package_does_not_load_the_recognizer():
    command = "import sys, mvit_video; print([m for m in sys.modules if 'predict' in m])"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_a_device_that_is_not_there_is_refused(trained):
    with pytest.raises(InputError, match="device"):
        Recognizer.from_checkpoint(trained.checkpoint, "cuda:99")


class Exploit:
    """Unpickled with code allowed, it leaves a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("how", ["torch", "pickle"])
def test_a_pickle_with_code_is_refused_and_nothing_of_it_runs(tmp_path, how):
    source, mark = tmp_path / "weights.pt", tmp_path / "executed"
    if how == "torch":
        torch.save({"model": Exploit(mark)}, source)
    else:
        source.write_bytes(pickle.dumps(Exploit(mark)))
    with pytest.raises(InputError, match=r"code|run"):
        Recognizer.from_checkpoint(source)
    assert not mark.exists()
