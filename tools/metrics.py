"""Recomputes the scores of a test from its predictions file, or from the parts of one that shards wrote.

    python tools/metrics.py output/test/predictions.npz
    python tools/metrics.py shards/*.npz --ensemble max --output metrics.json

The test itself writes the same to metrics.json beside its predictions.
"""

from __future__ import annotations

import json
import sys

from mvit_video.evaluate.metrics import compute_metrics, write_metrics
from mvit_video.evaluate.predictions import load, merge
from mvit_video.launch.cli import Parser, run_tool


def main() -> int:
    """Prints the metrics as JSON, or writes them to --output."""
    parser = Parser(__doc__)
    parser.add_argument("predictions", nargs="+", help="predictions.npz, or all parts of one")
    parser.add_argument(
        "--ensemble", choices=("sum", "max"), default="sum", help="how views are combined"
    )
    parser.add_argument("--output", help="file to write instead of the terminal")
    arguments = parser.parse_args()
    metrics = compute_metrics(
        merge([load(path) for path in arguments.predictions]), arguments.ensemble
    )
    if arguments.output:
        write_metrics(metrics, arguments.output)
    else:
        print(json.dumps(metrics, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(run_tool(main))
