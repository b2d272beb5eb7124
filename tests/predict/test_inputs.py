"""What the words of a command line stand for."""

from __future__ import annotations

import pytest

from mvit_video.errors import InputError
from mvit_video.predict.inputs import Inputs, digest


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A folder with a few files, entered."""
    for name in (
        "b.mp4",
        "a.MKV",
        "notes.md",
        "sub/c.webm",
        "sub/.hidden.mp4",
        "odd [1].mp4",
        "2\n3.avi",
    ):
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path / "tree"


def names(*words: str, prefix: str = "") -> list[str]:
    inputs = Inputs.of(words, prefix)
    found = [inputs.name(i) for i in range(len(inputs))]
    assert inputs.digests.tolist() == [digest(name) for name in found]
    return found


def test_a_folder_means_its_videos_in_order(tree):
    videos = ["2\n3.avi", "a.MKV", "b.mp4", "odd [1].mp4", "sub/c.webm"]
    assert names("tree") == [f"tree/{name}" for name in videos]


def test_a_pattern_means_what_it_matches_and_a_file_is_not_a_pattern(tree):
    assert names("tree/*.mp4") == ["tree/b.mp4", "tree/odd [1].mp4"]
    assert names("tree/**/*.webm") == ["tree/sub/c.webm"]
    assert names("tree/odd [1].mp4") == ["tree/odd [1].mp4"]


def test_lists_with_and_without_labels(tree):
    (tree / "plain.txt").write_text("b.mp4\n\nwith spaces 1.mp4\r\nhttp://a.b/c.mp4\n/abs.mp4\n")
    (tree / "labelled.csv").write_text('b.mp4 3\n"x 1" 4\n')
    assert names("tree/plain.txt", prefix="tree") == [
        "tree/b.mp4",
        "tree/with spaces 1.mp4",
        "http://a.b/c.mp4",
        "/abs.mp4",
    ]
    assert names("tree/labelled.csv") == ["b.mp4", "x 1"]


def test_each_input_comes_once_and_missing_ones_stay(tree):
    words = ("tree/b.mp4", "missing.mp4", "tree", "https://a.b/c.mp4", "tree/b.mp4")
    found = names(*words)
    assert found[:2] == ["tree/b.mp4", "missing.mp4"]
    assert len(found) == len(set(found)) == 7


@pytest.mark.parametrize(
    ("word", "message"),
    [("empty", "no video file"), ("*.xyz", "matches"), ("bad.csv", "bad.csv:1")],
)
def test_words_that_stand_for_nothing_are_refused(tree, tmp_path, word, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.csv").write_text("no label\n")
    with pytest.raises(InputError, match=message):
        names(word)


def test_no_input_at_all_is_refused(tree):
    (tree / "empty.txt").write_text("\n")
    with pytest.raises(InputError, match="no inputs"):
        names("tree/empty.txt")
