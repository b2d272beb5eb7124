"""Preparation from end to end, as a person starts it."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mvit_video.config import load_config
from mvit_video.data.lists import load_class_names, load_list
from mvit_video.data.preparation import Examination, Request, check_list, prepare
from mvit_video.errors import InputError
from tests.conftest import REPOSITORY
from tests.tiny_run import write_video

HOW = Examination(num_workers=2, timeout=30.0)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("good") / "good.mp4"
    write_video(path, 0, seed=0, frames=12)
    return path


@pytest.fixture
def videos(good: Path, tmp_path: Path) -> Path:
    """Two classes with good videos under strange names, and bad ones among them."""
    root = tmp_path / "videos"
    names = ["waving/a b.mp4", 'waving/"quoted" 1.mp4', "waving/it's, 5", "waving/c.mp4", "jump ing/d #1 & (2)!.mp4",
             "jump ing/e.mp4", "jump ing/new\nline.mp4", "jump ing/f.mp4"]  # fmt: skip
    for name in names:
        path = root / (name if name.endswith(".mp4") else f"{name}.mp4")
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(good, path)
    (root / "waving" / "empty.mp4").touch()
    (root / "waving" / "text.avi").write_text("no video")
    (root / "jump ing" / "cut.mp4").write_bytes(good.read_bytes()[:-700])
    os.mkfifo(root / "jump ing" / "pipe.mp4")
    (root / "jump ing" / "notes.txt").write_text("not looked at")
    return root


def rows(file: Path, delimiter: str = ",") -> list[dict[str, str]]:
    with open(file, newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines, delimiter=delimiter))


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")
    }


def test_a_folder_of_classes_becomes_lists_that_load(videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "lists"
    summary = prepare(Request("folder", videos, out, val_share=0.3), HOW)
    bad = {row["path"]: row["reason"] for row in rows(out / "bad.csv")}
    assert set(bad) == {
        "waving/empty.mp4",
        "waving/text.avi",
        "jump ing/cut.mp4",
        "jump ing/pipe.mp4",
        "jump ing/new\nline.mp4",
    }
    assert (
        "line break" in bad["jump ing/new\nline.mp4"]
        and "not a regular file" in bad["jump ing/pipe.mp4"]
    )
    cfg = load_config(
        None,
        [
            "DATA.PATH_TO_DATA_DIR",
            str(out),
            "DATA.PATH_PREFIX",
            str(videos),
            "MODEL.NUM_CLASSES",
            "2",
        ],
    )
    assert load_class_names(cfg) == ("jump ing", "waving")
    lists = {split: load_list(cfg, split) for split in ("train", "val", "test")}
    listed = [lists[s].video_id(k) for s in ("train", "val") for k in range(len(lists[s]))]
    assert len(listed) == 7 and all(Path(videos, path).is_file() for path in listed)
    assert (out / "test.csv").read_bytes() == (out / "val.csv").read_bytes()
    facts = rows(out / "train.facts.tsv", "\t")
    assert [row["path"] for row in facts] == [lists["train"].video_id(k) for k in range(len(facts))]
    assert all(row["frames"] == "12" and row["decord"] == "exact" for row in facts)
    splits = summary["splits"].values()
    assert (
        sum(split["listed"] for split in splits) == 7 and sum(split["bad"] for split in splits) == 5
    )
    assert summary == json.loads((out / "summary.json").read_text())
    assert summary["other_files"] == 1


def test_the_same_input_gives_the_same_bytes(videos: Path, tmp_path: Path) -> None:
    for out, workers in (("one", 1), ("two", 3), ("one", 2)):
        prepare(Request("folder", videos, tmp_path / out), Examination(num_workers=workers))
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_what_changed_since_is_looked_at_again(videos: Path, good: Path, tmp_path: Path) -> None:
    out = tmp_path / "lists"
    prepare(Request("folder", videos, out), HOW)
    shutil.copyfile(good, videos / "waving" / "empty.mp4")
    (videos / "waving" / "c.mp4").write_bytes(b"")
    prepare(Request("folder", videos, out), HOW)
    bad = {row["path"] for row in rows(out / "bad.csv")}
    assert "waving/empty.mp4" not in bad and "waving/c.mp4" in bad


def test_official_annotations_meet_files_that_are_there_missing_or_listed_twice(
    good: Path, tmp_path: Path
) -> None:
    videos, notes, out = tmp_path / "v", tmp_path / "a", tmp_path / "o"
    for name in ("train/air drumming/abc_000001_000011.mp4", "val/def.mp4"):
        (videos / name).parent.mkdir(parents=True)
        shutil.copyfile(good, videos / name)
    notes.mkdir()
    (notes / "k.csv").write_text(
        "label,youtube_id,time_start,time_end,split\nair drumming,abc,1,11,train\nabseiling,gone,1,11,train\n"
        "abseiling,def,3,13,val\nabseiling,def,30,40,val\n"
    )
    summary = prepare(Request("kinetics400", videos, out, notes), HOW)
    assert (out / "train.csv").read_text() == "train/air drumming/abc_000001_000011.mp4 1\n"
    assert (out / "val.csv").read_text() == "val/def.mp4 0\n"
    assert [(row["path"], row["reason"].split(";")[0]) for row in rows(out / "bad.csv")] == [
        ("gone_000001_000011", "missing"), ("val/def.mp4", "annotated twice in this split"),
    ]  # fmt: skip
    assert summary["splits"]["train"]["missing_percent"] == 50.0
    assert len((out / "classes.txt").read_text().splitlines()) == 400


def test_prepared_ssv2_lists_are_read_in_place_of_its_json_files(
    good: Path, tmp_path: Path
) -> None:
    videos, notes, out = tmp_path / "v", tmp_path / "a", tmp_path / "o"
    videos.mkdir()
    notes.mkdir()
    for name in ("7.webm", "8.webm"):
        shutil.copyfile(good, videos / name)
    (notes / "labels.json").write_text('{"Holding something": "1", "Dropping something": "0"}')
    (notes / "train.json").write_text('[{"id": "7", "template": "Holding [something]"}]')
    (notes / "validation.json").write_text(
        '[{"id": "8", "template": "Dropping [something]"}, {"id": "9", "template": "Holding [something]"}]'
    )
    prepare(Request("ssv2", videos, out, notes), HOW)
    keys = [
        "TRAIN.DATASET",
        "ssv2",
        "TEST.DATASET",
        "ssv2",
        "MODEL.NUM_CLASSES",
        "2",
        "DATA.PATH_PREFIX",
        str(videos),
    ]
    cfg = load_config(None, ["DATA.PATH_TO_DATA_DIR", str(out), *keys])
    assert load_class_names(cfg) == ("Dropping something", "Holding something")
    train, val = load_list(cfg, "train"), load_list(cfg, "val")
    assert (train.path(0), train.label(0)) == (str(videos / "7.webm"), 1)
    assert len(val) == 1 and val.path(0) == str(videos / "8.webm")
    official = load_config(None, ["DATA.PATH_TO_DATA_DIR", str(notes), *keys])
    assert len(load_list(official, "val")) == 2


def test_copies_are_listed_in_place_of_originals(videos: Path, good: Path, tmp_path: Path) -> None:
    shutil.copyfile(good, videos / "waving" / "c.mkv")  # its copy would be named as that of c.mp4
    out, copies = tmp_path / "lists", tmp_path / "copies"
    how = Examination(num_workers=2, reencode=copies)
    summary = prepare(Request("folder", videos, out, val_share=0.0), how)
    listed = [row["path"] for row in rows(out / "train.facts.tsv", "\t")]
    assert {"waving/c.mp4.mp4", "waving/c.mkv.mp4", "waving/a b.mp4"} <= set(listed)
    assert sorted(str(p.relative_to(copies)) for p in copies.rglob("*") if p.is_file()) == sorted(
        listed
    )
    assert summary["splits"]["train"]["decord"] == {"exact": 8}
    times = {path: (copies / path).stat().st_mtime_ns for path in listed}
    (copies / "waving" / "a b.mp4").unlink()
    prepare(Request("folder", videos, out, val_share=0.0), how)
    redone = [path for path in listed if (copies / path).stat().st_mtime_ns != times[path]]
    assert redone == ["waving/a b.mp4"]


def test_nothing_found_is_wrong_input(good: Path, tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    shutil.copyfile(good, tmp_path / "v" / "x.mp4")
    (tmp_path / "a.csv").write_text(
        "label,youtube_id,time_start,time_end,split\nabseiling,g,1,11,train\nabseiling,h,1,11,val\n"
    )
    with pytest.raises(InputError, match="none of the 2 annotated videos is among the 1 files"):
        prepare(Request("kinetics400", tmp_path / "v", tmp_path / "o", tmp_path / "a.csv"), HOW)
    with pytest.raises(InputError, match="needs --annotations"):
        prepare(Request("kinetics400", tmp_path / "v", tmp_path / "o"), HOW)


def test_an_existing_list_is_checked_and_left_alone(videos: Path, tmp_path: Path) -> None:
    file = tmp_path / "val.csv"
    text = "waving/a b.mp4 1\nwaving/empty.mp4 1\nwaving/gone.mp4 0\njump ing/e.mp4 0\njump ing/e.mp4 0\n"
    file.write_text(text)
    check_list(file, str(videos), HOW, tmp_path)
    assert file.read_text() == text
    bad = {row["path"]: row["reason"] for row in rows(tmp_path / "val.bad.csv")}
    assert set(bad) == {"waving/empty.mp4", "waving/gone.mp4", "jump ing/e.mp4"}
    assert "2 times" in bad["jump ing/e.mp4"]
    assert [row["path"] for row in rows(tmp_path / "val.facts.tsv", "\t")] == ["waving/a b.mp4"]
    (tmp_path / "classes.txt").write_text("only one\n")
    with pytest.raises(InputError, match="label 1"):
        check_list(file, str(videos), HOW, tmp_path)


def tool(name: str, *arguments: str | Path) -> list[str]:
    return [sys.executable, str(REPOSITORY / "tools" / f"{name}.py"), *map(str, arguments)]


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    )


def test_exit_codes_and_messages(videos: Path, good: Path, tmp_path: Path) -> None:
    common = ("--out", tmp_path / "lists", "--workers", "2")
    done = run(tool("prepare_data", "folder", "--videos", videos, *common))
    assert done.returncode == 1 and "5 bad videos: see" in done.stderr
    assert "MODEL.NUM_CLASSES 2" in done.stdout
    wrong = run(tool("prepare_data", "folder", "--videos", tmp_path / "nowhere", *common))
    assert wrong.returncode == 2 and "Traceback" not in wrong.stderr
    (tmp_path / "l.csv").write_text(f"{good} 0\n")
    assert run(tool("check_list", tmp_path / "l.csv")).returncode == 0


def test_killed_and_started_again_it_goes_on_where_it_stopped(good: Path, tmp_path: Path) -> None:
    videos, out = tmp_path / "videos", tmp_path / "lists"
    long = tmp_path / "long.mp4"
    write_video(long, 0, seed=0, frames=60, size=(128, 160))
    for k in range(60):
        path = videos / f"class {k % 2}" / f"{k}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(long, path)
    command = tool("prepare_data", "folder", "--videos", videos, "--out", out, "--workers", "1")
    process = subprocess.Popen(
        command, stderr=subprocess.DEVNULL, env=os.environ | {"PYTHONPATH": str(REPOSITORY)}
    )
    journal = out / ".examined.jsonl"
    deadline = time.monotonic() + 60
    while not (journal.is_file() and journal.read_bytes().count(b"\n") > 5):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out / "train.csv").exists()
    known = journal.read_bytes()
    journal.write_bytes(known[:-20])  # as if the last line had been cut short
    kept = known[:-20].count(b"\n") - 1
    assert 0 < kept < 60
    again = run(command)
    assert again.returncode == 0, again.stderr
    assert f"{kept}/60" in again.stderr  # the bar begins at what is known
    prepare(Request("folder", videos, tmp_path / "whole"), HOW)
    assert contents(out) == contents(tmp_path / "whole")
