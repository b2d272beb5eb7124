"""What tools/predict.py is asked for, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mvit_video.errors import InputError
from mvit_video.predict.overlay import FORMATS
from mvit_video.predict.recognizer import Views, parse_views
from mvit_video.predict.segments import check_thresholds
from mvit_video.predict.windows import check_window


@dataclass(frozen=True)
class TimelineSettings:
    """As `Recognizer.timeline` takes them."""

    window: float = 2.0
    stride: float = 0.5
    enter: float = 0.5
    leave: float = 0.3

    def __post_init__(self) -> None:
        check_window(self.window, self.stride)
        check_thresholds(self.enter, self.leave)


@dataclass(frozen=True)
class Request:
    """What to predict, how, and where results go.

    Attributes:
        inputs: files, folders, patterns, lists, URLs (mvit_video/predict/inputs.py).
        prefix: folder that the paths in lists are relative to.
        topk, views: as `Recognizer` takes them.
        timeline: None for one prediction per video.
        json: file for a JSON line per input, with which a run goes on where it was stopped; "" for none.
        csv: file for a table.
        srt, vtt, overlay: file (or folder, for several inputs) for subtitles, or videos with labels drawn in.
        shard: (number, of): every `of`-th input, the `number`-th first, from 1 on; results go to `shard_file`.
        num_workers: loader processes, None for as many as fit.
    """

    inputs: tuple[str, ...]
    prefix: str = ""
    topk: int = 5
    views: Views | None = None
    timeline: TimelineSettings | None = None
    json: str = ""
    csv: str = ""
    srt: str = ""
    vtt: str = ""
    overlay: str = ""
    shard: tuple[int, int] | None = None
    num_workers: int | None = None

    def __post_init__(self) -> None:
        if self.topk < 1:
            raise InputError(f"topk is {self.topk}; it takes a number of classes from 1 on")
        if self.views is not None:
            parse_views(self.views)
        suffix = Path(self.overlay).suffix.lower()
        if suffix and suffix not in FORMATS and not Path(self.overlay).is_dir():
            raise InputError(
                f"overlay {self.overlay}: its suffix must be one of {', '.join(FORMATS)}"
            )
        if (self.srt or self.vtt) and self.timeline is None:
            raise InputError("subtitles are of a timeline: ask for that too (--timeline)")
        if self.shard is not None:
            number, of = self.shard
            if not 1 <= number <= of:
                raise InputError(f"shard {number}/{of}: the first of three is 1/3, the last 3/3")
            if not self.json:
                raise InputError("a shard's results go into files: name them (--json FILE)")
            if self.csv:
                raise InputError("a table is made of all shards: ask for it when merging")

    @property
    def results(self) -> Path | None:
        """The file with a JSON line per input, that of the shard if this is one."""
        if self.shard is not None:
            return shard_file(Path(self.json), *self.shard)
        if self.json:
            return Path(self.json)
        return Path(f"{self.csv}.jsonl") if self.csv else None


@dataclass(frozen=True)
class Outcome:
    """How many inputs have a result now, how many of these failed, and whether the run was told to stop before all."""

    num_inputs: int
    num_done: int
    num_failed: int
    stopped: bool


def shard_file(results: Path, number: int, of: int) -> Path:
    """Where the `number`-th of `of` shards, counted from 1, keeps its results."""
    return results.with_name(f"{results.stem}.{number}-of-{of}{results.suffix}")
