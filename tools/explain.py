"""Shows which parts of a video an answer rests on: heat over its frames, as a strip of pictures or as a video.

    python tools/explain.py video.mp4 --checkpoint output/demo/checkpoints/best.pt --out strip.png
    python tools/explain.py video.mp4 --checkpoint output/demo/checkpoints/best.pt --out heat.mp4 --method cam

Methods: rollout (MViT), semantic (Dual-ViT), cam (every family, for any class): docs/explain.md.
Exit codes: 0 done, 1 the video cannot be decoded, 2 wrong input.
"""

from __future__ import annotations

import sys
from pathlib import Path

from mvit_video.errors import InputError, VideoError
from mvit_video.launch.cli import Parser, positive_int, run_tool
from mvit_video.predict.explain.clip import read_clip
from mvit_video.predict.explain.explanation import METHODS, explain
from mvit_video.predict.explain.pictures import write_strip, write_video
from mvit_video.predict.recognizer import Recognizer
from mvit_video.predict.text import plain

_WRITERS = {".png": write_strip, ".mp4": write_video}


def main() -> int:
    """Reads the clip, explains it, draws it."""
    options = _parser().parse_args()
    out = Path(options.out)
    if out.suffix not in _WRITERS or out.is_dir():
        raise InputError(f"--out {out}: it takes a file that ends in {' or '.join(_WRITERS)}")
    recognizer = Recognizer.from_checkpoint(
        options.checkpoint, options.device, config=options.cfg, class_names=options.class_names
    )
    label = None if options.label is None else _class_number(recognizer, options.label)
    part = tuple(options.clip) if options.clip else None
    try:
        clip = read_clip(
            recognizer, options.video, part, options.columns if out.suffix == ".png" else 0
        )
    except VideoError as error:
        print(plain(f"error: {error}"), file=sys.stderr)
        return 1
    told = explain(recognizer, clip, options.method, label, options.level)
    try:
        _WRITERS[out.suffix](out, clip, told, Path(options.video).name)
    except OSError as error:
        raise InputError(f"{out} cannot be written: {error.strerror or error}") from error
    print(plain(f"{out}: {told.answer}; " + "; ".join(each.title for each in told.maps)))
    return 0


def _parser() -> Parser:
    parser = Parser(__doc__)
    parser.add_argument("video", metavar="VIDEO", help="a file or a URL")
    parser.add_argument(
        "--checkpoint", required=True, help="a weight file, its URL, or the name of a public model"
    )
    parser.add_argument("--out", required=True, metavar="FILE", help="a .png or .mp4 to write")
    parser.add_argument(
        "--method", choices=METHODS, default="", help="by default the family's own, else cam"
    )
    parser.add_argument(
        "--class", dest="label", metavar="NAME", help="for cam: a class by name or number"
    )
    parser.add_argument("--level", type=int, help="for cam: of the feature pyramid, 0 the finest")
    parser.add_argument(
        "--clip", nargs=2, type=float, metavar=("BEGIN", "END"), help="seconds of the video to use"
    )
    parser.add_argument(
        "--columns", type=positive_int, default=8, metavar="N", help="frames in a strip (8)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, ...")
    parser.add_argument("--cfg", metavar="FILE", default="", help="config, for bare weight files")
    parser.add_argument("--class-names", metavar="NAME", default="", help="a shipped list or file")
    return parser


def _class_number(recognizer: Recognizer, wanted: str) -> int:
    names = recognizer.class_names
    if wanted in names:
        return names.index(wanted)
    if wanted.isdecimal():
        return int(wanted)
    raise InputError(f"--class {wanted}: the model knows no class of this name; a number works too")


if __name__ == "__main__":
    sys.exit(run_tool(main))
