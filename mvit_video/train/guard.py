"""Finite or stop: notices an update whose loss or gradient was not finite, and does what TRAIN.NONFINITE says.

The update itself was left out on the device, at once and on every rank (update.py); here the host hears of it.
"""

from __future__ import annotations

import logging
from collections import deque
from pathlib import Path

import torch
from fvcore.common.config import CfgNode
from torch import Tensor

from mvit_video.data.lists import ListFile
from mvit_video.errors import InputError
from mvit_video.train.agreement import on_main
from mvit_video.train.checkpoint import checkpoint_files
from mvit_video.train.log import RunLog
from mvit_video.train.nonfinite import Update, describe, write_report
from mvit_video.train.parallel import whole_state
from mvit_video.train.progress import Progress
from mvit_video.train.update import Updater
from mvit_video.world import World

_log = logging.getLogger(__name__)


class RollBack(Exception):
    """The run is to go back to its newest checkpoint.

    Attributes:
        step: the update that was not finite.
        report: its file.
    """

    def __init__(self, step: int, report: Path) -> None:
        super().__init__()
        self.step, self.report = step, report


class FiniteWatch:
    """Looks at each update's `finite` flag.

    On a GPU the flag is copied to page-locked memory behind the work that decides it, and looked at when the next
    update has been launched: the host waits for the update before, never for the one that the GPU is at. All ranks look
    at the same flags at the same step.
    """

    def __init__(self) -> None:
        self._waiting: deque[tuple[Update, Tensor, torch.cuda.Event | None]] = deque()

    def add(self, update: Update) -> None:
        """Begins to watch an update."""
        flag, arrived = update.outcome.finite, None
        if flag.is_cuda:
            flag, arrived = flag.to("cpu", non_blocking=True), torch.cuda.Event()
            arrived.record()
        self._waiting.append((update, flag, arrived))

    def next_bad(self, all_of_them: bool = False) -> Update | None:
        """The next update that was not finite; those still under way are looked at only if `all_of_them` are."""
        while self._waiting:
            update, flag, arrived = self._waiting[0]
            if arrived is not None:
                if len(self._waiting) == 1 and not all_of_them:
                    break
                arrived.synchronize()
            self._waiting.popleft()
            if not flag:
                return update
        return None

    def forget(self) -> None:
        """Drops what is under way; after the run has gone back."""
        self._waiting.clear()


class FiniteGuard:
    """The policy. Every rank calls it alike, for all see the same flags.

    Args:
        videos: the training list.
        folder: of the checkpoints.
    """

    def __init__(
        self, cfg: CfgNode, world: World, videos: ListFile, updater: Updater, folder: Path
    ) -> None:
        self._cfg, self._world, self._videos = cfg, world, videos
        self._updater, self._folder = updater, folder
        self._watch = FiniteWatch()
        self.add, self.forget = self._watch.add, self._watch.forget

    def check(self, progress: Progress, log: RunLog, all_of_them: bool = False) -> None:
        """Looks at the updates that have come to an end; at those under way too if `all_of_them` are to be looked at.

        Raises:
            InputError: the run is to stop.
            RollBack: it is to go back.
        """
        policy, limit = self._cfg.TRAIN.NONFINITE, self._cfg.TRAIN.NONFINITE_LIMIT
        while (update := self._watch.next_bad(all_of_them)) is not None:
            report, told = self._report(update)
            progress.nonfinite += 1
            if policy != "raise" and progress.nonfinite > limit:
                told += f". This is more often than TRAIN.NONFINITE_LIMIT {limit} allows"
            elif policy == "rollback":
                _log.warning("%s; going back to the newest checkpoint, see %s", told, report)
                raise RollBack(update.step, report)
            elif policy == "skip":
                _log.warning("%s; left out, see %s", told, report)
                log.line("skip", update.step + 1, float(update.epoch), file=str(report))
                continue
            raise InputError(self._advice(told, report))

    def _report(self, update: Update) -> tuple[Path, str]:
        """Writes an update down; where, and what there is to say about it."""
        inputs, model = self._updater.inputs, whole_state(self._updater.model)
        ranks = self._world.gather_objects(describe(update, inputs, self._cfg, self._videos))
        return on_main(
            self._world,
            lambda: write_report(update, ranks, model, self._cfg, self._newest()),
        )

    def _newest(self) -> str | None:
        files = checkpoint_files(self._folder)
        return files[-1].name if files else None

    def _advice(self, told: str, report: Path) -> str:
        return (
            f"{told}. The weights are untouched by it, and nothing was saved since; the newest checkpoint in "
            f"{self._folder} is {self._newest() or 'none'}. Which clip and which layer it was: python tools/replay.py "
            f"{report}. The same command goes on with TRAIN.NONFINITE skip or rollback (and a larger "
            "TRAIN.NONFINITE_LIMIT). If it comes back: in another OUTPUT_DIR, lower SOLVER.BASE_LR, lengthen "
            "SOLVER.WARMUP_EPOCHS, set SOLVER.CLIP_GRAD_L2NORM, or choose another TRAIN.PRECISION"
        )
