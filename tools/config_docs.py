"""Writes docs/configuration.md from the code: python tools/config_docs.py"""

from pathlib import Path

from mvit_video.config.reference import configuration_page

PAGE = Path(__file__).resolve().parent.parent / "docs" / "configuration.md"

if __name__ == "__main__":
    PAGE.write_text(configuration_page(), encoding="utf-8")
    print(f"wrote {PAGE}")
