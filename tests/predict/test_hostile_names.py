"""Class names and paths that want to be more than names."""

from __future__ import annotations

import csv
import html
import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvit_video.predict.journal import Journal
from mvit_video.predict.results import ClassScore, Prediction
from mvit_video.predict.results_files import file_for, write_csv
from mvit_video.predict.segments import Segment
from mvit_video.predict.subtitles import srt, vtt
from mvit_video.predict.text import plain
from mvit_video.predict.timeline import Timeline

HOSTILE = [
    "<script>alert(1)</script>",
    "walk\n\n2\n00:00:00,000 --> 00:00:09,000\nrun",
    "\x1b[2J\x1b]0;title\x07walk",
    '=HYPERLINK("http://a";"b")',
    "{\\an8}<b>up</b>",
    "a\u202eb\u2028c\x00d\ud800e",
    'quote " comma , \r\n',
]


@pytest.fixture
def journal(tmp_path):
    """A results file of videos and classes with such names."""
    path = tmp_path / "results.jsonl"
    with Journal(path, {}) as results:
        for name in HOSTILE:
            top = [{"label": 0, "name": name, "score": 0.5}]
            video = name.replace("\ud800", "")
            results.add({"video": video, "top": top})
            results.add({"video": f"{video}.bad", "error": name})
    return path


def test_json_lines_hold_any_name_as_it_is(journal):
    raw = journal.read_bytes()
    assert raw.isascii()
    assert b"\x1b" not in raw
    found = [json.loads(line) for line in raw.splitlines()]
    assert [record["top"][0]["name"] for record in found[::2]] == HOSTILE


def test_the_table_has_neither_formulas_nor_control_characters(journal, tmp_path):
    write_csv(journal, tmp_path / "table.csv", timeline=False)
    with open(tmp_path / "table.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert len(rows) == 1 + 2 * len(HOSTILE)
    for cell in (cell for row in rows for cell in row):
        assert cell == plain(cell)
        assert not cell.startswith(("=", "+", "-", "@"))


@given(st.lists(st.one_of(st.sampled_from(HOSTILE), st.text()), min_size=1, max_size=4))
def test_subtitles_have_as_many_cues_as_segments_whatever_the_names(names):
    segments = [Segment(i, i + 0.5, i, name, 0.5) for i, name in enumerate(names)]
    for text, point in ((srt(segments), ","), (vtt(segments), ".")):
        text.encode("utf-8")
        cues = re.findall(rf"^\d\d:\d\d:\d\d\{point}\d\d\d --> .*\n(.*)\n", text, re.MULTILINE)
        assert text.count("\n\n") == len(names) - (point == ",")
        assert len(cues) == len(names)
        assert not any(set("<>") & set(cue) for cue in cues)
        if point == ".":
            assert [html.unescape(cue) for cue in cues] == [f"{plain(n)} (50%)" for n in names]


def test_times_of_subtitles():
    (text,) = re.findall(r".* --> .*", srt([Segment(3661.0015, 36000.9996, 0, "x", 1.0)]))
    assert text == "01:01:01,002 --> 10:00:01,000"


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_printed_is_one_line_without_escapes(name):
    prediction = Prediction(name, (ClassScore(0, name, 0.5),), np.zeros(1), np.zeros((1, 1)))
    segment = Segment(0.0, 1.0, 0, name, 0.5)
    timeline = Timeline(name, 1.0, np.zeros((1, 2)), np.zeros((1, 1)), (segment,))
    for line in (str(prediction), *str(timeline).split("\n")):
        assert not re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u202e\ud800]", line)
        line.encode("utf-8")
    assert str(timeline).count("\n") == 1


def test_files_of_videos_lie_in_their_folder_and_never_collide(tmp_path):
    names = [
        "a/x.mp4",
        "b/x.mp4",
        "..",
        "../../etc/passwd",
        "two\nlines.mp4",
        ".hidden.mp4",
        "x" * 300,
    ]
    files = [file_for(tmp_path, name, ".srt", single=False) for name in names]
    assert len({file.name for file in files}) == len(names)
    for file in files:
        assert file.parent == tmp_path
        file.write_text("fits")
