"""Says what is to be seen in videos: files, folders, patterns, lists (.txt, .csv), URLs, or a camera.

    python tools/predict.py video.mp4 --checkpoint output/demo/checkpoints/best.pt
    python tools/predict.py my_videos --checkpoint best.pt --views 5x3 --json results.jsonl
    python tools/predict.py match.mp4 --checkpoint best.pt --timeline --srt match.srt --overlay match_labels.mp4
    python tools/predict.py --camera 0 --checkpoint best.pt

With --json or --csv the same command goes on where it was stopped. docs/predict.md has the rest.
Exit codes: 0 done, 1 some inputs failed, 2 wrong input, 75 stopped before the end.
"""

from __future__ import annotations

import argparse
import re
import sys

from mvit_video.data.readers.stream import LiveSource
from mvit_video.errors import InputError, VideoError
from mvit_video.launch.cli import Parser, positive_int, run_tool
from mvit_video.launch.stop import StopFlag
from mvit_video.predict.recognizer import Recognizer
from mvit_video.predict.request import Outcome, Request, TimelineSettings
from mvit_video.predict.run import predict_inputs
from mvit_video.predict.segments import Segment
from mvit_video.predict.shards import merge_shards
from mvit_video.predict.text import plain

DONE, SOME_FAILED, STOPPED = 0, 1, 75


def make_parser() -> Parser:
    """The options."""
    parser = Parser(__doc__)
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
    add("--shard", type=_shard, metavar="3/100", help="every 100th input from the third on")
    add(
        "--merge", type=positive_int, metavar="100", help="bring the results of 100 shards together"
    )
    add("--camera", metavar="SOURCE", help="a camera's number, or any address that FFmpeg opens")
    add("--camera-format", default="", metavar="NAME", help="FFmpeg's name of its input format")
    return parser


def _shard(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,7})/(\d{1,7})", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not like 3/100")
    return int(match[1]), int(match[2])


def main() -> int:
    """Parses the command line and predicts."""
    parser = make_parser()
    options = parser.parse_args()
    if bool(options.inputs) == (options.camera is not None):
        parser.error("name INPUTs, or a --camera")
    if options.workers is not None and options.workers < 0:
        parser.error(f"--workers is {options.workers}")
    if options.merge:
        if not options.json:
            parser.error("--merge writes to --json FILE, the name that the shards were given")
        return _exit_code(merge_shards(_request(options), options.merge))
    if not options.checkpoint:
        parser.error("--checkpoint is missing")
    request = _request(options)
    recognizer = Recognizer.from_checkpoint(
        options.checkpoint, options.device, config=options.cfg, class_names=options.class_names
    )
    if options.camera is not None:
        return _watch(recognizer, options)
    with StopFlag() as stop:
        return _exit_code(predict_inputs(request, recognizer, stop))


def _request(options: argparse.Namespace) -> Request:
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
        shard=options.shard,
        num_workers=options.workers,
    )


def _exit_code(outcome: Outcome) -> int:
    if outcome.stopped:
        return STOPPED
    return SOME_FAILED if outcome.num_failed else DONE


def _watch(recognizer: Recognizer, options: argparse.Namespace) -> int:
    """Prints each segment of a live source when it has ended, until that ends or Ctrl-C."""
    source = LiveSource(options.camera, options.camera_format)
    if options.camera.isdecimal():
        source = LiveSource(f"/dev/video{options.camera}", options.camera_format or "v4l2")
    settings = {key: getattr(options, key) for key in ("window", "stride", "enter", "leave")}
    try:
        for item in recognizer.watch(source, **settings):
            if isinstance(item, Segment):
                line = f"{item.begin:9.2f} {item.end:9.2f}  {item.score:6.1%}  {item.name}"
                print(plain(line), flush=True)
    except VideoError as error:
        raise InputError(f"camera {error}") from None
    return DONE


if __name__ == "__main__":
    sys.exit(run_tool(main))
