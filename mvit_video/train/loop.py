"""Training: epochs of updates, each epoch validated, everything kept that a restart needs.

    train            a run from its config to its end, or to a stop
    Trainer          its parts, and the loop

Killed at any moment and started again, a run on the CPU ends with the same bits: samples and augmentations come
from (seed, epoch, sample), dropout from (seed, step, micro-batch, rank), the learning rate from the position,
and the rest is in the checkpoint.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import torch
from fvcore.common.config import CfgNode
from torch import nn

from mvit_video.build import build_model
from mvit_video.data.loader import TrainBatch, train_loader, video_loader
from mvit_video.data.preprocessing import Preprocessing
from mvit_video.errors import InputError
from mvit_video.evaluate.validation import validate
from mvit_video.files import atomic_file
from mvit_video.train import checkpoint as checkpoints
from mvit_video.train.log import RunLog
from mvit_video.train.meter import BadUpdate, FiniteWatch, Throughput, peak_memory_mib
from mvit_video.train.progress import EpochSums, Progress, epoch_means
from mvit_video.train.resume import check_same_run
from mvit_video.train.schedule import build_schedule
from mvit_video.train.update import Outcome, Updater
from mvit_video.weights import load_weights
from mvit_video.world import Stop, World

CONFIG_FILE = "config.yaml"
_log = logging.getLogger(__name__)
T = TypeVar("T")


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

    Writes OUTPUT_DIR/checkpoints, log.jsonl and config.yaml. To be called on every rank.

    Args:
        stop: looked at after every update; when any rank's is requested, all save and return.

    Raises:
        InputError: lists, weights or a checkpoint do not fit the config; or the training has diverged.
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
        torch.manual_seed(cfg.RNG_SEED)
        model = build_model(cfg).to(world.device)
        self.updater = Updater(model, cfg, self.preprocessing, world)
        self.schedule = build_schedule(cfg)
        self.progress = Progress()
        self.sums = EpochSums(world.device)
        self.finite, self.throughput = FiniteWatch(world.device), Throughput()
        self.folder = checkpoints.checkpoints_folder(cfg.OUTPUT_DIR)
        self.saved_position: tuple[int, int, int] | None = None
        kind, origin = self._begin()
        total_steps = cfg.SOLVER.MAX_EPOCH * self.loader.order.steps_per_epoch
        self.log = RunLog(cfg, self.progress, total_steps, enabled=world.is_main)
        self.log.line(kind, **self._where(), world_size=world.size, **origin)

    def run(self) -> TrainResult:
        """The loop over epochs."""
        max_epoch, stopped = self.cfg.SOLVER.MAX_EPOCH, False
        if self.progress.epoch >= max_epoch:
            _log.info(
                "training is already finished: %d of %d epochs", self.progress.epoch, max_epoch
            )
        while self.progress.epoch < max_epoch and not stopped:
            stopped = self._train_epoch() or self._finish_epoch()
        self.log.line("stop" if stopped else "end", **self._where())
        ema = self.updater.ema
        model = self.updater.model if ema is None else ema.module
        return TrainResult(model, self.preprocessing, self.progress, stopped)

    def _train_epoch(self) -> bool:
        """The updates of the current epoch that are still to come. True if the ranks agreed to stop on the way."""
        cfg, progress = self.cfg, self.progress
        self.loader.set_position(progress.epoch, progress.samples)
        self.throughput.restart()
        for parts in self._updates():
            outcome = self._update(parts)
            if progress.step % cfg.LOG_PERIOD == 0:
                self._log_step(outcome)
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
        outcome = self.updater.update(parts, progress.step, self.schedule(self._epoch()))
        samples = [index for part in parts for index in part["index"].tolist()]
        self.finite.add(outcome.finite, progress.step, samples)
        self.sums.add(outcome.loss, sum(int(part["substituted"].sum()) for part in parts))
        self.throughput.add(sum(len(part["label"]) for part in parts))
        for video in (video for part in parts for video in part["undecodable"]):
            _log.warning("cannot be decoded, another video takes its place: %s", video.reason)
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
        loss, substituted = epoch_means(self.sums.gather(self.world))
        self.sums.clear()
        progress.epoch, progress.samples = epoch, 0
        self.log.epoch(progress.step, epoch, train_loss=loss, substituted=substituted, **metrics)
        if validated or is_last or epoch % cfg.CHECKPOINT_PERIOD == 0:
            self._save()
        if not is_last and self._asked_to_stop():
            self._save()
            return True
        return False

    def _validate(self, epoch: int) -> dict[str, float] | None:
        """Numbers of the validation for the log; notes the best. None if the ranks agreed to stop on the way."""
        updater, progress = self.updater, self.progress
        result = validate(
            updater.model if updater.ema is None else updater.ema.module,
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
        }

    def _begin(self) -> tuple[str, dict[str, Any]]:
        """Takes up the newest checkpoint, or the weights to start from; what of it goes into the log."""
        path = self._on_main(self._find_checkpoint)
        if path is not None:
            self._resume(path)
        elif self.cfg.TRAIN.CHECKPOINT_FILE_PATH:
            allowed = self.cfg.TRAIN.CHECKPOINT_ALLOW
            report = load_weights(
                self.updater.model,
                self.cfg.TRAIN.CHECKPOINT_FILE_PATH,
                allow_missing=allowed,
                allow_unexpected=allowed,
            )
            _log.info("starting from %s", report)
        if self.world.is_main:
            write_config(self.cfg)
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
        saved = checkpoints.read_training_checkpoint(path)
        check_same_run(saved, path, self.cfg, self.loader.videos, self.world.size)
        self.progress = Progress.from_dict(saved["progress"])
        self.updater.load_state_dict(saved, self.progress.step)
        self.sums.restore(saved["progress"]["sums"], self.world)
        self.saved_position = self._position()
        if self.world.is_main:
            self._keep_if_best(path)
        _log.info(
            "going on from %s: %d updates, %.2f epochs", path, self.progress.step, self._epoch()
        )

    def _save(self) -> None:
        """A checkpoint of this position, if there is none yet. To be called on every rank."""
        if self._position() == self.saved_position:
            return
        self._raise_if_diverged(self.finite.first_bad(all_of_them=True))
        sums = self.sums.gather(self.world)

        def write() -> None:
            state = {
                **self.updater.state_dict(),
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

        self._on_main(write)
        self.saved_position = self._position()

    def _keep_if_best(self, path: Path) -> None:
        best = self.progress.best
        if best is not None and best["step"] == self.progress.step:
            checkpoints.keep_as_best(path)

    def _asked_to_stop(self) -> bool:
        """Whether any rank was asked to; agreed among all. Raises InputError if the last updates went wrong."""
        bad = self.finite.first_bad()
        if not self.world.any(self.stop.requested or bad is not None):
            return False
        self._raise_if_diverged(bad)
        _log.info("asked to stop: saving after %d updates", self.progress.step)
        return True

    def _raise_if_diverged(self, bad: BadUpdate | None) -> None:
        """To be called on every rank: each hears of the others' bad updates."""
        if not self.world.any(bad is not None):
            return
        every = self.world.broadcast_object(self.world.gather_objects(bad))
        step = min(update.step for update in every if update)
        samples = [s for update in every if update and update.step == step for s in update.samples]
        names = ", ".join(f"{s} ({self.loader.videos.video_id(s)})" for s in samples[:8])
        newest = checkpoints.checkpoint_files(self.folder)[-1:]
        raise InputError(
            f"loss or gradient is not finite in update {step} (counted from 0), with samples {names}"
            f"{', ...' if len(samples) > 8 else ''} of {self.loader.videos.source}. Nothing was saved since; the "
            f"newest checkpoint is {newest[0] if newest else 'none'}. In another OUTPUT_DIR, lower SOLVER.BASE_LR, "
            "lengthen SOLVER.WARMUP_EPOCHS, set SOLVER.CLIP_GRAD_L2NORM, or choose another TRAIN.PRECISION"
        )

    def _log_step(self, outcome: Outcome) -> None:
        clips_per_second, waited = self.throughput.read()
        mean = torch.stack((outcome.loss.double(), outcome.loss.new_tensor(waited).double()))
        loss, waited = (self.world.all_reduce_sum(mean) / self.world.size).tolist()
        self.log.step(
            **self._where(),
            loss=loss,
            lr=self.updater.optimizer.param_groups[0]["lr"],
            grad_norm=outcome.grad_norm.item(),
            clips_per_second=round(clips_per_second * self.world.size, 2),
            data_seconds=round(waited, 3),
            memory_mib=peak_memory_mib(self.world.device),
        )

    def _epoch(self) -> float:
        """Epochs done, with a fraction."""
        order = self.loader.order
        done = self.progress.samples // order.batch_size
        return self.progress.epoch + done / order.steps_per_epoch

    def _where(self) -> dict[str, Any]:
        return {"step": self.progress.step, "epoch": round(self._epoch(), 6)}

    def _position(self) -> tuple[int, int, int]:
        return self.progress.epoch, self.progress.samples, self.progress.step

    def _on_main(self, action: Callable[[], T]) -> T:
        """What `action` returns on rank 0, on every rank; an InputError there is raised on every rank too."""
        outcome: T | InputError | None = None
        if self.world.is_main:
            try:
                outcome = action()
            except InputError as error:
                outcome = error
        outcome = self.world.broadcast_object(outcome)
        if isinstance(outcome, InputError):
            raise outcome
        return outcome

    def close(self) -> None:
        """Ends loader processes and the log."""
        self.loader.close()
        if self.val_loader is not None:
            self.val_loader.close()
        self.log.close()
