"""What a run leaves behind, made up: a log, predictions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mvit_video.data.dataset import UndecodableVideo
from mvit_video.evaluate.predictions import Predictions


def write_log(folder: Path, epochs: int = 3) -> None:
    """A log.jsonl of ten updates an epoch."""
    lines = [{"kind": "start", "time": 0.0, "step": 0, "epoch": 0.0, "world_size": 1}]
    for step in range(1, 10 * epochs + 1):
        where = {"time": float(step), "step": step, "epoch": step / 10}
        values = {"loss": 3 / step, "lr": 1e-3 / step, "grad_norm": 2.0, "clips_per_second": 90.5}
        lines.append({"kind": "step", **where, **values, "data_share": 0.01, "memory_mib": 512.0})
        if step % 10 == 0:
            top1 = 100 - 100 / 2 ** (step // 10)
            metrics = {"val_loss": 2 / step, "val_top1": top1, "val_top5": 100.0, "best_top1": top1}
            lines.append({"kind": "epoch", **where, "epoch": step // 10, **metrics})
    lines.append(
        {"kind": "end", "time": 10.0 * epochs, "step": 10 * epochs, "epoch": float(epochs)}
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def made_predictions(
    labels: Sequence[int],
    answers: Sequence[int],
    lost: Sequence[int] = (),
    sure: Sequence[float] | None = None,
    names: Sequence[str] = ("red", "green", "blue"),
    ids: Sequence[str] = (),
    views: tuple[int, int] = (1, 1),
) -> Predictions:
    """Videos of these labels for which these classes score highest; and undecodable ones.

    Args:
        lost: the labels of undecodable videos.
        sure: the highest score of each video; the other classes share the rest.
    """
    number, classes = len(labels), len(names)
    highest = np.array(sure if sure is not None else [0.8] * number)
    scores = np.repeat((1 - highest)[:, None] / (classes - 1), classes, axis=1)
    scores[np.arange(number), answers] = highest
    return Predictions(
        video_id=tuple(ids) or tuple(f"video {i}.mp4" for i in range(number)),
        index=np.arange(number),
        label=np.array(labels, dtype=np.int64),
        scores=np.repeat(scores[:, None].astype(np.float32), views[0] * views[1], axis=1),
        view=np.indices(views).reshape(2, -1).T,
        num_videos=number + len(lost),
        undecodable=tuple(
            UndecodableVideo(f"lost {i}.mp4", label, number + i, f"lost {i}.mp4: no video stream")
            for i, label in enumerate(lost)
        ),
        class_names=tuple(names),
    )
