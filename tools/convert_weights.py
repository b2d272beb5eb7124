"""Converts weights between SlowFast's, torchvision's, pytorchvideo's and this project's formats.

python tools/convert_weights.py k400.pyth mvit_b.safetensors --infer --class-names kinetics400
python tools/convert_weights.py mvitv2_s.safetensors mvitv2_s.pth --to torchvision
python tools/convert_weights.py IN1K_MVIT_B_16.pyth inflated.safetensors --num-frames 16
"""

from __future__ import annotations

import sys

from mvit_video.config import load_config
from mvit_video.data.preprocessing import Preprocessing
from mvit_video.launch.cli import Parser, positive_int, run_tool
from mvit_video.resources import read_class_names
from mvit_video.weights import Inflation, read_checkpoint
from mvit_video.weights.architecture import embedded_config
from mvit_video.weights.convert import convert


def main() -> int:
    """Parses the command line, converts, prints what was written."""
    parser = Parser(__doc__)
    parser.add_argument("source", metavar="SRC", help="a weight file, or its URL")
    parser.add_argument("target", metavar="DST", help="file to write")
    parser.add_argument(
        "--to", default="native", help="native (safetensors, the default), slowfast or torchvision"
    )
    parser.add_argument(
        "--infer",
        action="store_true",
        help="read the model from the tensors alone, whatever config they come with",
    )
    parser.add_argument(
        "--num-frames", type=positive_int, metavar="N", help="clip length; inflates an image model"
    )
    parser.add_argument(
        "--init", choices=("centre", "mean"), default="centre", help="of inflated kernels"
    )
    parser.add_argument(
        "--time-padding", choices=("zero", "replicate"), default="zero", help="of an inflated model"
    )
    parser.add_argument(
        "--cfg", metavar="FILE", help="config whose preprocessing the weights belong to"
    )
    parser.add_argument(
        "--class-names",
        metavar="NAME",
        help="a shipped list (kinetics400, ...) or a file, one name a line",
    )
    options = parser.parse_args()
    checkpoint = read_checkpoint(options.source)
    config = load_config(options.cfg) if options.cfg else None
    described = config or embedded_config(checkpoint)
    print(
        convert(
            checkpoint,
            options.target,
            options.to,
            num_frames=options.num_frames,
            infer=options.infer,
            inflation=Inflation(options.init, options.time_padding),
            config=config,
            preprocessing=Preprocessing.from_config(described).to_dict() if described else None,
            class_names=read_class_names(options.class_names) if options.class_names else (),
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(run_tool(main))
