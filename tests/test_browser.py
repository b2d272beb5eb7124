"""The watch over pages in the browser: it sees what goes wrong in one."""

from __future__ import annotations

import pytest

from tests.browser import PHONE, _watch


def test_a_quiet_page_passes(open_page, tmp_path):
    (tmp_path / "a page.html").write_text("<link rel=icon href='data:,'><p id=p>ümlaut</p>")
    page = open_page(tmp_path / "a page.html", PHONE)
    assert page.viewport_size["width"] == PHONE[0]
    assert page.locator("#p").count() == 1


@pytest.mark.parametrize(
    ("content", "noted"),
    [
        ("<script>console.error('oh')</script>", "console error: oh"),
        ("<script>null.x</script>", "exception: Cannot read properties of null"),
        ("<script>alert('hello')</script>", "dialog: hello"),
        ("<img src='http://127.0.0.1:9/picture.png'>", "request: http://127.0.0.1:9/picture.png"),
    ],
)
def test_what_a_page_does_wrong_is_noted(chromium, tmp_path, content, noted):
    file = tmp_path / "page.html"
    file.write_text(content)
    problems: list[str] = []
    page = chromium.new_page()
    _watch(page, file.as_uri(), problems, allowed=())
    page.goto(file.as_uri())
    page.close()
    assert any(problem.startswith(noted) for problem in problems), problems
