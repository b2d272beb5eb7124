"""Prints the table of published models, or writes it into the README and the heads of the shipped configs.

python tools/zoo.py
python tools/zoo.py --write
"""

from __future__ import annotations

import sys
from pathlib import Path

from mvit_video.benchmark.zoo import HEADER, config_header, zoo_table
from mvit_video.errors import InputError
from mvit_video.launch.cli import Parser, run_tool
from mvit_video.weights.zoo import ZOO

REPOSITORY = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- zoo: written by tools/zoo.py -->", "<!-- end of zoo -->"


def main() -> int:
    """Computes the table, then prints it or puts it where it belongs."""
    parser = Parser(__doc__)
    parser.add_argument(
        "--write", action="store_true", help="write README.md and the configs' first lines"
    )
    options = parser.parse_args()
    table = zoo_table()
    if options.write:
        _write_readme(REPOSITORY / "README.md", table)
        for config in {entry.config for entry in ZOO if entry.config}:
            _write_header(REPOSITORY / config, config_header(config))
    else:
        print(table)
    return 0


def _write_readme(readme: Path, table: str) -> None:
    text = readme.read_text(encoding="utf-8")
    if BEGIN not in text or END not in text:
        raise InputError(f"{readme} has no lines {BEGIN} and {END} to write between")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    readme.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", encoding="utf-8")


def _write_header(config: Path, header: str) -> None:
    lines = config.read_text(encoding="utf-8").splitlines(keepends=True)
    rest = "".join(line for line in lines if not line.startswith(HEADER))
    config.write_text(header + rest, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(run_tool(main))
