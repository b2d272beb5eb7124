"""Trains a model and tests it, as a config says; either phase can be switched off (TRAIN.ENABLE, TEST.ENABLE).

    python tools/run_net.py --cfg configs/K400/MVIT_B_16x4.yaml DATA.PATH_TO_DATA_DIR lists OUTPUT_DIR output/b16

The same command again goes on where the run was stopped. Keys: docs/configuration.md.
Exit codes: 0 done, 1 some test videos could not be decoded, 2 wrong input, 75 stopped after saving.
"""

from __future__ import annotations

import sys

from mvit_video.launch import run
from mvit_video.launch.cli import Parser, add_config_arguments, parse_with_config, run_tool


def main() -> int:
    """Parses the command line and runs what it asks for."""
    parser = Parser(__doc__)
    add_config_arguments(parser)
    _, cfg = parse_with_config(parser)
    return run(cfg)


if __name__ == "__main__":
    sys.exit(run_tool(main))
