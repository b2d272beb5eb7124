"""Makes checked lists of a data set from its official annotations and its videos.

    python tools/prepare_data.py kinetics400 --annotations k400/annotations --videos k400/videos --out data_lists/k400
    python tools/prepare_data.py folder --videos my_videos --out data_lists/mine

Every video is decoded to its last frame; what is missing or bad is named in bad.csv. Run it again after an
interruption, or after videos were added: what is known is kept. docs/datasets.md tells what is expected and written.
Exit codes: 0 done, 1 some videos are bad, 2 wrong input.
"""

from __future__ import annotations

import sys
from pathlib import Path

from mvit_video.data.preparation import DATASETS, Examination, Request, prepare
from mvit_video.launch.cli import Parser, run_tool
from mvit_video.launch.examination_options import add_examination_options, report


def main() -> int:
    """Parses the command line, prepares, says what came out."""
    parser = Parser(__doc__)
    parser.add_argument("dataset", choices=DATASETS)
    parser.add_argument("--annotations", type=Path, help="official annotation folder or file")
    parser.add_argument("--videos", type=Path, required=True, help="folder with the videos")
    parser.add_argument("--out", type=Path, required=True, help="folder for the lists")
    parser.add_argument(
        "--reencode",
        type=Path,
        metavar="DIR",
        help="write copies that load fast there, and list those",
    )
    parser.add_argument(
        "--split", type=int, choices=(1, 2, 3), default=1, help="of ucf101 or hmdb51"
    )
    parser.add_argument(
        "--val-share", type=float, default=0.2, help="of a class, where folder has no val folder"
    )
    parser.add_argument("--seed", type=int, default=0, help="decides that share")
    add_examination_options(parser)
    options = parser.parse_args()
    if not 0 <= options.val_share < 1:
        parser.error(f"--val-share is {options.val_share}; it lies in 0 ... 1")
    request = Request(
        options.dataset, options.videos, options.out, options.annotations,
        options.split, options.val_share, options.seed,
    )  # fmt: skip
    how = Examination(options.quick, options.reencode, options.workers, options.timeout)
    summary = prepare(request, how)
    code = report(summary, options.out / "bad.csv")
    print(
        f"train with DATA.PATH_TO_DATA_DIR {options.out} DATA.PATH_PREFIX {options.reencode or options.videos} "
        f"MODEL.NUM_CLASSES {len(summary['splits']['train']['videos_per_class'])}"
    )
    return code


if __name__ == "__main__":
    sys.exit(run_tool(main))
