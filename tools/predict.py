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
from mvit_video.launch.predict_options import (
    add_predict_options,
    exit_code,
    make_recognizer,
    predict_request,
)
from mvit_video.launch.stop import StopFlag
from mvit_video.predict.recognizer import Recognizer
from mvit_video.predict.run import predict_inputs
from mvit_video.predict.segments import Segment
from mvit_video.predict.shards import merge_shards


def make_parser() -> Parser:
    """The options."""
    parser = Parser(__doc__)
    add_predict_options(parser)
    add = parser.add_argument
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
    request = predict_request(options, options.shard)
    if options.merge:
        if not options.json:
            parser.error("--merge writes to --json FILE, the name that the shards were given")
        return exit_code(merge_shards(request, options.merge))
    recognizer = make_recognizer(options)
    if options.camera is not None:
        return _watch(recognizer, options)
    with StopFlag() as stop:
        return exit_code(predict_inputs(request, recognizer, stop))


def _watch(recognizer: Recognizer, options: argparse.Namespace) -> int:
    """Prints each segment of a live source when it has ended, until that ends or Ctrl-C."""
    source = LiveSource(options.camera, options.camera_format)
    if options.camera.isdecimal():
        source = LiveSource(f"/dev/video{options.camera}", options.camera_format or "v4l2")
    settings = {key: getattr(options, key) for key in ("window", "stride", "enter", "leave")}
    try:
        for item in recognizer.watch(source, **settings):
            if isinstance(item, Segment):
                print(item, flush=True)
    except VideoError as error:
        raise InputError(f"camera {error}") from None
    return 0


if __name__ == "__main__":
    sys.exit(run_tool(main))
