"""Lists that are written read back as they were."""

from __future__ import annotations

import csv
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from mvit_video.data.lists import read_csv
from mvit_video.data.preparation.output import (
    Bad,
    Listed,
    list_line,
    split_summary,
    write_bad,
    write_facts,
    write_list,
)
from mvit_video.data.preparation.probe import Facts

FACTS = Facts(300, 29.97, 340, 256, 10.01, "h264", "mp4", "exact", 1000)
STRANGE = ['a b.mp4', '"q" x.mp4', "it's.mp4", "x 7", "a, b,.mp4",
           " lead.mp4", "tail.mp4 ", "#1 (2) & !.avi", "a,5", "\tt.mp4",
           "ümläut/视频.mp4", "a\\b.mp4", "x,", "bytes\udcff\udcfe.mp4", "a\x0bb.mp4", "a\u2028b.mp4"]  # fmt: skip


def test_strange_paths_survive_the_list(tmp_path: Path) -> None:
    file = tmp_path / "train.csv"
    write_list(file, [Listed(path, label, FACTS) for label, path in enumerate(STRANGE)])
    assert [(path, label) for _, path, label in read_csv(file)] == [
        (p, k) for k, p in enumerate(STRANGE)
    ]


@given(
    path=st.text(st.characters(exclude_characters="\r\n\0", codec="utf-8"), min_size=1).filter(
        str.strip
    ),
    label=st.integers(0, 10**6),
)
def test_any_path_of_one_line_survives_the_list(path: str, label: int, tmp_path_factory) -> None:
    file = tmp_path_factory.getbasetemp() / "any.csv"
    file.write_bytes(list_line(path, label).encode())
    assert list(read_csv(file)) == [(1, path, label)]


def test_plain_paths_stay_plain() -> None:
    assert list_line("air drumming/-a_b.mp4", 3) == "air drumming/-a_b.mp4 3\n"


def test_facts_and_bad_files_are_tables(tmp_path: Path) -> None:
    write_facts(tmp_path / "f.tsv", [Listed("a\tb.mp4", 3, FACTS)])
    with open(tmp_path / "f.tsv", newline="") as file:
        (row,) = csv.DictReader(file, delimiter="\t")
    assert row["path"] == "a\tb.mp4" and row["frames"] == "300" and row["decord"] == "exact"
    write_bad(tmp_path / "bad.csv", [Bad("val", 2, "a\nb.mp4", 'says "no", loudly')])
    with open(tmp_path / "bad.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert row == {"path": "a\nb.mp4", "reason": 'says "no", loudly', "split": "val", "label": "2"}


def test_the_summary_counts_what_is_listed_missing_and_bad() -> None:
    videos = [Listed(f"{k}.mp4", k % 2, FACTS) for k in range(5)]
    bad = [
        Bad("train", 0, "x", "missing"),
        Bad("train", 1, "y.mp4", "is damaged at or before frame 3"),
    ]
    summary = split_summary(videos, bad, ("a", "b", "c"))
    assert (summary["annotated"], summary["listed"], summary["missing"], summary["bad"]) == (
        7,
        5,
        1,
        1,
    )
    assert summary["missing_percent"] == 14.286
    assert summary["videos_per_class"] == {"a": 3, "b": 2, "c": 0}
    assert summary["classes_without_videos"] == ["c"]
    assert summary["codecs"] == {"h264 in mp4": 5}
    assert split_summary([], [], ("a",))["missing_percent"] == 0.0
