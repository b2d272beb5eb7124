"""Measures speed and memory, in alternation with what one would use instead, so that ratios hold on a busy machine.

    python tools/benchmark.py model --cfg configs/K400/MVIT_B_16x4.yaml --against pytorchvideo NUM_THREADS 2
    python tools/benchmark.py model --cfg configs/K400/MPVIT_S_16x4.yaml --against image --training NUM_THREADS 2
    python tools/benchmark.py depthwise --cfg configs/K400/MPVIT_S_16x4.yaml --against conv3d --training
    python tools/benchmark.py pooling --cfg configs/K400/MVITv2_S_16x4.yaml --against materialised NUM_THREADS 2
    python tools/benchmark.py attention --cfg configs/K400/MVITv2_S_16x4.yaml --against masked --training
    python tools/benchmark.py loader --cfg configs/K400/MVIT_B_16x4.yaml --against pyav DATA.PATH_TO_DATA_DIR lists

Comparisons with `pytorchvideo` and `materialised` need a checkout: they are built from tests/reference.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from mvit_video.benchmark import depthwise, hot_spots, loader, model
from mvit_video.benchmark.report import as_text
from mvit_video.files import atomic_file
from mvit_video.launch.cli import (
    Parser,
    add_config_arguments,
    parse_with_config,
    positive_int,
    run_tool,
)

# Passes of a model or of parts of it: what measures them, and what they are compared with.
PASSES = {
    "model": (model.benchmark_model, model.AGAINST),
    "attention": (hot_spots.benchmark_attention, hot_spots.ATTENTION_AGAINST),
    "pooling": (hot_spots.benchmark_pooling, hot_spots.POOLING_AGAINST),
    "depthwise": (depthwise.benchmark_depthwise, depthwise.AGAINST),
}


def main() -> int:
    """Parses the command line, measures, prints."""
    parser = Parser(__doc__)
    subjects = parser.add_subparsers(dest="subject", required=True)
    for name, (measure, against) in {
        **PASSES,
        "loader": (loader.benchmark_loader, loader.AGAINST),
    }.items():
        subject = subjects.add_parser(name, description=measure.__doc__.partition("\n\n")[0])
        add_config_arguments(subject)
        subject.add_argument(
            "--against",
            action="append",
            choices=against,
            default=[],
            help="what to compare with; may be given again",
        )
        subject.add_argument("--rounds", type=positive_int, default=7, help="timed rounds")
        subject.add_argument("--json", metavar="FILE", help="write the result there too")
    for name in PASSES:
        subject = subjects.choices[name]
        subject.add_argument("--batch", type=positive_int, default=1, help="clips per pass")
        subject.add_argument("--training", action="store_true", help="forward and backward")
    subjects.choices["loader"].add_argument(
        "--batches", type=positive_int, default=8, help="updates per round"
    )
    options, cfg = parse_with_config(parser)
    if options.subject == "loader":
        result = loader.benchmark_loader(cfg, options.against, options.batches, options.rounds)
    else:
        measure, _ = PASSES[options.subject]
        result = measure(cfg, options.against, options.batch, options.rounds, options.training)
    print(as_text(result))
    if options.json:
        with atomic_file(options.json) as file:
            file.write(json.dumps(result, indent=2).encode("utf-8"))
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # where tests/reference lies
    sys.exit(run_tool(main))
