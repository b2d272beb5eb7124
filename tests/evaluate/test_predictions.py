"""The predictions file: exact, whole, and never believed when it is not."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mvit_video.data.dataset import UndecodableVideo
from mvit_video.errors import InputError
from mvit_video.evaluate.predictions import Predictions, load, merge, save

VIEW = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])


def predictions_of(
    positions: list[int], lost: list[int], num_videos: int, classes: int = 3
) -> Predictions:
    """Scores that depend on the position in the list only, as a test's do."""
    scores = [np.random.default_rng(i).dirichlet(np.ones(classes), len(VIEW)) for i in positions]
    return Predictions(
        video_id=tuple(f"video {i}" for i in positions),
        index=np.array(positions, dtype=np.int64),
        label=np.array([i % classes for i in positions], dtype=np.int64),
        scores=np.array(scores, dtype=np.float32).reshape(len(positions), len(VIEW), classes),
        view=VIEW,
        num_videos=num_videos,
        undecodable=tuple(UndecodableVideo(f"video {i}", 0, i, "no video stream") for i in lost),
    )


def assert_same(one: Predictions, other: Predictions) -> None:
    for field in dataclasses.fields(Predictions):
        np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name))


def test_what_is_saved_is_loaded(tmp_path):
    saved = dataclasses.replace(
        predictions_of([0, 2, 3], [1], 4),
        video_id=("a b,c.mp4", "ümlaut/視頻.webm", "not utf-8 \udcff.avi"),
        class_names=("running", "jumping", "Ångström's 'dance'"),
    )
    save(saved, tmp_path / "new folder" / "predictions.npz")
    assert_same(load(tmp_path / "new folder" / "predictions.npz"), saved)


def test_a_test_that_could_score_nothing_is_saved_too(tmp_path):
    nothing = predictions_of([], [0, 1], 2)
    save(nothing, tmp_path / "predictions.npz")
    assert_same(load(tmp_path / "predictions.npz"), nothing)


def test_the_same_predictions_are_the_same_bytes(tmp_path):
    for name in ("one.npz", "two.npz"):
        save(predictions_of([0, 1, 2], [3], 4), tmp_path / name)
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()


def test_the_file_needs_no_pickle_and_reads_without_this_package(tmp_path):
    save(predictions_of([0, 1], [2], 3), tmp_path / "predictions.npz")
    with np.load(tmp_path / "predictions.npz", allow_pickle=False) as archive:
        assert archive["video_id"].tolist() == ["video 0", "video 1"]
        assert archive["scores"].dtype == np.float32
        assert archive["scores"].shape == (2, 4, 3)
        assert archive["view"].tolist() == VIEW.tolist()
        assert archive["undecodable_reason"].tolist() == ["no video stream"]


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_parts_of_any_sharding_merge_to_the_whole(data):
    num_videos = data.draw(st.integers(1, 20))
    size = data.draw(st.integers(1, 5))
    lost = data.draw(st.sets(st.integers(0, num_videos - 1)))
    scored = [i for i in range(num_videos) if i not in lost]
    parts = [
        predictions_of(
            [i for i in scored if i % size == rank],
            sorted(i for i in lost if i % size == rank),
            num_videos,
        )
        for rank in range(size)
    ]
    whole = merge(data.draw(st.permutations(parts)))
    assert_same(whole, predictions_of(scored, sorted(lost), num_videos))
    assert len(whole.missing) == 0


def test_a_hole_is_named():
    parts = [predictions_of([0, 3], [], 9), predictions_of([1, 4], [7], 9)]
    with pytest.raises(InputError, match=r"4 of 9 videos .* positions 2, 5, 6, 8"):
        merge(parts)


def test_a_video_in_two_parts_is_named():
    with pytest.raises(InputError, match=r"twice: 'video 1' \(position 1\)"):
        merge([predictions_of([0, 1], [], 3), predictions_of([1, 2], [], 3)])


def test_a_video_scored_and_undecodable_is_named():
    with pytest.raises(InputError, match="twice: 'video 1'"):
        merge([predictions_of([0, 1], [], 2), predictions_of([], [1], 2)])


@pytest.mark.parametrize(
    "other",
    [
        predictions_of([1], [], 3),
        predictions_of([1], [], 2, classes=4),
        dataclasses.replace(predictions_of([1], [], 2), view=VIEW[::-1]),
        dataclasses.replace(predictions_of([1], [], 2), class_names=("a", "b", "c")),
        dataclasses.replace(predictions_of([1], [], 2), origin="other weights"),
    ],
    ids=["another list", "other classes", "other views", "other names", "other weights"],
)
def test_parts_of_different_tests_do_not_merge(other):
    with pytest.raises(InputError, match="not of one test"):
        merge([predictions_of([0], [], 2), other])


WHOLE = dataclasses.replace(predictions_of(list(range(30)), [30], 31), origin="a digest")


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> tuple[Path, bytes]:
    path = tmp_path_factory.mktemp("saved") / "predictions.npz"
    save(WHOLE, path)
    return path, path.read_bytes()


@given(st.floats(0, 1, exclude_max=True), st.integers(1, 255))
def test_one_damaged_byte_is_noticed_or_harmless(saved, where, flipped):
    path, whole = saved
    content = bytearray(whole)
    content[int(len(content) * where)] ^= flipped
    path.write_bytes(content)
    try:
        assert_same(load(path), WHOLE)
    except InputError as error:
        assert str(path) in str(error)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_cut_file_is_refused(tmp_path, share):
    path = tmp_path / "predictions.npz"
    save(predictions_of(list(range(30)), [], 30), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(InputError, match="damaged"):
        load(path)


def test_a_pickle_is_refused(tmp_path):
    path = tmp_path / "predictions.npz"
    np.savez(path, format=np.array([print], dtype=object))
    with pytest.raises(InputError, match="no predictions file"):
        load(path)


@pytest.mark.parametrize("content", [{"weights": np.zeros(3)}, None], ids=["other npz", "missing"])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "other.npz"
    if content is not None:
        np.savez(path, **content)
    with pytest.raises(InputError, match="no predictions file"):
        load(path)


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "predictions.npz"
    save(predictions_of([0], [], 1), path)

    def fails_half_way(file, **arrays):
        file.write(b"half of it")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", fails_half_way)
    with pytest.raises(KeyboardInterrupt):
        save(predictions_of([0, 1], [], 2), path)
    assert load(path).num_videos == 1
    assert [file.name for file in tmp_path.iterdir()] == ["predictions.npz"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": np.array([0, 3])}, "labels run from 0 to 3"),
        ({"label": np.array([0, -1])}, "labels run from -1 to 0"),
        ({"video_id": ("one",)}, "1 video ids for 2 rows"),
        ({"index": np.array([1, 0])}, "not in list order"),
        ({"index": np.array([0, 5])}, "position 5 in a list of 2"),
        ({"view": VIEW[:3]}, "view is"),
        ({"class_names": ("a",)}, "1 class names for 3"),
    ],
)
def test_fields_that_do_not_fit_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(predictions_of([0, 1], [], 2), **change)
