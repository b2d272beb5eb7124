"""What the tools' command lines share: how a config is named there, and how a command ends.

    --cfg FILE KEY VALUE ...          or          --cfg FILE --opts KEY VALUE ...

Exit codes: 0 done, 1 some inputs failed, 2 wrong input, 75 stopped after saving, 130 interrupted from the
keyboard.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from fvcore.common.config import CfgNode

from mvit_video.config import load_config
from mvit_video.errors import InputError

WRONG_INPUT = 2
INTERRUPTED = 130


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are InputErrors, and that spells no option by its beginning."""

    def __init__(self, description: str | None = None, **settings: Any) -> None:
        super().__init__(
            description=description,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            **settings,
        )

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; {self.prog} --help shows what it takes")


def positive_int(text: str) -> int:
    """The type of an option that counts something."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


def add_config_arguments(parser: argparse.ArgumentParser, required: bool = True) -> None:
    """Gives a parser `--cfg` and `--opts`; read them with `parse_with_config`."""
    parser.add_argument(
        "--cfg",
        metavar="FILE",
        required=required,
        help="YAML file, or the name of a shipped config",
    )
    parser.add_argument(
        "--opts",
        metavar="KEY VALUE",
        nargs=argparse.REMAINDER,
        default=[],
        help="config keys and values, to the end of the line (they may also stand without --opts)",
    )


def parse_with_config(
    parser: argparse.ArgumentParser, argv: Sequence[str] | None = None
) -> tuple[argparse.Namespace, CfgNode]:
    """Parsed options, and the config that --cfg and the keys and values describe.

    Raises:
        InputError: what is wrong in the command line or in the config.
    """
    options, keys_and_values = parser.parse_known_args(argv)
    for word in keys_and_values[::2]:
        if word.startswith("-"):
            parser.error(f"unknown option {word}")
    return options, load_config(options.cfg, [*keys_and_values, *options.opts])


def run_tool(main: Callable[[], int]) -> int:
    """Runs a tool's main function. What the user can put right becomes one message on stderr and exit code 2."""
    try:
        return main()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return WRONG_INPUT
    except KeyboardInterrupt:
        return INTERRUPTED
