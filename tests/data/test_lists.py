"""Kinetics-style lists and SSv2's JSON files: what is read, and what is refused with file and line."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
from fvcore.common.config import CfgNode

from mvit_video.config import load_config
from mvit_video.data.lists import load_class_names, load_list
from mvit_video.errors import InputError

TEMPLATES = (
    "Holding [something] next to [something]",
    "Pushing [something]",
    "Throwing [something]",
)


def config(folder: Path, *overrides: str) -> CfgNode:
    keys = ["DATA.PATH_TO_DATA_DIR", str(folder), "MODEL.NUM_CLASSES", "3", *overrides]
    return load_config(None, keys)


def read(tmp_path: Path, text: str | bytes, split: str = "train", prefix: str = "") -> list:
    """(path, label) of every line of a list with this text."""
    file = tmp_path / f"{split}.csv"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    videos = load_list(config(tmp_path, "DATA.PATH_PREFIX", prefix), split)
    return [(videos.path(i), videos.label(i)) for i in range(len(videos))]


@pytest.mark.parametrize(
    ("line", "path", "label"),
    [
        ("a/b.mp4 2", "a/b.mp4", 2),
        ("a/b.mp4,2", "a/b.mp4", 2),
        ("a/b.mp4, 2", "a/b.mp4", 2),
        ("a/b.mp4\t2", "a/b.mp4", 2),
        ("  a/b.mp4   2  ", "a/b.mp4", 2),
        ('"air drumming/b.mp4" 2', "air drumming/b.mp4", 2),
        ('"air drumming/b.mp4",2', "air drumming/b.mp4", 2),
        ("air drumming/b.mp4 2", "air drumming/b.mp4", 2),
        ("air drumming/b.mp4,2", "air drumming/b.mp4", 2),
        ("a,b.mp4 2", "a,b.mp4", 2),
        ('"she said ""hi"".mp4" 1', 'she said "hi".mp4', 1),
        ('"take 12" 1', "take 12", 1),
        ("#1 (best)!&'.avi 0", "#1 (best)!&'.avi", 0),
        ("-rEYtRfJqFs_000010.mp4 0", "-rEYtRfJqFs_000010.mp4", 0),
        ("日本\u2028語.mp4 1", "日本\u2028語.mp4", 1),
    ],
)
def test_a_line_is_a_path_and_a_label(tmp_path: Path, line: str, path: str, label: int) -> None:
    assert read(tmp_path, f"first.mp4 0\n{line}\n")[1] == (path, label)


def test_windows_lines_blank_lines_and_byte_order_marks_are_fine(tmp_path: Path) -> None:
    text = b"\xef\xbb\xbfa.mp4 0\r\n\r\nb.mp4 1\r\n   \nc.mp4 2"
    assert read(tmp_path, text) == [("a.mp4", 0), ("b.mp4", 1), ("c.mp4", 2)]


def test_names_that_are_not_utf8_reach_the_file_system_unchanged(tmp_path: Path) -> None:
    name = b"caf\xe9.mp4"
    (path, _), *_ = read(tmp_path, name + b" 0\n", prefix=str(tmp_path))
    Path(path).write_bytes(b"x")
    assert [file.name.encode(errors="surrogateescape") for file in tmp_path.glob("caf*")] == [name]


def test_paths_are_relative_to_the_prefix(tmp_path: Path) -> None:
    assert read(tmp_path, "a.mp4 0\n/b.mp4 1\n", prefix="/videos") == [
        ("/videos/a.mp4", 0),
        ("/b.mp4", 1),
    ]
    assert read(tmp_path, "a.mp4 0\n", prefix="~/v")[0][0] == str(Path.home() / "v" / "a.mp4")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a.mp4 0\nb.mp4\n", "train.csv:2: 'b.mp4' is not `path label`"),
        ("a.mp4 zero\n", "train.csv:1: 'a.mp4 zero' is not `path label`"),
        ("7\n", "train.csv:1: '7' is not `path label`"),
        ('"a.mp4 0\n', "train.csv:1: '\"a.mp4 0' is not `path label`"),
        ("a.mp4 0\n\nb.mp4 3\n", "train.csv:3: label 3 of b.mp4 is outside 0 ... 2"),
        ("a.mp4 -1\n", "train.csv:1: label -1 of a.mp4 is outside 0 ... 2"),
        ("a.mp4 300 1\n", "train.csv:1: two numbers follow the path"),
        ("\n \n", "train.csv: the list is empty"),
    ],
)
def test_a_bad_list_is_refused_with_its_line(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(InputError) as refusal:
        read(tmp_path, text)
    assert complaint in str(refusal.value)


def test_missing_lists_and_folders_are_named(tmp_path: Path) -> None:
    (tmp_path / "val.csv").write_text("a.mp4 0\n")
    with pytest.raises(InputError, match=r"no list .*test\.csv \(.*val\.csv"):
        load_list(config(tmp_path), "test")
    with pytest.raises(InputError, match=r"no folder .*nowhere"):
        load_list(config(tmp_path / "nowhere"), "train")
    with pytest.raises(InputError, match="PATH_TO_DATA_DIR is empty"):
        load_list(load_config(), "train")


def test_a_video_may_be_trained_on_twice_but_tested_once(tmp_path: Path) -> None:
    assert len(read(tmp_path, "a.mp4 0\na.mp4 0\n")) == 2
    with pytest.raises(InputError, match=r"test\.csv:3: a\.mp4 stands in line 1 already"):
        read(tmp_path, "a.mp4 0\nb.mp4 0\na.mp4 0\n", split="test")


def test_a_long_list_is_three_arrays(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text(
        "".join(f"class_{i % 3}/video_{i:07d}.mp4 {i % 3}\n" for i in range(20_000))
    )
    videos = load_list(config(tmp_path), "train")
    assert len(videos) == 20_000 and videos.video_id(12_345) == "class_0/video_0012345.mp4"
    assert len(pickle.dumps(videos)) < 50 * len(videos)


def test_class_names_lie_beside_the_lists(tmp_path: Path) -> None:
    assert load_class_names(config(tmp_path)) == ()
    (tmp_path / "classes.txt").write_text("wave\nclap hands\nrun\n")
    assert load_class_names(config(tmp_path)) == ("wave", "clap hands", "run")
    with pytest.raises(InputError, match=r"3 class names, but MODEL\.NUM_CLASSES is 4"):
        load_class_names(config(tmp_path, "MODEL.NUM_CLASSES", "4"))


def ssv2_config(folder: Path) -> CfgNode:
    keys = ["TRAIN.DATASET", "ssv2", "TEST.DATASET", "ssv2", "DATA.PATH_PREFIX", "/webm"]
    return config(folder, *keys)


def write_ssv2(folder: Path, name: str, **changes: object) -> None:
    """SSv2's files; `name` is the pattern of their names."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "labels": {t.replace("[", "").replace("]", ""): str(i) for i, t in enumerate(TEMPLATES)},
        "train": [
            {"id": str(100 + i), "label": "holding a cup", "template": t, "placeholders": ["cup"]}
            for i, t in enumerate(TEMPLATES)
        ],
        "validation": [
            {"id": "7", "template": TEMPLATES[1]},
            {"id": "8", "template": TEMPLATES[0]},
        ],
        "test": [{"id": "9"}],
    }
    for part, value in {**content, **changes}.items():
        (folder / name.format(part)).write_text(json.dumps(value))


