"""Prints the table of published models for the README, or writes it there: python tools/zoo.py [--write]"""

from __future__ import annotations

import sys
from pathlib import Path

from mvit_video.benchmark.zoo import zoo_table
from mvit_video.errors import InputError
from mvit_video.launch.cli import Parser, run_tool

README = Path(__file__).resolve().parent.parent / "README.md"
BEGIN, END = "<!-- zoo: written by tools/zoo.py -->", "<!-- end of zoo -->"


def main() -> int:
    """Computes the table, then prints it or puts it between the two marks in the README."""
    parser = Parser(__doc__)
    parser.add_argument("--write", action="store_true", help="write it into README.md")
    options = parser.parse_args()
    table = zoo_table()
    if not options.write:
        print(table)
        return 0
    text = README.read_text(encoding="utf-8")
    if BEGIN not in text or END not in text:
        raise InputError(f"{README} has no lines {BEGIN} and {END} to write between")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    README.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(run_tool(main))
