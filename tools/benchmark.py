r"""Measures speed and memory, in alternation with what one would use instead, so that ratios hold on a busy machine.

    python tools/benchmark.py model --cfg configs/K400/MVIT_B_16x4.yaml --against pytorchvideo NUM_THREADS 2
    python tools/benchmark.py model --cfg configs/K400/MPVIT_S_16x4.yaml --against image --training NUM_THREADS 2
    python tools/benchmark.py depthwise --cfg configs/K400/MPVIT_S_16x4.yaml --against conv3d --training
    python tools/benchmark.py pooling --cfg configs/K400/MVITv2_S_16x4.yaml --against materialised NUM_THREADS 2
    python tools/benchmark.py pooling --cfg configs/K400/MVITv2_S_16x4.yaml --against triton --training --batch 8
    python tools/benchmark.py attention --cfg configs/K400/MVITv2_S_16x4.yaml --against masked --training
    python tools/benchmark.py model --cfg configs/K400/MVITv2_S_16x4.yaml --against torchvision TEST.PRECISION bfloat16
    python tools/benchmark.py augmentation --cfg configs/K400/MVITv2_S_16x4.yaml --against pillow NUM_THREADS 1
    python tools/benchmark.py train --cfg configs/demo/MVIT_XS_8x4.yaml --processes 1 2 4
    python tools/benchmark.py memory --cfg configs/K400/MVITv2_L_40x3.yaml --batch 4 TRAIN.PRECISION bfloat16
    python tools/benchmark.py test --cfg configs/demo/MVIT_XS_8x4.yaml
    python tools/benchmark.py loader --cfg configs/K400/MVIT_B_16x4.yaml --against decord --videos clips --opts \
        DATA.READER auto
    python tools/benchmark.py loader --cfg configs/K400/MVIT_B_16x4.yaml --against per_view --videos clips --views

Comparisons with `pytorchvideo`, `encoded_video`, `materialised` and `pillow` need a checkout: they are built from
tests/reference.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mvit_video.benchmark import (
    augmentation,
    depthwise,
    hot_spots,
    loader,
    memory,
    model,
    runs,
)
from mvit_video.benchmark.report import as_text
from mvit_video.files import atomic_file
from mvit_video.launch.cli import (
    Parser,
    add_config_arguments,
    parse_with_config,
    positive_int,
    run_tool,
)


class Subject(NamedTuple):
    """What can be measured: by which function, compared with what, and which of OPTIONS it takes."""

    measure: Callable[..., dict[str, Any]]
    against: Sequence[str] = ()
    options: Sequence[str] = ("rounds",)


PASS = ("rounds", "batch", "training")
LOADER = ("rounds", "batches", "videos", "views")
SUBJECTS = {
    "model": Subject(model.benchmark_model, model.AGAINST, PASS),
    "attention": Subject(hot_spots.benchmark_attention, hot_spots.ATTENTION_AGAINST, PASS),
    "pooling": Subject(hot_spots.benchmark_pooling, hot_spots.POOLING_AGAINST, PASS),
    "depthwise": Subject(depthwise.benchmark_depthwise, depthwise.AGAINST, PASS),
    "loader": Subject(loader.benchmark_loader, loader.AGAINST, LOADER),
    "augmentation": Subject(augmentation.benchmark_augmentation, augmentation.AGAINST, ("rounds",)),
    "train": Subject(runs.benchmark_training, (), ("rounds", "updates", "processes")),
    "test": Subject(runs.benchmark_test),
    "memory": Subject(memory.benchmark_memory, memory.AGAINST, ("batch",)),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "rounds": {"type": positive_int, "default": 7, "help": "timed rounds"},
    "batch": {"type": positive_int, "default": 1, "help": "clips per pass"},
    "training": {"action": "store_true", "help": "forward and backward"},
    "batches": {"type": positive_int, "default": 8, "help": "updates per round"},
    "videos": {"nargs": "+", "default": [], "help": "files and folders, instead of the list"},
    "views": {"action": "store_true", "help": "test videos with all views, not training clips"},
    "updates": {"type": positive_int, "default": 20, "help": "updates per round"},
    "processes": {
        "type": positive_int,
        "nargs": "+",
        "default": [1],
        "help": "numbers of processes to compare",
    },
}


def main() -> int:
    """Parses the command line, measures, prints."""
    parser = Parser(__doc__)
    parsers = parser.add_subparsers(dest="subject", required=True)
    for name, subject in SUBJECTS.items():
        description = subject.measure.__doc__.partition("\n\n")[0]
        arguments = parsers.add_parser(name, description=description)
        add_config_arguments(arguments)
        if subject.against:
            arguments.add_argument(
                "--against",
                action="append",
                choices=subject.against,
                default=[],
                help="what to compare with; may be given again",
            )
        for option in subject.options:
            arguments.add_argument(f"--{option}", **OPTIONS[option])
        arguments.add_argument("--json", metavar="FILE", help="write the result there too")
    options, cfg = parse_with_config(parser)
    subject = SUBJECTS[options.subject]
    taken = (*subject.options, *(("against",) if subject.against else ()))
    result = subject.measure(cfg, **{name: getattr(options, name) for name in taken})
    print(as_text(result))
    if options.json:
        with atomic_file(options.json) as file:
            file.write(json.dumps(result, indent=2).encode("utf-8"))
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # where tests/reference lies
    sys.exit(run_tool(main))
