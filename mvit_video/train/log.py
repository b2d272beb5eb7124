"""What a run tells while it goes: OUTPUT_DIR/log.jsonl for programs, the terminal for people, TensorBoard if asked.

Every line of log.jsonl is one JSON object with `kind`, `time` (seconds since 1970), `step` (updates done) and
`epoch` (epochs done, with a fraction). Kinds and what else they hold:

    start, resume   world_size; resume also checkpoint
    step            loss (mean over ranks), lr, grad_norm of this update; clips_per_second over all ranks and
                    data_seconds (spent waiting for data, mean over ranks) since the line before; memory_mib
                    (peak of rank 0)
    epoch           train_loss, substituted (videos that stood in for undecodable ones), val_loss, val_top1,
                    val_top5, val_undecodable, best_top1
    stop, end       it was asked to stop; it is finished

A resumed run first drops the lines of steps and epochs that it is about to do again, so each stands there once.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

from fvcore.common.config import CfgNode
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from mvit_video.errors import InputError
from mvit_video.files import atomic_file
from mvit_video.train.progress import Progress

LOG_FILE = "log.jsonl"
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
        path = Path(cfg.OUTPUT_DIR) / LOG_FILE
        if cfg.TENSORBOARD.ENABLE:
            self._tensorboard = _tensorboard_writer(path.parent / "tensorboard", progress.step)
        drop_lines_after(path, progress)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(path, "a", encoding="utf-8", buffering=1)  # noqa: SIM115
        self._max_epoch = cfg.SOLVER.MAX_EPOCH
        if sys.stderr.isatty():
            self._redirect = logging_redirect_tqdm([logging.getLogger("mvit_video")])
            self._redirect.__enter__()
            self._bar = tqdm(total=total_steps, initial=progress.step, unit="step")

    def line(self, kind: str, step: int, epoch: float, **values: Any) -> None:
        """One line of log.jsonl; numbers among the values also go to TensorBoard."""
        if not self._enabled:
            return
        record = {
            "kind": kind,
            "time": round(time.time(), 3),
            "step": step,
            "epoch": epoch,
            **values,
        }
        self._file.write(json.dumps(record) + "\n")
        if self._tensorboard is not None:
            for name, value in values.items():
                if isinstance(value, (int, float)):
                    self._tensorboard.add_scalar(f"{kind}/{name}", value, step)

    def step(self, step: int, epoch: float, **values: float) -> None:
        """A logged update."""
        self.line("step", step, epoch, **values)
        if not self._enabled:
            return
        text = (
            f"loss {values['loss']:.4f}, lr {values['lr']:.3g}, grad norm {values['grad_norm']:.3g}, "
            f"{values['clips_per_second']:.4g} clips/s, {values['data_seconds']:.1f} s waiting for data"
        )
        if self._bar is not None:
            self._bar.set_description_str(f"epoch {epoch:.2f}/{self._max_epoch}")
            self._bar.set_postfix_str(text)
        else:
            _log.info("epoch %.2f/%d, step %d: %s", epoch, self._max_epoch, step, text)

    def advance(self) -> None:
        """Moves the bar by one update."""
        if self._bar is not None:
            self._bar.update()

    def epoch(self, step: int, epoch: int, **values: float) -> None:
        """The end of an epoch."""
        self.line("epoch", step, epoch, **values)
        if self._enabled:
            text = ", ".join(
                f"{name.replace('_', ' ')} {value:.5g}" for name, value in values.items()
            )
            _log.info("epoch %d/%d done: %s", epoch, self._max_epoch, text)

    def close(self) -> None:
        """Ends bar and files."""
        if not self._enabled:
            return
        self._file.close()
        if self._bar is not None:
            self._bar.close()
            self._redirect.__exit__(None, None, None)
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
    return record["kind"] != "step" or record["step"] <= progress.step


def _tensorboard_writer(folder: Path, step: int) -> Any:
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), purge_step=step + 1)
