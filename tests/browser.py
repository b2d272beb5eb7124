"""Pages in a real browser: headless Chromium, driven by Playwright, with everything a page does wrong noted.

`open_page` is for tests of any page, a file or one that a server of the test serves. Where there is no Chromium they
skip with a reason; REQUIRE_CHROMIUM=1 (.ci/run) makes its absence a failure.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PHONE = (390, 844)  # CSS pixels: width, height
DESKTOP = (1280, 800)
_PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
_TIMEOUT = 20_000  # milliseconds

OpenPage = Callable[..., "Page"]


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """The browser, started once per test process; from then on asyncio.run works only in threads of their own."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        _absent("the playwright package is not installed (pip install 'mvit-video[test]')")
    program = next(filter(None, map(shutil.which, _PROGRAMS)), None)
    if program is None:
        _absent("there is no Chromium on this machine (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        # In containers, where the tests run as root, Chromium's own sandbox cannot start and /dev/shm is small.
        arguments = ["--no-sandbox", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: Browser) -> Iterator[OpenPage]:
    """open_page(path or URL, size=DESKTOP, scheme="light", origin=None, problems_expected=False, allowed=()) -> Page.

    PHONE as size makes it a phone: touch, and a layout that follows the page's viewport tag. When it ends, no page
    that it opened may have logged an error or a warning, thrown an exception, opened a dialog, or asked for an address
    that does not begin with `origin` (by default its own). Console messages that are `allowed` to the letter are none.
    """
    contexts, problems = [], []

    def open_(
        where: str | os.PathLike[str],
        size: tuple[int, int] = DESKTOP,
        scheme: str = "light",
        origin: str | None = None,
        problems_expected: bool = False,
        allowed: Collection[str] = (),
    ) -> Page:
        context = chromium.new_context(
            viewport={"width": size[0], "height": size[1]},
            color_scheme=scheme,
            has_touch=size == PHONE,
            is_mobile=size == PHONE,
        )
        contexts.append(context)
        context.set_default_timeout(_TIMEOUT)
        page = context.new_page()
        url = str(where) if "://" in str(where) else Path(where).resolve().as_uri()
        _watch(page, origin or url, [] if problems_expected else problems, allowed)
        page.goto(url)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert not problems


def _watch(page: Page, origin: str, problems: list[str], allowed: Collection[str]) -> None:
    """Notes what a page may not do."""

    def on_console(message) -> None:
        if message.type in ("error", "warning") and message.text not in allowed:
            problems.append(f"console {message.type}: {message.text}")

    def on_request(request) -> None:
        if not request.url.startswith((origin, "data:", "blob:", "about:")):
            problems.append(f"request: {request.url}")

    page.on("console", on_console)
    page.on("pageerror", lambda error: problems.append(f"exception: {error}"))
    page.on(
        "dialog", lambda dialog: (problems.append(f"dialog: {dialog.message}"), dialog.dismiss())
    )
    page.on("request", on_request)


def _absent(reason: str) -> NoReturn:
    if os.environ.get("REQUIRE_CHROMIUM") == "1":
        pytest.fail(reason)
    pytest.skip(reason)
