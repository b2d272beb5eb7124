"""Writes the videos of the built-in demo: real H.264 files, made by computation. What exists is kept.

python tools/make_demo.py [--out demo_data]
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from mvit_video.data.demo import write_demo
from mvit_video.launch.cli import Parser, run_tool


def main() -> int:
    """Writes what is missing and says how much that was."""
    parser = Parser(__doc__)
    parser.add_argument("--out", type=Path, default=Path("demo_data"), help="folder to write to")
    out = parser.parse_args().out
    begin = time.perf_counter()
    written, total = write_demo(out)
    print(f"{out}: {written} of {total} videos written in {time.perf_counter() - begin:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(run_tool(main))
