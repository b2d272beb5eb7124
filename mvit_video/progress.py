"""How far a long loop has come: a bar on a terminal, a line now and then elsewhere. On stderr, away from results."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")

_SECONDS_BETWEEN_LINES = 30.0


def progress(
    items: Iterable[Item], total: int, label: str, unit: str = "videos", shown: bool = True
) -> Iterator[Item]:
    """The items, while showing how many of `total` have gone by and when the last is due.

    Args:
        label: what is done, such as "test".
        shown: False on the ranks that keep quiet.
    """
    if shown and sys.stderr.isatty():
        yield from tqdm(items, total=total, desc=label, unit=f" {unit}", dynamic_ncols=True)
    elif shown:
        yield from _with_lines(items, total, label, unit)
    else:
        yield from items


def _with_lines(items: Iterable[Item], total: int, label: str, unit: str) -> Iterator[Item]:
    begin = said = time.monotonic()
    for done, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - said >= _SECONDS_BETWEEN_LINES:
            said, rate = now, done / (now - begin)
            minutes_left = (total - done) / rate / 60
            print(
                f"{label}: {done} of {total} {unit}, {rate:.2f} {unit}/s, {minutes_left:.1f} min left",
                file=sys.stderr,
                flush=True,
            )
