"""Options that tools/prepare_data.py and tools/check_list.py share: how videos are looked at."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from mvit_video.data.preparation import Examination, summary_lines
from mvit_video.launch.cli import positive_int


def add_examination_options(parser: argparse.ArgumentParser) -> None:
    """--quick, --workers, --timeout."""
    default = Examination()
    parser.add_argument(
        "--quick",
        action="store_true",
        help="decode only the first and the last frame of each video",
    )
    parser.add_argument(
        "--workers", type=positive_int, default=default.num_workers, help="processes"
    )
    parser.add_argument(
        "--timeout",
        type=positive_int,
        default=round(default.timeout),
        help=f"seconds before a video is abandoned (default {default.timeout:g})",
    )


def report(summary: dict[str, Any], bad_file: Path) -> int:
    """Prints a summary; returns the exit code: 1 if some videos are bad, else 0."""
    splits = summary["splits"]
    print("\n".join(summary_lines(splits)))
    bad = sum(split["bad"] for split in splits.values())
    if bad:
        print(f"{bad} bad videos: see {bad_file}", file=sys.stderr)
    return 1 if bad else 0
