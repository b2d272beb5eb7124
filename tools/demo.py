"""Serves a page on this machine to try a model: drop a video, see what is in it and when, and where the model looks.

    python tools/demo.py --checkpoint output/demo/checkpoints/best.pt

Ctrl-C ends it. Exit codes: 0 ended, 2 wrong input.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from mvit_video.launch.cli import Parser, positive_int, run_tool
from mvit_video.predict.page.page import Limits, build_page, served
from mvit_video.predict.recognizer import Recognizer

ENDS = {signal.SIGINT, signal.SIGTERM}


def main() -> int:
    """Serves until it is interrupted or terminated."""
    options = _parser().parse_args()
    limits = Limits(options.max_mib, options.max_minutes)
    recognizer = Recognizer.from_checkpoint(
        options.checkpoint, options.device, config=options.cfg, class_names=options.class_names
    )
    page = build_page(recognizer, options.title or f"Try {Path(options.checkpoint).name}", limits)
    # Held back from the server's threads too, so that they come to sigwait alone: uploads are removed in any case.
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDS)
    with served(page, limits, options.host, options.port) as address:
        print(f"{address} (Ctrl-C ends it)", flush=True)
        signal.sigwait(ENDS)
    return 0


def _parser() -> Parser:
    parser = Parser(__doc__)
    add = parser.add_argument
    add("--checkpoint", required=True, help="a weight file, its URL, or a public model's name")
    add("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 lets other machines in")
    add("--port", type=_port, help="by default a free one from 7860 on")
    add("--max-mib", type=positive_int, default=200, metavar="N", help="of an upload (200)")
    add("--max-minutes", type=positive_int, default=10, metavar="N", help="of a video (10)")
    add("--title", default="", help="of the page; by default it names the weight file")
    add("--device", default="auto", help="auto, cpu, cuda, ...")
    add("--cfg", metavar="FILE", default="", help="config, for bare weight files")
    add("--class-names", metavar="NAME", default="", help="a shipped list or file")
    return parser


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 2**16:
        raise argparse.ArgumentTypeError(f"{text!r} is no port, 1 ... 65535")
    return int(text)


if __name__ == "__main__":
    sys.exit(run_tool(main))
