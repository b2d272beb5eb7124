"""The page to try a model, driven in a real Chromium against a real server."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mvit_video import Recognizer
from mvit_video.errors import InputError
from mvit_video.predict.page import page as page_module
from mvit_video.predict.page.chart import clock, timeline_chart
from mvit_video.predict.page.page import Limits, answer, build_page, served
from mvit_video.predict.segments import Segment
from mvit_video.predict.timeline import Timeline
from tests.browser import DESKTOP, PHONE
from tests.conftest import REPOSITORY
from tests.data.readers.videos import write

pytest.importorskip("gradio", reason="the page needs the extra `demo`")

LIMITS = Limits(mib=1, minutes=0.05)
ALLOWED = ("Method not implemented.",)  # Gradio's own player says so of every video


@pytest.fixture(scope="module")
def address(recognizer):
    page = build_page(recognizer, "<b>red</b> & green", LIMITS)
    with served(page, LIMITS) as address:
        yield address


def drop(page, video: Path) -> None:
    page.locator("#film input[type=file]").set_input_files(video)


def complaint(page) -> str:
    page.locator(".toast-body").wait_for()
    return page.locator(".toast-body").inner_text()


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_a_dropped_video_gets_scores_a_timeline_and_a_look(address, open_page, trained, size):
    page = open_page(address, size=size, allowed=ALLOWED)
    assert page.locator("h1").inner_text() == "<b>red</b> & green"
    drop(page, next(trained.videos.rglob("*.mp4")))
    plot = page.locator("#timeline .plot").first
    plot.wait_for()
    assert re.search(r"\d+%", page.locator("#scores").inner_text())
    heat = page.locator("#looks video")
    page.wait_for_function("video => video.readyState >= 2", arg=heat.element_handle())
    assert heat.evaluate("video => video.videoWidth") > 200
    film = page.locator("#film video")
    page.wait_for_function("film => film.readyState > 0", arg=film.element_handle())
    half = film.evaluate("video => video.duration") / 2
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    plot.click(position={"x": box["width"] / 2, "y": box["height"] / 2})
    assert film.evaluate("video => video.currentTime") == pytest.approx(half, rel=0.05)
    head = page.locator("#timeline .playhead").first
    page.wait_for_function("head => parseFloat(head.style.left) > 40", arg=head.element_handle())
    across = page.evaluate("document.documentElement.scrollWidth")
    assert across <= page.evaluate("document.documentElement.clientWidth")


def test_a_segment_is_reached_with_the_keyboard(address, open_page, trained):
    page = open_page(address, allowed=ALLOWED)
    drop(page, next(trained.videos.rglob("*.mp4")))
    button = page.locator("#timeline .plot button").first
    button.wait_for()
    film = page.locator("#film video")
    page.wait_for_function("film => film.readyState > 0", arg=film.element_handle())
    film.evaluate("video => { video.currentTime = video.duration }")
    button.focus()
    page.keyboard.press("Enter")
    begin = float(button.get_attribute("data-seconds"))
    assert film.evaluate("video => video.currentTime") == pytest.approx(begin, abs=0.01)


def test_what_is_no_video_is_said_and_the_next_one_still_works(
    address, open_page, trained, tmp_path
):
    page = open_page(address, problems_expected=True)
    text = tmp_path / "<img src=x onerror=alert(1)>.mp4"
    text.write_text("no video")
    drop(page, text)
    assert "<img" not in complaint(page)
    assert page.locator("img[src=x]").count() == 0
    page.reload()
    drop(page, next(trained.videos.rglob("*.mp4")))
    page.locator("#timeline .plot").first.wait_for()


def test_a_long_video_is_refused_whatever_its_header_says(address, open_page, tmp_path):
    page = open_page(address, problems_expected=True)
    long = tmp_path / "long.mp4"
    write(long, range(200))
    drop(page, long)
    said = complaint(page)
    assert "long.mp4 is longer than 3 seconds" in said and tempfile.gettempdir() not in said


def test_a_file_above_the_limit_is_refused(address, open_page, tmp_path):
    page = open_page(address, problems_expected=True)
    large = tmp_path / "large.mp4"
    large.write_bytes(bytes(2 * 2**20))
    drop(page, large)
    assert "exceed the maximum allowed size" in complaint(page)


def test_uploads_go_with_the_server_and_others_cannot_reach_it(recognizer, trained, open_page):
    page_ = build_page(recognizer, "page", LIMITS)
    with served(page_, LIMITS) as address:
        assert address.startswith("http://127.0.0.1:")
        page = open_page(address, allowed=ALLOWED)
        drop(page, next(trained.videos.rglob("*.mp4")))
        page.locator("#timeline .plot").first.wait_for()
        folder = Path(page_.GRADIO_CACHE)
        assert list(folder.rglob("*.mp4"))
        page.close()
    assert not folder.exists()


@pytest.mark.parametrize(
    "end", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM]
)
def test_the_tool_serves_until_it_is_told_to_end(trained, end, tmp_path):
    tool = str(REPOSITORY / "tools" / "demo.py")
    with subprocess.Popen(
        [sys.executable, tool, "--checkpoint", str(trained.checkpoint)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            address = process.stdout.readline().split()[0]
            with urllib.request.urlopen(address) as answered:
                assert answered.status == 200
            assert list(tmp_path.glob("mvit_video_page_*"))
            process.send_signal(end)
            assert process.wait(60) == 0
        finally:
            process.kill()
    assert not list(tmp_path.glob("mvit_video_page_*"))


def test_pages_that_start_at_once_get_a_port_each():
    listen = page_module._listening
    with listen("127.0.0.1", None) as one, listen("127.0.0.1", None) as two:
        assert one.getsockname()[1] != two.getsockname()[1]


def test_a_taken_port_is_said(recognizer):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(InputError, match=str(port)),
            served(build_page(recognizer, "page", LIMITS), LIMITS, port=port),
        ):
            pass


def test_files_of_this_machine_are_not_served(address):
    for path in ("/etc/hostname", __file__):
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(f"{address}gradio_api/file={path}")


HOSTILE = ("<img src=x onerror='marked = 1'>", "${marked = 1}", "{{marked}} `${marked = 1}` [a](b)")


def test_class_names_are_text_everywhere_on_the_page(recognizer, trained, open_page):
    hostile = Recognizer(
        recognizer.model, replace(recognizer.preprocessing, class_names=HOSTILE), device="cpu"
    )
    with served(build_page(hostile, HOSTILE[0], LIMITS), LIMITS) as address:
        page = open_page(address, allowed=ALLOWED)
        assert page.locator("h1").inner_text() == HOSTILE[0]
        for number, name in enumerate(HOSTILE):
            assert name in page.locator(".about").first.inner_text()
            page.reload()
            drop(page, trained.videos / f"test_{number}.mp4")
            assert page.locator("#timeline .name").first.inner_text() == name
            assert name in page.locator("#scores").inner_text()
        assert page.evaluate("typeof marked") == "undefined"
        assert page.locator("img[src=x]").count() == 0


def one_window(*segments: Segment) -> Timeline:
    scores = np.array([[0.3, 0.4]], np.float32)
    return Timeline("video", 2.0, np.array([[0.0, 2.0]]), scores, segments)


def test_the_chart_holds_no_markup_of_others():
    hostile = "<script>alert(1)</script>\"'\n"
    chart = timeline_chart(one_window(Segment(0.0, 2.0, 0, hostile, 0.9)), [hostile, "b"])
    assert "<script" not in chart and "&lt;script&gt;" in chart
    assert chart.count("<button") == 1


def test_the_rows_are_the_longest_classes_in_the_order_in_which_they_come():
    order = [3, 9, 0, 1, 2, 4, 5, 6, 7, 8]
    segments = [Segment(i, i + 0.9, label, str(label), 0.9) for i, label in enumerate(order)]
    segments += [
        Segment(20 + i, 21 + i, label, str(label), 0.9) for i, label in enumerate(order[:8])
    ]
    timeline = Timeline(
        "video", 30.0, np.zeros((1, 2)), np.zeros((1, 10), np.float32), tuple(segments)
    )
    names = re.findall(r'class="name" title="(\d)"', timeline_chart(timeline, []))
    assert names == [str(label) for label in order[:8]]


def test_a_video_without_a_sure_moment_still_has_a_row():
    chart = timeline_chart(one_window(), [])
    assert 'title="1"' in chart and "Nothing is on" in chart


def test_the_pages_scores_are_the_recognizers(recognizer, trained):
    video = str(next(trained.videos.rglob("*.mp4")))
    shown = answer(recognizer, video, LIMITS).scores
    assert shown == {best.name: best.score for best in recognizer(video).top}


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (7.5, "0:07.5"), (90, "1:30"), (59.96, "1:00")]
)
def test_times_read_as_on_a_clock(seconds, text):
    assert clock(seconds) == text
