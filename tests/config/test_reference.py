"""The configuration page says what the code does."""

from __future__ import annotations

from mvit_video.config.loading import all_keys
from mvit_video.config.reference import configuration_page
from tests.conftest import REPOSITORY


def test_the_configuration_page_is_not_stale():
    page = (REPOSITORY / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert page == configuration_page(), "run: python tools/config_docs.py"


def test_every_key_has_a_meaning_and_a_line():
    page = configuration_page()
    for name, key in all_keys().items():
        assert key.meaning.endswith("."), name
        assert f"| `{name}` |" in page
