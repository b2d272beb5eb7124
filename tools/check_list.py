"""Looks at every video of a list: is it there, does it decode to its last frame, and what is it?

    python tools/check_list.py data_lists/k400/val.csv --prefix k400/videos

Writes val.bad.csv, val.facts.tsv and val.summary.json beside the list, or into --out; the list stays as it is.
Exit codes: 0 done, 1 some videos are bad, 2 wrong input.
"""

from __future__ import annotations

import sys
from pathlib import Path

from mvit_video.data.preparation import Examination, check_list
from mvit_video.launch.cli import Parser, run_tool
from mvit_video.launch.examination_options import add_examination_options, report


def main() -> int:
    """Parses the command line, looks, says what came out."""
    parser = Parser(__doc__)
    parser.add_argument("list", type=Path, help="file with `path label` lines")
    parser.add_argument("--prefix", default="", help="folder that its paths are relative to")
    parser.add_argument("--out", type=Path, help="folder for the results; the list's by default")
    add_examination_options(parser)
    options = parser.parse_args()
    out = options.out or options.list.parent
    how = Examination(options.quick, None, options.workers, options.timeout)
    summary = check_list(options.list, options.prefix, how, out)
    return report(summary, out / f"{options.list.stem}.bad.csv")


if __name__ == "__main__":
    sys.exit(run_tool(main))
