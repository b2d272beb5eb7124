"""What a run tells while it goes: OUTPUT_DIR/log.jsonl for programs, the terminal for people, TensorBoard if asked.

Every line of log.jsonl is one JSON object with `kind`, `time` (seconds since 1970), `step` (updates done) and
`epoch` (epochs done, with a fraction). Kinds and what else they hold:

    start, resume   world_size; resume also checkpoint; mfu_omitted: why there will be no mfu, if so
    step            loss (mean over ranks), lr, grad_norm (before clipping) of this update; since the line before,
                    clips_per_second over all ranks, data_seconds and data_share (0 ... 1, spent waiting for data, mean
                    over ranks), mfu (0 ... 1, meter.full_speed); memory_mib (peak of rank 0); skipped (updates left out
                    so far); seconds_left (of the run)
    epoch           train_loss (mean over its updates), lr (of its last), substituted (samples replaced because their
                    video is undecodable), bad_videos (such videos so far), skipped, seconds (since it began or was
                    resumed, validation included), seconds_left; where it was validated also val_loss, val_top1,
                    val_top5, val_undecodable, best_top1, best_epoch
    skip            an update that was not finite was left out: file, its report in OUTPUT_DIR
    rollback        the same, and the run went back to step and epoch: checkpoint, from_step, file
    stop, end       it was asked to stop; it is finished

A number that is not finite is null. A run that resumes or rolls back first drops the lines of what it is about to do
again, so each step stands there once.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fvcore.common.config import CfgNode
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from mvit_video.errors import InputError
from mvit_video.files import atomic_file
from mvit_video.run_folder import LOG_FILE
from mvit_video.train.progress import Progress

_HEADER = "   epoch | train loss   val loss   top-1   top-5 |  best (epoch) | bad videos  skipped |     took       left"
_HEADER_EVERY = 20  # epochs
_log = logging.getLogger(__name__)


class RunLog:
    """Writes the log on rank 0. On the others it does nothing.

    Args:
        cfg: of the run.
        progress: where it begins; what the file holds beyond that is dropped.
        total_steps: updates of the whole run, for the bar.
        enabled: this is rank 0.

    Raises:
        InputError: TENSORBOARD.ENABLE without the tensorboard package; on every rank.
    """

    def __init__(self, cfg: CfgNode, progress: Progress, total_steps: int, enabled: bool) -> None:
        self._enabled = enabled
        self._bar = self._redirect = self._tensorboard = None
        if cfg.TENSORBOARD.ENABLE and importlib.util.find_spec("tensorboard") is None:
            raise InputError(
                "TENSORBOARD.ENABLE is True, but the tensorboard package is not installed: "
                "pip install 'mvit-video[tensorboard]'"
            )
        if not enabled:
            return
        self._path = Path(cfg.OUTPUT_DIR) / LOG_FILE
        self._to_tensorboard = cfg.TENSORBOARD.ENABLE
        self._max_epoch = cfg.SOLVER.MAX_EPOCH
        self._rows = 0
        self._open(progress)
        if sys.stderr.isatty():
            self._redirect = logging_redirect_tqdm([logging.getLogger("mvit_video")])
            self._redirect.__enter__()
            self._bar = tqdm(total=total_steps, initial=progress.step, unit="step")

    def _open(self, progress: Progress) -> None:
        drop_lines_after(self._path, progress)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(self._path, "a", encoding="utf-8", buffering=1)  # noqa: SIM115
        if self._to_tensorboard:
            self._tensorboard = _tensorboard_writer(
                self._path.parent / "tensorboard", progress.step
            )

    def go_back(self, progress: Progress) -> None:
        """Drops what lies behind `progress`, which the run has gone back to."""
        if not self._enabled:
            return
        self._close_files()
        self._open(progress)
        if self._bar is not None:
            self._bar.n = progress.step
            self._bar.refresh()

    def line(self, kind: str, step: int, epoch: float, **values: Any) -> None:
        """One line of log.jsonl; numbers among the values also go to TensorBoard."""
        if not self._enabled:
            return
        record = {
            "kind": kind,
            "time": round(time.time(), 3),
            "step": step,
            "epoch": epoch,
            **{name: _json_value(value) for name, value in values.items()},
        }
        self._file.write(json.dumps(record, allow_nan=False) + "\n")
        if self._tensorboard is not None:
            for name, value in values.items():
                if isinstance(value, (int, float)):
                    self._tensorboard.add_scalar(f"{kind}/{name}", value, step)

    def step(self, step: int, epoch: float, **values: float | None) -> None:
        """A logged update."""
        self.line("step", step, epoch, **values)
        if not self._enabled:
            return
        text = _step_text(values)
        if self._bar is not None:
            self._bar.set_description_str(f"epoch {epoch:.2f}/{self._max_epoch}")
            self._bar.set_postfix_str(text)
        else:
            _log.info("epoch %.2f/%d, step %d: %s", epoch, self._max_epoch, step, text)

    def advance(self) -> None:
        """Moves the bar by one update."""
        if self._bar is not None:
            self._bar.update()

    def epoch(self, step: int, epoch: int, **values: float | None) -> None:
        """The end of an epoch: a row of the table on the terminal."""
        self.line("epoch", step, epoch, **values)
        if not self._enabled:
            return
        if self._rows % _HEADER_EVERY == 0:
            _log.info(_HEADER)
        self._rows += 1
        _log.info(_epoch_row(f"{epoch}/{self._max_epoch}", values))

    def close(self) -> None:
        """Ends bar and files."""
        if not self._enabled:
            return
        self._close_files()
        if self._bar is not None:
            self._bar.close()
            self._redirect.__exit__(None, None, None)

    def _close_files(self) -> None:
        self._file.close()
        if self._tensorboard is not None:
            self._tensorboard.close()


def drop_lines_after(path: Path, progress: Progress) -> None:
    """Removes the steps and epochs behind `progress` from a log, and a last line that a kill cut short."""
    if not path.exists():
        return
    lines = path.read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if _is_before(line, progress)]
    if len(kept) < len(lines):
        with atomic_file(path) as file:
            file.writelines(kept)


def _is_before(line: bytes, progress: Progress) -> bool:
    try:
        record = json.loads(line)
    except ValueError:
        return False
    if record["kind"] == "epoch":
        return record["epoch"] <= progress.epoch
    return record["kind"] not in ("step", "skip") or record["step"] <= progress.step


def duration(seconds: float | None) -> str:
    """For people: 42 s, 3:07 min, 5:03:07 h, 2 d 05:03 h; "" for None."""
    if seconds is None:
        return ""
    minutes, whole = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, of_day = divmod(hours, 24)
    if days:
        return f"{days} d {of_day:02}:{minutes:02} h"
    if hours:
        return f"{hours}:{minutes:02}:{whole:02} h"
    return f"{minutes}:{whole:02} min" if minutes else f"{whole} s"


def _step_text(values: Mapping[str, float | None]) -> str:
    parts = [
        f"loss {values['loss']:.4f}",
        f"lr {values['lr']:.3g}",
        f"grad norm {values['grad_norm']:.3g}",
        f"{values['clips_per_second']:.4g} clips/s",
        f"{values['data_share']:.0%} waiting for data",
    ]
    if "mfu" in values:
        parts.append(f"{values['mfu']:.1%} MFU")
    parts.append(f"{values['memory_mib'] / 1024:.1f} GiB")
    if values["skipped"]:
        parts.append(f"{values['skipped']} skipped")
    if values["seconds_left"] is not None:
        parts.append(f"{duration(values['seconds_left'])} left")
    return ", ".join(parts)


def _epoch_row(epoch: str, values: Mapping[str, float | None]) -> str:
    """A row under _HEADER; blank where there was no validation."""

    def number(name: str, width: int, digits: int) -> str:
        value = values.get(name)
        return " " * width if value is None else f"{value:{width}.{digits}f}"

    best = (
        f"{number('best_top1', 6, 2)} ({values['best_epoch']:.0f})"
        if "best_epoch" in values
        else ""
    )
    return (
        f"{epoch:>8} | {number('train_loss', 10, 4)} {number('val_loss', 10, 4)} {number('val_top1', 7, 2)} "
        f"{number('val_top5', 7, 2)} | {best:>13} | {values['bad_videos']:>10} {values['skipped']:>8} | "
        f"{duration(values['seconds']):>10} {duration(values['seconds_left']):>12}"
    )


def _json_value(value: Any) -> Any:
    """JSON has no NaN and no infinity."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _tensorboard_writer(folder: Path, step: int) -> Any:
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), purge_step=step + 1)
