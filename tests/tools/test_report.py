"""tools/report.py and tools/plot_log.py as commands."""

from __future__ import annotations

from mvit_video.launch.cli import WRONG_INPUT
from tests.evaluate.report.made_run import write_log


def test_a_report_of_nothing_is_one_message(run_tool, tmp_path):
    done = run_tool("report.py", tmp_path)
    assert done.returncode == WRONG_INPUT
    assert done.stderr.startswith(f"error: {tmp_path}: there is neither log.jsonl")
    assert done.stderr.count("\n") == 1


def test_a_place_that_cannot_be_written_is_one_message(run_tool, tmp_path):
    write_log(tmp_path)
    (tmp_path / "file").write_text("")
    done = run_tool("plot_log.py", tmp_path, "--out", tmp_path / "file" / "curves")
    assert done.returncode == WRONG_INPUT
    assert done.stderr == f"error: {tmp_path}/file/curves.svg cannot be written: File exists\n"


def test_curves_of_runs_become_a_picture_and_a_page(run_tool, tmp_path):
    for name in ("one", "two"):
        write_log(tmp_path / name)
    done = run_tool("plot_log.py", "one", "two", "--out", "new folder/lr.1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "picture: new folder/lr.1.svg, page: new folder/lr.1.html\n"
    assert (tmp_path / "new folder" / "lr.1.svg").read_text().startswith("<svg ")
    assert (tmp_path / "new folder" / "lr.1.html").read_text().startswith("<!doctype html>")
