"""The report in a real browser: it sorts, tells numbers to pointer and keyboard, fits a phone, and stays quiet."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mvit_video.config import load_config
from mvit_video.errors import InputError
from mvit_video.evaluate.predictions import Predictions, save
from mvit_video.evaluate.report import write_curves, write_report
from tests.browser import DESKTOP, PHONE
from tests.evaluate.report.made_run import made_predictions, write_log
from tests.tiny_run import TINY_RUN, overrides, write_dataset

HOSTILE = "<img src=x onerror=alert(1)></script><script>alert(2)</script> \"'&"
SIZES = pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])


@pytest.fixture(scope="session")
def whole_run(tmp_path_factory) -> Path:
    """A run with all there is: a log, a test of 6 videos with pictures, 2 undecodable ones, config and environment."""
    data, folder = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("runs") / "whole run"
    cfg = load_config(None, overrides({**TINY_RUN, **write_dataset(data, num_test=8)}))
    write_log(folder)
    (folder / "config.yaml").write_text(cfg.dump())
    (folder / "environment.json").write_text(json.dumps({"torch": "2.13", "device": "CPU"}))
    bad = {"path": "train/gone.mp4", "reason": "no such file", "epoch": 1, "index": 3}
    (folder / "bad_videos.jsonl").write_text(json.dumps(bad) + "\n" + "[" * 100_000 + "\n")
    predictions = made_predictions(
        labels=[0, 1, 2, 0, 1, 2],
        answers=[0, 1, 0, 0, 2, 0],
        sure=[0.9, 0.8, 0.7, 0.6, 0.5, 0.95],
        lost=[0, 1],
        ids=[f"test_{i}.mp4" for i in range(6)],
        views=(3, 1),
    )
    save(predictions, folder / "test" / "predictions.npz")
    write_report(folder)
    return folder


@pytest.fixture
def report_of(tmp_path) -> Callable[[Predictions], Path]:
    """report_of(predictions) writes the report of a test that has nothing else."""

    def write(predictions: Predictions) -> Path:
        save(predictions, tmp_path / "test" / "predictions.npz")
        return write_report(tmp_path)

    return write


def column(page, number: int) -> list[str]:
    """A column of the table of classes, as shown."""
    cells = page.locator(f"#class-table tbody tr:visible > :nth-child({number})")
    return cells.all_inner_texts()


def wide(page) -> int:
    return page.evaluate("document.documentElement.scrollWidth")


@SIZES
def test_everything_there_is_is_shown_and_fits_the_screen(open_page, whole_run, size):
    page = open_page(whole_run / "report.html", size)
    assert page.title() == "whole run · 50.0 %"
    headings = page.locator("h2").all_inner_texts()
    assert [h for h in headings if h != "Scores"] == [
        "Training",
        "Confusions",
        "Classes",
        "Videos",
        "Undecodable videos",
        "Settings",
    ]
    assert page.locator("figure.chart").count() == 9
    assert page.locator("article.video").count() == 5
    for strip in page.locator("article.video img").all():
        assert strip.evaluate("image => image.naturalWidth") > 100
    undecodable = page.locator("#undecodable").inner_text()
    assert "lost 1.mp4: no video stream" in undecodable
    assert "train/gone.mp4\tno such file" in undecodable
    assert "SOLVER.MAX_EPOCH" in page.locator("#settings").inner_text()
    assert wide(page) == size[0]


@SIZES
def test_buttons_in_the_head_sort_by_pointer_and_by_keyboard(open_page, whole_run, size):
    page = open_page(whole_run / "report.html", size)
    assert column(page, 1) == ["blue", "green", "red"]  # the hardest first
    heads = page.locator("#class-table th[scope=col]")
    heads.nth(0).get_by_role("button").click()
    assert column(page, 1) == ["blue", "green", "red"]
    heads.nth(0).get_by_role("button").click()
    assert column(page, 1) == ["red", "green", "blue"]
    assert heads.nth(0).get_attribute("aria-sort") == "descending"
    heads.nth(2).get_by_role("button").focus()
    page.keyboard.press("Enter")
    assert column(page, 3) == ["0.0 %", "50.0 %", "100.0 %"]
    assert heads.nth(2).get_attribute("aria-sort") == "ascending"
    assert heads.nth(0).get_attribute("aria-sort") is None


def test_the_table_can_be_searched(open_page, whole_run):
    page = open_page(whole_run / "report.html")
    page.get_by_label("Find").fill("RE")
    assert column(page, 1) == ["green", "red"]
    assert page.locator("#filter-count").inner_text() == "2 of 3"


def cell(page, row: int, answer: int, classes: int = 3) -> tuple[float, float]:
    """The middle of a cell of the matrix, in pixels of the screen: the cells are the square at the lower right."""
    canvas = page.locator("#matrix canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    size = min(44, box["width"] / classes)
    right, bottom = box["x"] + box["width"], box["y"] + box["height"]
    return right - (classes - answer - 0.5) * size, bottom - (classes - row - 0.5) * size


def test_pointing_at_the_matrix_tells_the_cell(open_page, whole_run):
    page = open_page(whole_run / "report.html")
    page.mouse.move(*cell(page, 2, 0))
    told = page.locator("#tip").inner_text()
    assert told == "blue\ntaken for red: 2 of 2 videos (100.0 %)\nthe other way round: 0 of 2"
    page.mouse.move(*cell(page, 0, 0))
    assert page.locator("#tip").inner_text() == "red\nright: 2 of 2 videos (100.0 %)"
    page.mouse.move(2, 2)
    assert page.locator("#tip").inner_text() == ""


def test_a_finger_on_the_matrix_tells_the_cell(open_page, whole_run):
    page = open_page(whole_run / "report.html", PHONE)
    page.touchscreen.tap(*cell(page, 1, 2))
    assert "green\ntaken for blue: 1 of 2" in page.locator("#tip").inner_text()


def test_arrow_keys_walk_through_the_cells_that_hold_videos(open_page, whole_run):
    page = open_page(whole_run / "report.html")
    page.locator("#matrix canvas").focus()
    tip = page.locator("#tip")
    for key, told in (
        ("ArrowRight", "red\nright"),  # begins at the first class
        ("ArrowDown", "blue\ntaken for red"),
        ("ArrowUp", "red\nright"),
    ):
        page.keyboard.press(key)
        assert tip.inner_text().startswith(told)
    page.keyboard.press("Escape")
    assert tip.inner_text() == ""


def test_pointing_at_a_curve_tells_its_numbers(open_page, whole_run):
    page = open_page(whole_run / "report.html")
    chart = page.locator("figure.chart", has_text="Validation accuracy").locator("svg.plot")
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.96, box["y"] + box["height"] / 2)
    assert page.locator("#tip").inner_text() == "epoch 3\ntop-1: 87.5 %\ntop-5: 100 %"
    chart.focus()
    page.keyboard.press("ArrowLeft")
    assert page.locator("#tip").inner_text().startswith("epoch 2\ntop-1: 75 %")


def test_dark_and_light_differ_and_text_stands_out_in_both(open_page, whole_run):
    grounds = set()
    for scheme in ("light", "dark"):
        page = open_page(whole_run / "report.html", scheme=scheme)
        for element in ("body", ".muted", ".plot text", "nav a", "th button"):
            ratio = page.evaluate(CONTRAST, element)
            assert ratio > 4.5, (scheme, element, ratio)  # WCAG 2.2, AA
        grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(grounds) == 2


CONTRAST = """name => {
  const element = document.querySelector(name);
  const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
  const style = getComputedStyle(element);
  const fore = rgb(element.closest("svg") ? style.fill : style.color);
  let back = element;
  while (rgb(getComputedStyle(back).backgroundColor)[3] === 0) back = back.parentElement;
  const light = (c) => c.slice(0, 3).map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const [a, b] = [light(fore), light(rgb(getComputedStyle(back).backgroundColor))].sort((x, y) => y - x);
  return (a + 0.05) / (b + 0.05);
}"""


def test_hostile_names_are_shown_as_they_are(open_page, tmp_path):
    folder = tmp_path / "a <b>run</b> & 'more'"
    names = (HOSTILE, "line\nbreak\u202etxt.exe", "not UTF-8 \udcff")
    predictions = made_predictions([0, 1, 2, 0], [0, 1, 2, 2], [1], names=names)
    ids = (HOSTILE, "a\n'b'\t\"c\".mp4", "\udcff.mp4", "javascript:alert(3)")
    lost = replace(predictions.undecodable[0], video_id=HOSTILE, reason=HOSTILE)
    predictions = replace(predictions, video_id=ids, undecodable=(lost,))
    save(predictions, folder / "test" / "predictions.npz")
    write_log(folder)
    (folder / "config.yaml").write_text(f"{HOSTILE}: [\n")
    (folder / "environment.json").write_text(json.dumps({HOSTILE: HOSTILE}))
    page = open_page(write_report(folder))
    assert page.locator("h1").inner_text() == folder.name
    assert HOSTILE in column(page, 1)
    assert r"line\nbreak\u202etxt.exe" in column(page, 1)
    assert r"not UTF-8 \udcff" in column(page, 1)
    assert HOSTILE in page.locator("#undecodable").inner_text()
    assert r"a\n'b'\t" in page.locator("#videos").inner_text()
    assert page.locator("#settings dt", has_text=HOSTILE).count() == 1
    page.locator("#matrix canvas").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#tip").inner_text().startswith(HOSTILE)
    assert page.locator("img[src=x]").count() == 0


def test_no_script_but_ours_would_run(open_page, whole_run, tmp_path):
    """Even if a name found its way past the escaping."""
    text = (whole_run / "report.html").read_text()
    broken = tmp_path / "broken.html"
    broken.write_text(
        text.replace("<main>", "<main><script>document.title = 'taken over'</script>")
    )
    page = open_page(broken, problems_expected=True)
    assert page.title() == "whole run · 50.0 %"
    assert page.locator("#matrix canvas").bounding_box()["width"] > 100  # ours does


def test_a_test_without_a_training_and_without_names(open_page, report_of):
    predictions = replace(made_predictions([0, 1, 2], [0, 1, 2]), class_names=())
    page = open_page(report_of(predictions))
    assert column(page, 1) == ["class 0", "class 1", "class 2"]
    assert "every scored video is right" in page.locator("#confusions").inner_text()
    assert page.locator("#training").count() == 0


def test_a_test_that_could_score_nothing(open_page, report_of):
    page = open_page(report_of(made_predictions([], [], lost=[0, 1, 2])), PHONE)
    assert "No video could be scored" in page.locator("#scores").inner_text()
    assert page.locator("#undecodable tbody tr").count() == 3


def test_a_training_without_a_test(open_page, tmp_path):
    write_log(tmp_path)
    page = open_page(write_report(tmp_path))
    assert page.locator("figure.chart").count() == 7
    assert "no test yet" in page.locator("header").inner_text()


def test_a_folder_with_neither_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"neither log\.jsonl .* nor test/predictions\.npz"):
        write_report(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_videos_of_another_list_get_no_pictures(whole_run, tmp_path):
    predictions = made_predictions([0, 1], [0, 2])
    save(predictions, tmp_path / "test" / "predictions.npz")
    (tmp_path / "config.yaml").write_text((whole_run / "config.yaml").read_text())
    text = write_report(tmp_path).read_text()
    assert "is another list than the one that was tested" in text
    assert "data:image/jpeg" not in text


@pytest.fixture(scope="session")
def large_run(tmp_path_factory) -> Path:
    """A test of 400 classes and 4,000 videos, a fifth of them wrong."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 400, 4000)
    answers = np.where(rng.random(4000) < 0.8, labels, (labels + rng.integers(1, 4, 4000)) % 400)
    names = [f"class number {i}" for i in range(400)]
    folder = tmp_path_factory.mktemp("large")
    save(made_predictions(labels, answers, names=names), folder / "test" / "predictions.npz")
    write_report(folder)
    return folder


