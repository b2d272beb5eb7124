"""Draws loss, accuracy, learning rate, throughput of one or several runs: one picture (SVG) and one page to point at.

    python tools/plot_log.py output/demo
    python tools/plot_log.py output/lr1 output/lr2 --out comparison

Writes curves.svg and curves.html into the current folder, or the two files that --out names.
"""

from __future__ import annotations

import sys
from pathlib import Path

from mvit_video.evaluate.report import write_curves
from mvit_video.launch.cli import Parser, run_tool


def main() -> int:
    """Draws, and says where the picture and the page lie."""
    parser = Parser(__doc__)
    parser.add_argument("output_dirs", nargs="+", metavar="OUTPUT_DIR", help="folders of runs")
    parser.add_argument(
        "--out", type=Path, default=Path("curves"), help="where to write, without .svg and .html"
    )
    options = parser.parse_args()
    picture, page = (options.out.with_name(options.out.name + end) for end in (".svg", ".html"))
    write_curves(options.output_dirs, picture, page)
    print(f"picture: {picture}, page: {page}")
    return 0


if __name__ == "__main__":
    sys.exit(run_tool(main))
