"""Reading a log: what can be read is read, what cannot is left out, and only a log without a line is refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mvit_video.errors import InputError
from mvit_video.evaluate.report import write_curves
from mvit_video.evaluate.report.curves import PANELS, draw_curves
from mvit_video.evaluate.report.run_log import read_run_log
from tests.evaluate.report.made_run import write_log

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=6,
)
KEYS = sorted({"epoch", "step", "time"} | {curve.key for panel in PANELS for curve in panel.curves})
LINES = st.fixed_dictionaries(
    {"kind": st.sampled_from(("start", "step", "epoch", "end", "new kind"))},
    optional={key: JSON for key in KEYS},
)


def read(folder, text: str):
    (folder / "log.jsonl").write_text(text)
    return read_run_log(folder)


def test_values_are_read_by_epoch(tmp_path):
    write_log(tmp_path, epochs=2)
    run = read_run_log(tmp_path)
    assert run.points("epoch", "val_top1") == [(1.0, 50.0), (2.0, 75.0)]
    assert (run.epochs, run.steps, run.state) == (2.0, 20, "finished")


def test_a_young_log_a_cut_line_and_unknown_keys_are_no_trouble(tmp_path):
    run = read(
        tmp_path,
        '{"kind": "start", "time": 1, "step": 0, "epoch": 0}\n[1]\n"text"\n{"kind": 3}\n'
        '{"kind": "step", "time": 2, "step": 1, "epoch": 0.5, "loss": NaN, "lr": 0.1, "new": [1]}\n'
        '{"kind": "step", "time": 3, "step": 2, "epoch": 1, "loss": null, "lr": true}\n'
        '{"kind": "step", "ti',
    )
    assert run.points("step", "loss") == []
    assert run.points("step", "lr") == [(0.5, 0.1)]
    assert (run.seconds, run.state) == (2.0, "not finished")
    assert [chart.title for chart in draw_curves([run])] == ["Learning rate"]


def test_time_between_a_stop_and_the_resume_does_not_count(tmp_path):
    lines = [("start", 0), ("step", 50), ("stop", 60), ("resume", 10_000), ("step", 10_040)]
    text = "".join(json.dumps({"kind": kind, "time": time}) + "\n" for kind, time in lines)
    assert read(tmp_path, text).seconds == 100.0


@settings(max_examples=40)
@given(st.lists(LINES, min_size=1, max_size=8))
def test_whatever_the_values_are_it_is_drawn(tmp_path_factory, lines):
    folder = tmp_path_factory.mktemp("log")
    run = read(folder, "".join(json.dumps(line) + "\n" for line in lines))
    draw_curves([run])
    draw_curves([run, run])
    assert run.seconds >= 0


@pytest.mark.parametrize("text", ["", "\n", "no JSON\n", "\x00\x00\x00"])
def test_a_log_without_a_line_is_refused(tmp_path, text):
    with pytest.raises(InputError, match=r"log\.jsonl holds no line that can be read"):
        read(tmp_path, text)


def test_a_log_that_has_only_begun_gives_no_curves(tmp_path):
    read(tmp_path, '{"kind": "start", "time": 1, "step": 0, "epoch": 0}\n')
    with pytest.raises(InputError, match="nothing is logged yet"):
        write_curves([tmp_path], tmp_path / "curves.svg", tmp_path / "curves.html")
    assert not (tmp_path / "curves.svg").exists()
