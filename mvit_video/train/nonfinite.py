"""What is written down of an update whose loss or gradient is not finite, so that it can be replayed.

    OUTPUT_DIR/nonfinite/step_XXXXXXXX.pt     one such update; plain values and tensors, read with `weights_only=True`

    format          1
    step            updates done before it
    epoch           its epoch, counted from 0
    learning_rate   it would have had
    loss, grad_norm of all ranks together
    policy          TRAIN.NONFINITE
    config          the run's config as YAML
    world_size      ranks that computed it
    ranks           for each rank, for each of its micro-batches: `loss`, `index` and `video_id` of the samples that the
                    order asked for, `used` (those shown, others where a video is undecodable), and `choices`
                    (augmentation) and `mix` (mixup) of every clip
    model           state dict of the weights: those that met the batch, except on a GPU with TRAIN.NONFINITE skip,
                    where they are one update further
    checkpoint      newest checkpoint then, None before the first

`tools/replay.py FILE` makes the batch again and says which clip and which layer goes wrong first (train/replay.py).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from fvcore.common.config import CfgNode
from torch import Tensor

from mvit_video.data.lists import ListFile
from mvit_video.data.loader import TrainBatch
from mvit_video.errors import InputError
from mvit_video.files import atomic_file
from mvit_video.train.inputs import TrainInputs
from mvit_video.train.update import Outcome
from mvit_video.weights.files import read_file

FOLDER = "nonfinite"
FORMAT = 1
_NAMED = 8  # videos in a message


@dataclass(frozen=True)
class Update:
    """An update on this rank, without its clips.

    Attributes:
        step: updates done before it.
        epoch: counted from 0.
        learning_rate: of the optimiser's groups, but for their scales.
        outcome: tensors on the device.
        batches: micro-batches, their `clips` left out.
    """

    step: int
    epoch: int
    learning_rate: float
    outcome: Outcome
    batches: list[dict[str, Any]]

    @classmethod
    def of(
        cls, parts: list[TrainBatch], step: int, epoch: int, learning_rate: float, outcome: Outcome
    ) -> Update:
        """Keeps what the report needs."""
        light = [{name: value for name, value in p.items() if name != "clips"} for p in parts]
        return cls(step, epoch, learning_rate, outcome, light)


def describe(update: Update, inputs: TrainInputs, cfg: CfgNode, videos: ListFile) -> list[Any]:
    """A rank's entry under `ranks` of a report: its micro-batches, in plain values."""
    losses, count = update.outcome.part_losses.tolist(), len(update.batches)
    side = cfg.DATA.TRAIN_CROP_SIZE
    described = []
    for number, (batch, loss) in enumerate(zip(update.batches, losses, strict=True)):
        mix = inputs.mix(len(batch["label"]), side, update.step, number, count)
        described.append(
            {
                "loss": loss,
                "index": batch["index"].tolist(),
                "video_id": [videos.video_id(i) for i in batch["index"].tolist()],
                "used": batch["used"].tolist(),
                "choices": [plain(choices) for choices in batch["choices"]],
                "mix": None if mix is None else plain(mix),
            }
        )
    return described


def plain(choices: Any) -> dict[str, Any]:
    """A dataclass as dictionaries, lists, numbers and strings; asdict alone would leave named tuples."""
    return json.loads(json.dumps(asdict(choices)))


def write_report(
    update: Update, ranks: list[Any], model: dict[str, Tensor], cfg: CfgNode, checkpoint: str | None
) -> tuple[Path, str]:
    """Writes the file of an update, on one rank; returns its path, and in a sentence what happened and to which videos.

    Raises:
        InputError: the file cannot be written; it still says what happened.
    """
    told = _sentence(update, ranks)
    path = Path(cfg.OUTPUT_DIR) / FOLDER / f"step_{update.step:08d}.pt"
    report = {
        "format": FORMAT,
        "step": update.step,
        "epoch": update.epoch,
        "learning_rate": update.learning_rate,
        "loss": update.outcome.loss.item(),
        "grad_norm": update.outcome.grad_norm.item(),
        "policy": cfg.TRAIN.NONFINITE,
        "config": cfg.dump(),
        "world_size": len(ranks),
        "ranks": ranks,
        "model": model,
        "checkpoint": checkpoint,
    }
    try:
        with atomic_file(path) as file:
            torch.save(report, file)
    except (OSError, RuntimeError) as error:  # torch makes a RuntimeError of a full disk
        raise InputError(
            f"{told}. What it takes to replay it could not be written: {error}"
        ) from error
    return path, told


def read_report(path: str | Path) -> dict[str, Any]:
    """What `write_report` wrote. Raises InputError for anything else."""
    report, _ = read_file(path)
    if not isinstance(report, dict) or "ranks" not in report or report.get("format") != FORMAT:
        raise InputError(
            f"{path} is no report of an update that was not finite; they lie in OUTPUT_DIR/{FOLDER}"
        )
    return report


def _sentence(update: Update, ranks: list[Any]) -> str:
    loss, norm = update.outcome.loss.item(), update.outcome.grad_norm.item()
    every = [batch for batches in ranks for batch in batches]
    # A micro-batch with a loss that is not finite is the culprit; a gradient does not tell where it comes from.
    bad = [batch for batch in every if not torch.tensor(batch["loss"]).isfinite()] or every
    samples = [
        f"{index} ({name})"
        for batch in bad
        for index, name in zip(batch["index"], batch["video_id"], strict=True)
    ]
    more = f" and {len(samples) - _NAMED} more" if len(samples) > _NAMED else ""
    return (
        f"loss or gradient is not finite in update {update.step}, counted from 0 (loss {loss:.4g}, gradient norm "
        f"{norm:.4g}), with samples {', '.join(samples[:_NAMED])}{more}"
    )
