"""Training: epochs of updates, each epoch validated, everything kept that a restart needs.

    train            a run from its config to its end, or to a stop
    Trainer          its parts, and the loop

Killed at any moment and started again, a run on the CPU ends with the same bits: samples and augmentations come
from (seed, epoch, sample), dropout from (seed, step, micro-batch, rank), the learning rate from the position,
and the rest is in the checkpoint.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from fvcore.common.config import CfgNode
from torch import nn

from mvit_video.data.loader import TrainBatch, train_loader, video_loader
from mvit_video.data.preprocessing import Preprocessing
from mvit_video.environment import write_environment
from mvit_video.errors import InputError
from mvit_video.evaluate.validation import validate
from mvit_video.files import atomic_file
from mvit_video.run_folder import CONFIG_FILE
from mvit_video.train import checkpoint as checkpoints
from mvit_video.train.agreement import on_main
from mvit_video.train.bad_videos import BadVideos
from mvit_video.train.guard import FiniteGuard, RollBack
from mvit_video.train.log import RunLog
from mvit_video.train.meter import Pace, Speed, Throughput, full_speed, peak_memory_mib
from mvit_video.train.model import first_model, write_model
from mvit_video.train.nonfinite import Update
from mvit_video.train.progress import EpochSums, Progress, epoch_means
from mvit_video.train.resume import check_same_run
from mvit_video.train.schedule import build_schedule
from mvit_video.train.update import Outcome, Updater
from mvit_video.world import Stop, World

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainResult:
    """What a training leaves behind.

    Attributes:
        model: on the device, with the weights to test: the averaged ones where SOLVER.EMA_DECAY is set.
        preprocessing: what it was trained with.
        progress: where the training stands.
        stopped: it was asked to stop, has saved, and is not finished.
    """

    model: nn.Module
    preprocessing: Preprocessing
    progress: Progress
    stopped: bool


def train(cfg: CfgNode, world: World, stop: Stop) -> TrainResult:
    """Trains to SOLVER.MAX_EPOCH, from the newest checkpoint in OUTPUT_DIR on if there is one.

    Writes OUTPUT_DIR/checkpoints, log.jsonl, config.yaml, and where there is something to tell, bad_videos.jsonl and
    nonfinite. To be called on every rank.

    Args:
        stop: looked at after every update; when any rank's is requested, all save and return.

    Raises:
        InputError: lists, weights or a checkpoint do not fit the config; the training has diverged, or too many of its
            videos cannot be decoded.
    """
    with closing(Trainer(cfg, world, stop)) as trainer:
        return trainer.run()


def write_config(cfg: CfgNode) -> None:
    """Writes the resolved config to OUTPUT_DIR/config.yaml, which can be given as --cfg. On one rank only."""
    with atomic_file(Path(cfg.OUTPUT_DIR) / CONFIG_FILE) as file:
        file.write(cfg.dump().encode())


class Trainer:
    """The parts of a training, and the loop over them."""

    def __init__(self, cfg: CfgNode, world: World, stop: Stop) -> None:
        self.cfg, self.world, self.stop = cfg, world, stop
        self.preprocessing = Preprocessing.from_config(cfg)
        self.loader = train_loader(cfg, world)
        self.val_loader = video_loader(cfg, "val", world) if cfg.TRAIN.EVAL_PERIOD else None
        self.folder = checkpoints.checkpoints_folder(cfg.OUTPUT_DIR)
        newest = on_main(world, self._find_checkpoint)
        model = first_model(cfg, world, goes_on=newest is not None)
        self.full_speed, no_mfu = (
            full_speed(model, cfg, world.device) if world.is_main else (None, "")
        )
        self.updater = Updater(model, cfg, self.preprocessing, world)
        self.schedule = build_schedule(cfg)
        self.progress = Progress()
        self.sums = EpochSums(world.device)
        order = self.loader.order
        self.bad_videos = BadVideos(
            cfg.OUTPUT_DIR,
            self.loader.videos,
            order.steps_per_epoch * order.batch_size,
            cfg.DATA.MAX_BAD_FRACTION,
        )
        self.throughput = Throughput()
        self.guard = FiniteGuard(cfg, world, self.loader.videos, self.updater, self.folder)
        self.saved_position: tuple[int, ...] | None = None
        kind, origin = self._begin(newest)
        total_steps = cfg.SOLVER.MAX_EPOCH * order.steps_per_epoch
        self.pace = Pace(self.progress.step, total_steps)
        self.epoch_began = time.monotonic()
        self.log = RunLog(cfg, self.progress, total_steps, enabled=world.is_main)
        if no_mfu:
            origin["mfu_omitted"] = no_mfu
            _log.info("no model FLOP/s utilisation (MFU) is logged: %s", no_mfu)
        self.log.line(kind, **self._where(), world_size=world.size, **origin)

    def run(self) -> TrainResult:
        """The loop over epochs."""
        max_epoch, stopped = self.cfg.SOLVER.MAX_EPOCH, False
        if self.progress.epoch >= max_epoch:
            _log.info(
                "training is already finished: %d of %d epochs", self.progress.epoch, max_epoch
            )
        if self.cfg.TRAIN.NONFINITE == "rollback" and self.saved_position is None:
            self._save()  # somewhere to go back to
        while self.progress.epoch < max_epoch and not stopped:
            try:
                stopped = self._train_epoch() or self._finish_epoch()
            except RollBack as reason:
                self._roll_back(reason)
        self.log.line("stop" if stopped else "end", **self._where())
        model = self.updater.whole_model()
        if self.cfg.TRAIN.FSDP and not stopped and self.world.is_main:
            write_model(self.cfg, model, self.preprocessing)
        return TrainResult(model, self.preprocessing, self.progress, stopped)

    def _train_epoch(self) -> bool:
        """The updates of the current epoch that are still to come. True if the ranks agreed to stop on the way."""
        cfg, progress = self.cfg, self.progress
        self.loader.set_position(progress.epoch, progress.samples, progress.reshuffled_in_epoch())
        self.throughput.restart()
        for parts in self._updates():
            outcome = self._update(parts)
            if progress.step % cfg.LOG_PERIOD == 0:
                self._log_step(outcome)
            self.guard.check(progress, self.log)
            if self._asked_to_stop():
                self._save()
                return True
            every = cfg.TRAIN.CHECKPOINT_STEPS
            if every and progress.step % every == 0:
                self._save()
        return False

    def _updates(self) -> Iterator[list[TrainBatch]]:
        """This rank's micro-batches, as many at a time as make an update."""
        batches = iter(self.loader)
        while True:
            with self.throughput.waiting():
                parts = list(islice(batches, self.cfg.SOLVER.ACCUMULATE_STEPS))
            if not parts:
                return
            yield parts

    def _update(self, parts: list[TrainBatch]) -> Outcome:
        progress, order = self.progress, self.loader.order
        rate = self.schedule(self._epoch())
        outcome = self.updater.update(parts, progress.step, rate)
        self.guard.add(Update.of(parts, progress.step, progress.epoch, rate, outcome))
        substituted = sum(int(part["substituted"].sum()) for part in parts)
        self.sums.add(outcome.loss, outcome.finite, substituted)
        self.throughput.add(sum(len(part["label"]) for part in parts))
        for part in parts:
            self.bad_videos.add(part["undecodable"], progress.epoch)
        progress.step += 1
        progress.samples += order.batch_size
        self.log.advance()
        return outcome

    def _finish_epoch(self) -> bool:
        """Validates and logs the epoch and begins the next. True if the ranks agreed to stop."""
        cfg, progress = self.cfg.TRAIN, self.progress
        epoch = progress.epoch + 1
        is_last = epoch == self.cfg.SOLVER.MAX_EPOCH
        validated = cfg.EVAL_PERIOD and (epoch % cfg.EVAL_PERIOD == 0 or is_last)
        metrics = {}
        if validated:
            self._save()  # a validation may last longer than a stop leaves time for
            if self._asked_to_stop():
                return True
            metrics = self._validate(epoch)
            if metrics is None:
                return True
        self._report_bad_videos()
        loss, substituted = epoch_means(self.sums.gather(self.world))
        self.sums.clear()
        progress.epoch, progress.samples = epoch, 0
        progress.skipped = int(self.updater.skipped)
        self._log_epoch(train_loss=loss, substituted=substituted, **metrics)
        if validated or is_last or epoch % cfg.CHECKPOINT_PERIOD == 0:
            self._save()
        if not is_last and self._asked_to_stop():
            self._save()
            return True
        return False

    def _validate(self, epoch: int) -> dict[str, float] | None:
        """Numbers of the validation for the log; notes the best. None if the ranks agreed to stop on the way."""
        progress = self.progress
        _log.info("validating after %d updates", progress.step)
        result = validate(
            self.updater.whole_model(),
            self.val_loader,
            self.preprocessing,
            self.world,
            self.cfg.TEST.PRECISION,
            max(self.cfg.TEST.BATCH_SIZE // self.world.size, 1),
            self.stop,
        )
        if result is None:
            _log.info(
                "asked to stop: the validation after %d updates is still to come", progress.step
            )
            return None
        undecodable = len(result["undecodable"])
        if result["top1"] is None:
            raise InputError(f"none of the {undecodable} validation videos can be decoded")
        if progress.best is None or result["top1"] > progress.best["top1"]:
            progress.best = {"top1": result["top1"], "epoch": epoch, "step": progress.step}
        return {
            "val_loss": result["loss"],
            "val_top1": result["top1"],
            "val_top5": result["top5"],
            "val_undecodable": undecodable,
            "best_top1": progress.best["top1"],
            "best_epoch": progress.best["epoch"],
        }

    def _begin(self, path: Path | None) -> tuple[str, dict[str, Any]]:
        """Takes up the newest checkpoint, if there is one; what of it goes into the log."""
        if path is not None:
            self._resume(path)
        if self.world.is_main:
            write_config(self.cfg)
            write_environment(self.cfg.OUTPUT_DIR, self.world)
        return ("start", {}) if path is None else ("resume", {"checkpoint": path.name})

    def _find_checkpoint(self) -> Path | None:
        checkpoints.remove_leftovers(self.folder)
        if not self.cfg.TRAIN.AUTO_RESUME and checkpoints.checkpoint_files(self.folder):
            raise InputError(
                f"TRAIN.AUTO_RESUME is False, but {self.folder} holds checkpoints of an earlier run; "
                "give another OUTPUT_DIR, or remove them"
            )
        return checkpoints.find_newest_checkpoint(self.folder)

    def _resume(self, path: Path) -> None:
        saved, shards = checkpoints.open_training_checkpoint(path)
        check_same_run(saved, path, self.cfg, self.loader.videos, self.world.size)
        self.progress = Progress.from_dict(saved["progress"])
        self.updater.load_state_dict(saved, self.progress.step, self.progress.skipped, shards)
        self.sums.restore(saved["progress"]["sums"], self.world)
        self.saved_position = self._position()
        if self.world.is_main:
            self._keep_if_best(path)
        _log.info(
            "going on from %s: %d updates, %.2f epochs", path, self.progress.step, self._epoch()
        )

    def _roll_back(self, reason: RollBack) -> None:
        """Goes back to the newest checkpoint, to take the rest of its epoch in another order."""
        path = on_main(self.world, lambda: checkpoints.find_newest_checkpoint(self.folder))
        if path is None:
            raise InputError(f"there is no checkpoint in {self.folder} to go back to")
        there = self.progress
        self._resume(path)
        self.progress = there.rolled_back(self.progress)
        self.guard.forget()
        self.pace.restart(self.progress.step)
        self.log.go_back(self.progress)
        self.log.line(
            "rollback",
            **self._where(),
            checkpoint=path.name,
            from_step=reason.step,
            file=str(reason.report),
        )
        self._save()  # a run that resumes from here is to take the new order too

    def _save(self) -> None:
        """A checkpoint of this position, if there is none yet. To be called on every rank."""
        if self._position() == self.saved_position:
            return
        self.guard.check(self.progress, self.log, all_of_them=True)
        self._report_bad_videos()
        self.progress.skipped = int(self.updater.skipped)
        sums = self.sums.gather(self.world)
        trained = self.updater.state_dict(self.folder, self.progress.step)

        def write() -> None:
            state = {
                **trained,
                "progress": {**self.progress.to_dict(), "sums": sums},
                "world_size": self.world.size,
                "train_list": self.loader.videos.digest(),
                "config": self.cfg.dump(),
                "preprocessing": self.preprocessing.to_dict(),
            }
            keep = self.cfg.TRAIN.KEEP_CHECKPOINTS
            self._keep_if_best(
                checkpoints.save_checkpoint(self.folder, state, self.progress.step, keep)
            )
            checkpoints.remove_loose_shards(self.folder)

        on_main(self.world, write)
        self.saved_position = self._position()

    def _keep_if_best(self, path: Path) -> None:
        best = self.progress.best
        if best is not None and best["step"] == self.progress.step:
            checkpoints.keep_as_best(path)

    def _asked_to_stop(self) -> bool:
        """Whether any rank was asked to; agreed among all."""
        if not self.world.any(self.stop.requested):
            return False
        _log.info("asked to stop: saving after %d updates", self.progress.step)
        return True

    def _report_bad_videos(self) -> None:
        """Rank 0 writes down the undecodable videos that the ranks have met; stops if there are too many."""
        gathered = self.world.gather_objects((self.bad_videos.take(), self.sums.substituted))

        def write() -> None:
            taken, substituted = zip(*gathered, strict=True)
            self.bad_videos.write(taken, sum(substituted))

        on_main(self.world, write)

    def _log_step(self, outcome: Outcome) -> None:
        self._report_bad_videos()
        speed = self.throughput.read()
        means = torch.tensor(speed, dtype=torch.float64, device=self.world.device)
        speed = Speed(*(self.world.all_reduce_sum(means) / self.world.size).tolist())
        utilisation = {}
        if self.full_speed:
            utilisation["mfu"] = round(speed.clips_per_second / self.full_speed, 4)
        self.log.step(
            **self._where(),
            loss=outcome.loss.item(),
            lr=self.updater.optimizer.param_groups[0]["lr"],
            grad_norm=outcome.grad_norm.item(),
            clips_per_second=round(speed.clips_per_second * self.world.size, 2),
            data_seconds=round(speed.data_seconds, 3),
            data_share=round(speed.data_share, 4),
            **utilisation,
            memory_mib=peak_memory_mib(self.world.device),
            skipped=int(self.updater.skipped),
            seconds_left=self.pace.seconds_left(self.progress.step),
        )

    def _log_epoch(self, **values: float | None) -> None:
        now = time.monotonic()
        progress = self.progress
        self.log.epoch(
            progress.step,
            progress.epoch,
            lr=self.updater.optimizer.param_groups[0]["lr"],
            bad_videos=len(self.bad_videos),
            skipped=progress.skipped,
            seconds=round(now - self.epoch_began, 1),
            seconds_left=self.pace.seconds_left(progress.step),
            **values,
        )
        self.epoch_began = now

    def _epoch(self) -> float:
        """Epochs done, with a fraction."""
        order = self.loader.order
        done = self.progress.samples // order.batch_size
        return self.progress.epoch + done / order.steps_per_epoch

    def _where(self) -> dict[str, Any]:
        return {"step": self.progress.step, "epoch": round(self._epoch(), 6)}

    def _position(self) -> tuple[int, ...]:
        progress = self.progress
        return progress.epoch, progress.samples, progress.step, len(progress.reshuffled)

    def close(self) -> None:
        """Ends loader processes and the log."""
        self.loader.close()
        if self.val_loader is not None:
            self.val_loader.close()
        self.log.close()
