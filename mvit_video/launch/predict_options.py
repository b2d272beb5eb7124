"""Options that tools/predict.py and tools/submit.py --predict share: what is predicted, how, where results go."""

from __future__ import annotations

import argparse

from mvit_video.errors import InputError
from mvit_video.launch.cli import Parser, positive_int
from mvit_video.launch.phases import DONE, SOME_FAILED, STOPPED
from mvit_video.predict.recognizer import Recognizer
from mvit_video.predict.request import Outcome, Request, TimelineSettings
from mvit_video.processes import keep_freed_memory


def add_predict_options(parser: Parser) -> None:
    """INPUT ..., --checkpoint and the rest; read them with `predict_request` and `make_recognizer`."""
    add = parser.add_argument
    add("inputs", nargs="*", metavar="INPUT", help="a file, folder, pattern, list or URL")
    add(
        "--checkpoint", metavar="FILE", help="weight file, its URL, or a preset with public weights"
    )
    add("--cfg", default="", metavar="FILE", help="config, for weights that do not say theirs")
    add("--class-names", default="", metavar="NAME", help="a shipped list, or a file")
    add("--device", default="auto", help="auto (default), cpu, cuda, cuda:1 ...")
    add("--prefix", default="", metavar="DIR", help="that the paths in lists are relative to")
    add("--topk", type=positive_int, default=5, metavar="K", help="classes named (default 5)")
    add("--views", metavar="5x3", help="clips x crops; default: as the model was tested")
    add("--workers", type=int, metavar="N", help="loader processes")
    add("--timeline", action="store_true", help="what is on when")
    add("--window", type=float, default=2.0, metavar="SECONDS", help="of the timeline (default 2)")
    add("--stride", type=float, default=0.5, metavar="SECONDS", help="of the window (default 0.5)")
    add("--enter", type=float, default=0.5, metavar="SCORE", help="begins a segment (default 0.5)")
    add("--leave", type=float, default=0.3, metavar="SCORE", help="ends it (default 0.3)")
    add("--json", default="", metavar="FILE", help="write a JSON line per input")
    add("--csv", default="", metavar="FILE", help="write a table")
    add("--srt", default="", metavar="PATH", help="write subtitles: a file, or a folder")
    add("--vtt", default="", metavar="PATH", help="likewise as WebVTT")
    add("--overlay", default="", metavar="PATH", help="write the video with labels and scores")


def predict_request(options: argparse.Namespace, shard: tuple[int, int] | None = None) -> Request:
    """What the options ask for. Raises InputError for what cannot be asked together."""
    if options.workers is not None and options.workers < 0:
        raise InputError(
            f"--workers is {options.workers}; it takes a number of processes from 0 on"
        )
    timeline = TimelineSettings(options.window, options.stride, options.enter, options.leave)
    wanted = options.timeline or options.srt or options.vtt
    return Request(
        inputs=tuple(options.inputs),
        prefix=options.prefix,
        topk=options.topk,
        views=options.views,
        timeline=timeline if wanted else None,
        json=options.json,
        csv=options.csv,
        srt=options.srt,
        vtt=options.vtt,
        overlay=options.overlay,
        shard=shard,
        num_workers=options.workers,
    )


def make_recognizer(options: argparse.Namespace, device: str = "") -> Recognizer:
    """The model that the options name, on `device` or on theirs. Raises InputError if its weights cannot be used."""
    if not options.checkpoint:
        raise InputError("--checkpoint is missing: a weight file, its URL, or a preset's name")
    keep_freed_memory()
    return Recognizer.from_checkpoint(
        options.checkpoint,
        device or options.device,
        config=options.cfg,
        class_names=options.class_names,
    )


def exit_code(outcome: Outcome) -> int:
    """Of a prediction: done, some inputs failed, or stopped."""
    if outcome.stopped:
        return STOPPED
    return SOME_FAILED if outcome.num_failed else DONE
