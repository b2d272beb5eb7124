"""Submits the run that tools/run_net.py does to a cluster, through submitit; or tools/predict.py, in shards.

    python tools/submit.py --cfg configs/K400/MVIT_B_16x4.yaml --nodes 16 --gpus-per-node 8 --cpus-per-task 10 \\
        --partition gpu --timeout 2880 DATA.PATH_TO_DATA_DIR lists OUTPUT_DIR output/b16

    python tools/submit.py --shards 100 --gpus-per-node 1 --partition gpu --predict videos.txt --checkpoint best.pt \\
        --json results.jsonl

On Slurm, training and test become two jobs, the second waiting for the first. The same command again goes on where
the run was stopped. docs/slurm.md has the rest. Exit codes: 0 submitted (with --follow: done), 2 wrong input, or
refused by Slurm.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from mvit_video.launch.cli import Parser, add_config_arguments, positive_int, run_tool
from mvit_video.launch.prediction import submit_prediction
from mvit_video.launch.submit import submit


def make_parser() -> Parser:
    """The options."""
    parser = Parser(__doc__)
    add_config_arguments(parser, required=False)
    phase = parser.add_mutually_exclusive_group()
    phase.add_argument("--train", action="store_true", help="train only")
    phase.add_argument("--test", action="store_true", help="test only")
    add = parser.add_argument
    add("--cluster", choices=("slurm", "local", "debug"), default="slurm")
    add("--nodes", type=positive_int, default=1, metavar="N")
    add("--gpus-per-node", type=_count, default=0, metavar="G", help="with one process for each")
    add("--tasks-per-node", type=positive_int, metavar="T", help="processes; default: the GPUs")
    add("--cpus-per-task", type=positive_int, default=8, metavar="C", help="default 8")
    add("--mem-gb", type=positive_int, metavar="GB", help="memory of a node")
    add("--timeout", type=positive_int, metavar="MINUTES", help="default 60; none on this machine")
    for name in ("partition", "account", "qos", "constraint", "exclude", "comment"):
        add(f"--{name}", type=_line, metavar="TEXT", help=f"Slurm's --{name}")
    add("--name", type=_line, default="mvit-video", help="of the job")
    add(
        "--signal-delay",
        type=positive_int,
        default=120,
        metavar="SECONDS",
        help="before the time limit when the run is told to save (default 120)",
    )
    add("--max-timeouts", type=_count, default=30, metavar="N", help="requeues at the time limit")
    add("--max-failures", type=_count, default=3, metavar="N", help="requeues after a failure")
    add("--job-dir", metavar="DIR/%j", help="of each job; default OUTPUT_DIR/jobs/%%j")
    add("--shards", type=positive_int, metavar="N", help="test or predict with an array of N jobs")
    add(
        "--only-shards",
        type=positive_int,
        nargs="+",
        metavar="I",
        help="run these of them again, counted from 1",
    )
    add(
        "--predict",
        nargs=argparse.REMAINDER,
        metavar="INPUT --checkpoint FILE --json FILE",
        help="predict, with all that follows as tools/predict.py takes it",
    )
    add(
        "--sweep",
        action="append",
        default=[],
        metavar="KEY=A,B",
        help="a run for each value, as an array",
    )
    add("--array-parallelism", type=positive_int, default=256, metavar="N")
    add("--dry-run", action="store_true", help="print the sbatch files and submit nothing")
    add("--follow", action="store_true", help="stream the logs until all jobs have ended")
    return parser


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number")
    return int(text)


def _line(text: str) -> str:
    """What stands in a line of the sbatch file."""
    if not text.strip() or not text.isprintable():
        raise argparse.ArgumentTypeError(f"{text!r} is not one line of text")
    return text


def main() -> int:
    """Parses the command line and submits."""
    parser = make_parser()
    options, overrides = parser.parse_known_args()
    for word in overrides[::2]:
        if word.startswith("-"):
            parser.error(f"unknown option {word}")
    options.tasks_per_node = options.tasks_per_node or max(options.gpus_per_node, 1)
    if options.gpus_per_node and options.tasks_per_node != options.gpus_per_node:
        parser.error("--tasks-per-node must be --gpus-per-node where there are GPUs")
    if options.only_shards and max(options.only_shards) > (options.shards or 0):
        parser.error("--only-shards takes numbers from 1 to --shards")
    if options.predict is not None:
        return _predict(parser, options, overrides)
    if options.cfg is None:
        parser.error("--cfg is missing, or --predict")
    if options.shards and options.train:
        parser.error("--shards is for a test; leave out --train")
    options.test |= bool(options.only_shards)
    return submit(options, overrides, sys.argv)


def _predict(parser: Parser, options: argparse.Namespace, overrides: Sequence[str]) -> int:
    given = [f"--{name}" for name in ("cfg", "train", "test", "sweep") if getattr(options, name)]
    if given or overrides:
        parser.error(f"{', '.join([*given, *overrides])} before --predict has no meaning")
    if options.cluster != "slurm":
        parser.error("--predict needs --cluster slurm; on one machine use tools/predict.py")
    return submit_prediction(options, sys.argv)


if __name__ == "__main__":
    sys.exit(run_tool(main))