@pytest.mark.parametrize(
    ("folder", "name"),
    [(".", "something-something-v2-{}.json"), ("labels", "{}.json"), (".", "{}.json")],
)
def test_ssv2_is_read_from_its_official_files(tmp_path: Path, folder: str, name: str) -> None:
    write_ssv2(tmp_path / folder, name)
    cfg = ssv2_config(tmp_path)
    train = load_list(cfg, "train")
    assert [train.path(i) for i in range(3)] == [f"/webm/{100 + i}.webm" for i in range(3)]
    assert train.labels.tolist() == [0, 1, 2]
    for split in ("val", "test"):  # the official test set has no labels
        videos = load_list(cfg, split)
        assert [videos.video_id(i) for i in range(2)] == ["7", "8"]
        assert videos.labels.tolist() == [1, 0]
    assert load_class_names(cfg)[0] == "Holding something next to something"


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"train": [{"id": "1", "template": "Eating"}]}, "train.json, entry 1: template 'Eating'"),
        ({"train": [{"id": "1"}]}, 'train.json, entry 1: no "id" or no "template"'),
        ({"train": {}}, "train.json: not SSv2's list"),
        ({"train": []}, "train.json: the list is empty"),
        ({"labels": {"Holding something": "x"}}, "labels.json: a label is not a whole number"),
    ],
)
def test_bad_ssv2_files_are_refused(tmp_path: Path, changes: dict, complaint: str) -> None:
    write_ssv2(tmp_path, "{}.json", **changes)
    with pytest.raises(InputError) as refusal:
        load_list(ssv2_config(tmp_path), "train")
    assert complaint in str(refusal.value)


def test_ssv2_files_that_are_missing_or_broken_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"neither something-something-v2-labels\.json nor"):
        load_list(ssv2_config(tmp_path), "train")
    write_ssv2(tmp_path, "{}.json")
    (tmp_path / "train.json").write_text('[{"id": "1", ')
    with pytest.raises(InputError, match=r"train\.json: not valid JSON"):
        load_list(ssv2_config(tmp_path), "train")
    twice = [{"id": "7", "template": TEMPLATES[0]}] * 2
    write_ssv2(tmp_path, "{}.json", validation=twice)
    with pytest.raises(InputError, match=r"validation\.json, entry 2: 7 stands in entry 1 already"):
        load_list(ssv2_config(tmp_path), "test")
