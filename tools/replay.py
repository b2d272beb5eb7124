"""Replays a batch whose loss or gradient was not finite, and says which clip and which layer go wrong first.

    python tools/replay.py output/b16/nonfinite/step_00001234.pt [KEY VALUE ...]

A training writes such files (docs/training.md). The weights are those in the file, which met the batch; --weights takes
others, such as the last checkpoint's. Keys say where the videos are now, if they have moved: DATA.PATH_PREFIX /videos.
Exit codes: 0 something is not finite again, 1 everything is finite this time, 2 wrong input.
"""

from __future__ import annotations

import sys

import torch

from mvit_video.config.loading import parse_config
from mvit_video.launch.cli import Parser, run_tool
from mvit_video.train.nonfinite import read_report
from mvit_video.train.replay import Replayed, replay

_SHOWN = 8  # clips of a micro-batch


def main() -> int:
    """Parses the command line, replays, prints."""
    parser = Parser(__doc__)
    parser.add_argument("report", help="OUTPUT_DIR/nonfinite/step_XXXXXXXX.pt")
    parser.add_argument(
        "--weights", metavar="FILE", default="", help="a checkpoint to take them from"
    )
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ...; default: a GPU if there is one")
    options, keys_and_values = parser.parse_known_args()
    report = read_report(options.report)
    cfg = parse_config(report["config"], options.report, overrides=keys_and_values)
    device = torch.device(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    print(
        f"update {report['step']} of epoch {report['epoch']} (both counted from 0), learning rate "
        f"{report['learning_rate']:.3g}: loss {report['loss']:.4g}, gradient norm {report['grad_norm']:.4g}, "
        f"{report['world_size']} ranks; weights of {options.weights or 'the moment'}"
    )
    found = [_tell(part) for part in replay(report, cfg, options.weights, device)]
    if any(found):
        return 0
    print("everything is finite this time")
    return 1


def _tell(part: Replayed) -> bool:
    """Prints what there is to say about a micro-batch; whether something was not finite."""
    print(f"rank {part.rank}, micro-batch {part.part}, {len(part.video_ids)} clips")
    if not part.same_choices:
        print(
            "  the augmentation is another one than recorded: videos or code are not those of the run"
        )
    bad = part.first.clips if part.first else []
    shown = bad[:_SHOWN] or range(min(len(part.video_ids), _SHOWN))
    for number in shown:
        print(f"  clip {number}: loss {part.losses[number]:.4g}, {part.video_ids[number]}")
    if part.first is not None:
        clips = ", ".join(map(str, part.first.clips))
        print(f"  first not finite: {part.first.what}" + (f", in clips {clips}" if clips else ""))
    return part.first is not None


if __name__ == "__main__":
    sys.exit(run_tool(main))