@SIZES
def test_a_matrix_of_400_classes_can_be_walked_and_enlarged(open_page, large_run, size):
    page = open_page(large_run / "report.html", size)
    assert (large_run / "report.html").stat().st_size < 1e6
    canvas = page.locator("#matrix canvas")
    box = canvas.bounding_box()
    assert box["width"] == pytest.approx(box["height"], abs=2)
    assert box["height"] <= max(size)
    x, y = cell(page, 200, 200, 400)
    page.mouse.click(x, y)
    assert re.match(r"class number (199|200|201|202)\n", page.locator("#tip").inner_text())
    page.get_by_label("Go to").fill("class number 321")
    page.keyboard.press("Tab")
    assert page.locator("#tip").inner_text().startswith("class number 321\nright: ")
    page.keyboard.press("ArrowRight")
    assert "class number 321\ntaken for class number 32" in page.locator("#tip").inner_text()
    page.get_by_label("Order").select_option("similar")
    page.get_by_role("button", name="Smaller cells").click()
    page.get_by_role("button", name="Fit").click()
    assert canvas.bounding_box()["width"] == pytest.approx(box["width"], abs=1)
    assert wide(page) == size[0]


@SIZES
def test_curves_of_several_runs_on_one_page(open_page, tmp_path, size):
    for number, name in enumerate(("one", "<b>two</b>"), 2):
        write_log(tmp_path / name, epochs=number)
    runs = [tmp_path / "one", tmp_path / "<b>two</b>"]
    write_curves(runs, tmp_path / "curves.svg", tmp_path / "curves.html")
    page = open_page(tmp_path / "curves.html", size)
    assert page.locator("tbody th").all_inner_texts() == [str(run) for run in runs]
    assert page.locator("figure.chart").count() == 7
    page.locator("svg.plot").first.focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#tip").inner_text().startswith(f"epoch 3\n{runs[1]}, training: 0.1")
    assert wide(page) == size[0]
    picture = open_page(tmp_path / "curves.svg", size)
    assert picture.locator("svg svg.plot").count() == 7
    assert "var(" not in (tmp_path / "curves.svg").read_text()


@pytest.mark.slow
def test_a_test_of_kinetics_size_is_a_light_page_in_seconds(open_page, tmp_path):
    rng = np.random.default_rng(0)
    scores = rng.random((20_000, 5, 400), dtype=np.float32) ** 8
    labels = rng.integers(0, 400, 20_000)
    scores[np.arange(20_000), :, labels] += rng.random((20_000, 1), dtype=np.float32)
    predictions = replace(
        made_predictions(labels, labels, names=range(400), views=(5, 1)),
        scores=scores / scores.sum(axis=2, keepdims=True),
        class_names=(),
    )
    save(predictions, tmp_path / "test" / "predictions.npz")
    begin = time.monotonic()
    write_report(tmp_path)
    assert time.monotonic() - begin < 30  # 4 s on a quiet machine
    assert (tmp_path / "report.html").stat().st_size < 1e6
    begin = time.monotonic()
    page = open_page(tmp_path / "report.html", PHONE)
    page.locator("#matrix canvas").tap()
    assert page.locator("#tip").inner_text().startswith("class ")
    assert time.monotonic() - begin < 15
