"""Writes a model as one file that runs without this package: torch.export's .pt2, or .onnx.

    python tools/export_model.py --checkpoint output/demo/checkpoints/best.pt --to onnx --out demo.onnx
    python tools/export_model.py --checkpoint best.pt --to onnx --int8 --measure val.csv --path-prefix videos
    python tools/export_model.py --cfg configs/K400/MVITv2_S_16x4.yaml --to onnx    # not trained: how large, how fast

Beside it, and inside, stands how a video becomes its input, and the class names: docs/export.md.
Exit codes: 0 done, 1 the exported graph computes something else than the model (nothing is written), 2 wrong input.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from statistics import median

import torch

from mvit_video.benchmark.measure import alternate, ratio
from mvit_video.build import build_model
from mvit_video.config import load_config
from mvit_video.data.lists import ListFile
from mvit_video.data.preprocessing import Preprocessing
from mvit_video.errors import InputError, VideoError
from mvit_video.launch.cli import Parser, positive_int, run_tool
from mvit_video.predict.export import (
    FORMATS,
    TOLERANCE,
    Export,
    ExportMismatch,
    Run,
    export_model,
)
from mvit_video.predict.export_check import check_clips, compare_on_list, read_list
from mvit_video.predict.recognizer import Recognizer


def main() -> int:
    """Exports, and says what was checked and measured."""
    options = _parser().parse_args()
    videos = read_list(options.measure, options.path_prefix) if options.measure else None
    recognizer = _recognizer(options)
    source = options.checkpoint or options.cfg
    target = options.out or f"{Path(os.path.basename(source)).stem}.{options.to}"
    try:
        clips = check_clips(recognizer, options.clips)
        export = export_model(
            recognizer.model, recognizer.preprocessing, target, options.to, clips, options.int8
        )
    except VideoError as error:
        raise InputError(f"--clips: {error}") from error
    except ExportMismatch as mismatch:
        print(f"error: {mismatch}", file=sys.stderr)
        return 1
    origin = "given clips" if options.clips else "clips of the built-in demo (--clips takes others)"
    _say_what_was_written(export, f"{len(clips)} {origin}")
    if options.to == "onnx":
        _say_how_fast(recognizer, export.run, clips[:1], options.rounds)
    if videos:
        _say_how_right(recognizer, export.run, videos)
    return 0


def _recognizer(options: argparse.Namespace) -> Recognizer:
    if options.checkpoint:
        return Recognizer.from_checkpoint(
            options.checkpoint, "cpu", config=options.cfg, class_names=options.class_names
        )
    if not options.cfg:
        raise InputError("name a --checkpoint, or a --cfg for a model that is not trained")
    cfg = load_config(options.cfg)
    torch.manual_seed(0)
    print(f"the model of {options.cfg} with weights drawn at random: good for measuring alone")
    return Recognizer(build_model(cfg), Preprocessing.from_config(cfg))


def _parser() -> Parser:
    parser = Parser(__doc__)
    parser.add_argument(
        "--checkpoint", default="", help="a weight file, its URL, or the name of a public model"
    )
    parser.add_argument("--to", required=True, choices=FORMATS, help="format of the file")
    parser.add_argument("--out", metavar="FILE", help="by default the checkpoint's name, here")
    parser.add_argument(
        "--clips", metavar="VIDEO", nargs="+", default=[], help="videos to check the file on"
    )
    parser.add_argument(
        "--int8", action="store_true", help="linear layers in int8, for ONNX on CPUs"
    )
    parser.add_argument(
        "--measure", metavar="LIST", type=Path, help="also compare top-1 on this list of videos"
    )
    parser.add_argument(
        "--path-prefix", metavar="DIR", default="", help="folder that the list's paths start from"
    )
    parser.add_argument(
        "--cfg", metavar="FILE", default="", help="config, for bare weight files or for none"
    )
    parser.add_argument(
        "--rounds", type=positive_int, default=10, metavar="N", help="of timing, for ONNX (10)"
    )
    parser.add_argument("--class-names", metavar="NAME", default="", help="a shipped list or file")
    return parser


def _say_what_was_written(export: Export, clips: str) -> None:
    print(
        f"{export.path}: {export.path.stat().st_size / 2**20:.1f} MiB, described in {export.description}"
    )
    print(
        f"checked on {clips}: logits differ from the model's by {export.difference:.1e} of the largest at most "
        f"({TOLERANCE:.0e} is allowed)"
    )
    if export.int8_difference is not None:
        print(f"in int8 they differ by {export.int8_difference:.1e}")


def _say_how_fast(recognizer: Recognizer, run: Run, clip: torch.Tensor, rounds: int) -> None:
    with torch.inference_mode():
        jobs = {"model": lambda: recognizer.model(clip), "onnxruntime": lambda: run(clip)}
        seconds = alternate(jobs, rounds, torch.device("cpu"))
    time = ratio(seconds["onnxruntime"], seconds["model"])
    print(
        f"onnxruntime takes {time['time']:.2f} of the model's time for one clip, {median(seconds['model']):.3g} s "
        f"(CPU, {torch.get_num_threads()} threads, medians of {rounds} alternated rounds, spread "
        f"{time['time_spread']:.0%})"
    )


def _say_how_right(recognizer: Recognizer, run: Run, videos: ListFile) -> None:
    found = compare_on_list(recognizer, run, videos)
    print(
        f"top-1 on {found.num_videos} videos of {videos.source}, one view each: model {found.model_top1:.2f} %, "
        f"exported {found.exported_top1:.2f} %; the same answer for {found.agreement:.2f} %"
    )
    for video in found.undecodable:
        print(f"left out, undecodable: {video.reason}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(run_tool(main))
