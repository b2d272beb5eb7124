"""Writes the report of a run, one page that needs nothing else: OUTPUT_DIR/report.html.

    python tools/report.py output/demo

It shows what the folder holds: a training (log.jsonl), a test (test/predictions.npz), or both. A test ends by
writing it. How to read it: docs/report.md.
"""

from __future__ import annotations

import sys
from pathlib import Path

from mvit_video.evaluate.report import write_report
from mvit_video.launch.cli import Parser, run_tool


def main() -> int:
    """Writes the report and says where it lies."""
    parser = Parser(__doc__)
    parser.add_argument("output_dir", type=Path, metavar="OUTPUT_DIR", help="folder of the run")
    print(f"report: {write_report(parser.parse_args().output_dir)}")
    return 0


if __name__ == "__main__":
    sys.exit(run_tool(main))
