"""Which file belongs to an annotated video; and class folders, where the files are the annotations."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from mvit_video.data.preparation.class_folders import read_class_folders
from mvit_video.data.preparation.video_tree import VideoTree
from mvit_video.errors import InputError


def tree(root: Path, *paths: str) -> VideoTree:
    for path in paths:
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return VideoTree(root)


def test_files_are_found_by_path_by_stem_anywhere_and_by_second_names(tmp_path: Path) -> None:
    videos = tree(
        tmp_path,
        "train/air_drumming/-a_000001_000011.mp4",
        "flat/b.mkv",
        "wave/#x (1)!.avi",
        "c.webm",
        "c.txt",
    )
    assert videos.others == 1
    assert (
        videos.find(("-a_000001_000011", "-a"), "air drumming", "train")
        == "train/air_drumming/-a_000001_000011.mp4"
    )
    assert videos.find(("b_000002_000012", "b"), "abseiling", "val") == "flat/b.mkv"
    assert videos.find(("wave/#x (1)!.avi",), "wave", "val") == "wave/#x (1)!.avi"
    assert videos.find(("jump/#x (1)!.avi",), "jump", "val") == "wave/#x (1)!.avi"
    assert videos.find(("c",), "x", "val") == "c.webm"
    assert videos.find(("d", "e"), "x", "val") is None


def test_among_files_of_one_name_the_folder_decides(tmp_path: Path) -> None:
    videos = tree(tmp_path, "train/waving/a.mp4", "train/jumping/a.mp4", "val/a.mp4", "old/a.mp4")
    assert videos.find(("a",), "waving", "val") == "train/waving/a.mp4"
    assert videos.find(("a",), "running", "val") == "val/a.mp4"
    assert videos.find(("a",), "running", "test") == "old/a.mp4"


def test_links_are_followed_once_and_hidden_files_passed_over(tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    tree(tmp_path / "store", "a.mp4")
    tree(videos, "b.MP4", ".hidden/c.mp4", ".d.mp4")
    (videos / "linked").symlink_to(tmp_path / "store")
    (tmp_path / "store" / "loop").symlink_to(tmp_path / "store")
    assert VideoTree(videos).paths == ["b.MP4", "linked/a.mp4"]


def test_a_folder_without_videos_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    with pytest.raises(InputError, match="no video file"):
        VideoTree(tmp_path)
    with pytest.raises(InputError, match="no folder"):
        VideoTree(tmp_path / "nowhere")


def class_folders(
    root: Path, videos: VideoTree, share: float = 0.2, seed: int = 0
) -> list[tuple[str, int, str]]:
    entries = read_class_folders(root, videos, share, seed).entries
    return [(entry.split, entry.label, entry.names[0]) for entry in entries]


def test_class_folders_are_split_per_class_from_the_seed(tmp_path: Path) -> None:
    paths = [f"{name}/{k:02d}.mp4" for name in ("b", "a b") for k in range(20)] + [
        "c/one.mp4",
        "d/1.mp4",
        "d/2.mp4",
    ]
    videos = tree(tmp_path, *paths)
    found = class_folders(tmp_path, videos)
    assert read_class_folders(tmp_path, videos, 0.2, 0).class_names == ("a b", "b", "c", "d")
    counts = Counter((split, label) for split, label, _ in found)
    assert [counts["val", label] for label in range(4)] == [4, 4, 0, 1]
    assert sorted(path for _, _, path in found) == sorted(paths)
    assert found == class_folders(tmp_path, VideoTree(tmp_path))
    assert found != class_folders(tmp_path, videos, seed=1)
    # Another class does not move videos from one side to the other.
    more = class_folders(tmp_path, tree(tmp_path, "e/1.mp4", "e/2.mp4"))
    assert [entry for entry in more if entry[1] < 4] == found
    assert not any(split == "val" for split, _, _ in class_folders(tmp_path, videos, share=0.0))


def test_folders_named_train_and_val_are_taken_as_they_lie(tmp_path: Path) -> None:
    videos = tree(
        tmp_path, "train/x/a.mp4", "train/y/deep/b.mp4", "validation/x/c.mp4", "test/y/d.mp4"
    )
    assert class_folders(tmp_path, videos) == [
        ("test", 1, "test/y/d.mp4"), ("train", 0, "train/x/a.mp4"), ("train", 1, "train/y/deep/b.mp4"),
        ("val", 0, "validation/x/c.mp4"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("paths", "said"),
    [
        (["train/x/a.mp4", "train/y/b.mp4"], "none for validation"),
        (["x/a.mp4", "b.mp4"], "in no class folder"),
        (["train/x/a.mp4", "val/b.mp4"], "train/CLASS/b.mp4"),
        (["x/a.mp4", "x/b.mp4"], "1 classes"),
    ],
)
def test_what_is_no_folder_of_classes_is_refused(
    tmp_path: Path, paths: list[str], said: str
) -> None:
    videos = tree(tmp_path, *paths)
    with pytest.raises(InputError) as error:
        read_class_folders(tmp_path, videos, 0.2, 0)
    assert said in str(error.value)
