"""The results of all shards as one, in input order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mvit_video.errors import InputError
from mvit_video.files import atomic_file
from mvit_video.predict.inputs import Inputs
from mvit_video.predict.journal import records
from mvit_video.predict.request import Outcome, Request, shard_file
from mvit_video.predict.results_files import write_csv
from mvit_video.predict.text import plain

_NAMED = 10


def merge_shards(request: Request, num_shards: int) -> Outcome:
    """Brings the results of all shards together in `request.json` (and `.csv`), in input order.

    Raises:
        InputError: an input has no result; it names the shards to run again, and nothing is written.
    """
    inputs, target = Inputs.of(request.inputs, request.prefix), Path(request.json)
    found = [_by_position(shard_file(target, k + 1, num_shards)) for k in range(num_shards)]
    num_failed, holes = 0, []
    with atomic_file(target) as file:
        for position in range(len(inputs)):
            line, record = next(found[position % num_shards], (b"", None))
            if record is None or record["video"] != inputs.name(position):
                holes.append(position)
                found[position % num_shards] = iter(())
                continue
            num_failed += "error" in record
            file.write(line)
        if holes:
            shards = sorted({position % num_shards + 1 for position in holes})
            names = ", ".join(plain(inputs.name(position)) for position in holes[:_NAMED])
            raise InputError(
                f"{len(holes)} of {len(inputs)} inputs have no result: {names}{', ...' * (len(holes) > _NAMED)}. Run "
                f"shard {', '.join(map(str, shards[:_NAMED]))}{', ...' * (len(shards) > _NAMED)} of {num_shards} again"
            )
    if request.csv:
        write_csv(target, Path(request.csv), request.timeline is not None)
    return Outcome(len(inputs), len(inputs), num_failed, False)


def _by_position(path: Path) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """The lines of a shard's results and what they say; none where the shard has written none."""
    if path.is_file():
        with open(path, "rb") as lines:
            yield from zip(lines, records(path), strict=False)
