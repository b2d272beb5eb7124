"""Names that others chose, made safe to show: in a terminal, in a table, in subtitles.

A class name comes out of a weight file and a path out of a file system, and both may hold anything: line breaks that
end a cue, markup that a player or a page obeys, escape sequences that a terminal obeys, formulas that a spreadsheet
computes. JSON needs none of this: it escapes everything beyond ASCII.
"""

from __future__ import annotations

import unicodedata

# Controls, invisible formatting (which can turn the direction of writing), halves of characters, private ones, and
# line and paragraph separators.
_NOT_SHOWN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
_FORMULA = ("=", "+", "-", "@")


def plain(text: str) -> str:
    """`text` in one line of visible characters; a replacement character stands for each other one."""
    return "".join("\ufffd" if unicodedata.category(c) in _NOT_SHOWN else c for c in text)


def vtt_text(text: str) -> str:
    """As the text of a WebVTT cue, whose markup is HTML's."""
    return plain(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def srt_text(text: str) -> str:
    """As the text of a SubRip cue: there is no escape for the markup that players obey, so its brackets change."""
    return plain(text).translate(str.maketrans("<>{}", "\u2039\u203a()"))


def csv_class(name: str) -> str:
    """A class name as a cell that no spreadsheet takes for a formula."""
    name = plain(name)
    return f"'{name}" if name.startswith(_FORMULA) else name


def csv_path(path: str) -> str:
    """A path as such a cell, which still names the file where it did; control characters in it do not survive."""
    path = plain(path)
    return f"./{path}" if path.startswith(_FORMULA) else path
