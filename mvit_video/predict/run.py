"""Predictions for many inputs: in input order, resumable, in shards, the bad ones named."""

from __future__ import annotations

import errno
import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from mvit_video.data.views import VideoViews
from mvit_video.data.watch import Watch
from mvit_video.data.workers import default_num_workers, item_loader, worker_settings
from mvit_video.errors import InputError, VideoError
from mvit_video.files import atomic_file
from mvit_video.predict.inputs import Inputs
from mvit_video.predict.journal import Journal, put_in_order
from mvit_video.predict.overlay import labels_of, write_overlay
from mvit_video.predict.recognizer import Recognizer, Views
from mvit_video.predict.request import Outcome, Request
from mvit_video.predict.results import Prediction
from mvit_video.predict.results_files import file_for, write_csv
from mvit_video.predict.subtitles import srt, vtt
from mvit_video.predict.text import plain
from mvit_video.predict.timeline import Timeline
from mvit_video.progress import progress
from mvit_video.world import Stop

_NAMED = 10  # failed inputs named at the end
_WORTH_WORKERS = 4  # videos, from which on loader processes pay for their start


def predict_inputs(request: Request, recognizer: Recognizer, stop: Stop | None = None) -> Outcome:
    """Predicts for every input that has no result yet; what is asked for is written, else printed.

    Args:
        stop: looked at before every input.

    Raises:
        InputError: what is wrong with the request; bad videos are results, and counted.
    """
    inputs = Inputs.of(request.inputs, request.prefix)
    _check_targets(request, len(inputs))
    number, of = request.shard or (1, 1)
    positions = np.arange(number - 1, len(inputs), of)
    if request.results is None:
        return _run(request, recognizer, inputs, positions, None, stop)
    with Journal(request.results, _settings(request, recognizer)) as journal:
        outcome = _run(request, recognizer, inputs, positions, journal, stop)
    if not outcome.stopped:
        put_in_order(request.results, inputs.digests)
    if request.csv and not outcome.stopped:
        write_csv(request.results, Path(request.csv), request.timeline is not None)
    return outcome


def _check_targets(request: Request, num_inputs: int) -> None:
    """Raises InputError, before any work, where several inputs would write to one file or nothing can be written."""
    files = [Path(request.csv)] if request.csv else []
    for target in map(Path, filter(None, (request.srt, request.vtt, request.overlay))):
        single = num_inputs == 1 and not target.is_dir()
        if num_inputs > 1 and target.suffix and not target.is_dir():
            raise InputError(
                f"{target} is one file, and there are {num_inputs} inputs: name a folder"
            )
        files.append(target if single else target / "any")
    for file in files:
        with _told_as_input_error(file):
            file.parent.mkdir(parents=True, exist_ok=True)
            if file.is_dir():
                raise IsADirectoryError(errno.EISDIR, "it is a folder")
            if not os.access(file.parent, os.W_OK):
                raise PermissionError(errno.EACCES, f"{file.parent} is not open to writing")


@contextmanager
def _told_as_input_error(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"{file} cannot be written: {error.strerror or error}") from error


def _settings(request: Request, recognizer: Recognizer) -> dict[str, Any]:
    """What results depend on."""
    weights = hashlib.blake2b(digest_size=16)
    for key, tensor in recognizer.model.state_dict().items():
        weights.update(key.encode())
        weights.update(tensor.detach().cpu().contiguous().view(-1).numpy().tobytes())
    return {
        "checkpoint": weights.hexdigest(),
        "preprocessing": recognizer.preprocessing.to_dict(),
        "precision": recognizer.settings.precision,
        "views": list(recognizer.num_views(request.views)),
        "topk": request.topk,
        "timeline": asdict(request.timeline) if request.timeline else None,
        "shard": list(request.shard) if request.shard else None,
    }


def _run(
    request: Request,
    recognizer: Recognizer,
    inputs: Inputs,
    positions: np.ndarray,
    journal: Journal | None,
    stop: Stop | None,
) -> Outcome:
    todo, failed = positions, _Failures()
    if journal is not None:
        is_done = np.isin(inputs.digests[positions], journal.done)
        todo = positions[~is_done]
        failed.before = journal.num_failed
    num_done = len(positions) - len(todo)
    results = _results(request, recognizer, inputs, todo)
    shown = progress(results, len(todo), "predict", shown=journal is not None and len(todo) > 1)
    for name, result in shown:
        if isinstance(result, (Prediction, Timeline)):
            try:
                _write_files(request, recognizer, name, result, single=len(inputs) == 1)
            except VideoError as error:
                result = error
        record = _record(name, result)
        failed.note(record)
        if journal is not None:
            journal.add(record)
        else:
            print(_told(name, result), flush=True)
        num_done += 1
        if stop is not None and stop.requested:
            break
    failed.tell(len(positions))
    return Outcome(len(positions), num_done, failed.number, num_done < len(positions))


class _Failures:
    """The inputs that failed: their number, and the first few by name."""

    def __init__(self) -> None:
        self.before = 0
        self._lines: list[str] = []
        self._number = 0

    @property
    def number(self) -> int:
        return self.before + self._number

    def note(self, record: dict[str, Any]) -> None:
        if "error" in record:
            self._number += 1
            if self._number <= _NAMED:
                self._lines.append(f"  {plain(record['video'])}: {plain(record['error'])}")

    def tell(self, num_inputs: int) -> None:
        if self.number:
            more = [f"  and {self.number - len(self._lines)} more"]
            lines = self._lines + (more if self.number > len(self._lines) else [])
            print(
                f"{self.number} of {num_inputs} inputs failed:", *lines, sep="\n", file=sys.stderr
            )


def _results(
    request: Request, recognizer: Recognizer, inputs: Inputs, todo: np.ndarray
) -> Iterator[tuple[str, Prediction | Timeline | VideoError]]:
    """(input, result) in order; a VideoError for an input that failed."""
    if request.timeline is not None:
        for name in map(inputs.name, todo.tolist()):
            yield name, _timeline(request, recognizer, name, len(todo) == 1)
        return
    num_workers = request.num_workers
    if num_workers is None:
        num_workers = default_num_workers(1) if len(todo) >= _WORTH_WORKERS else 0
    read = _Reading(inputs, recognizer, request.views, Watch(num_workers))
    pin = recognizer.device.type == "cuda"
    loader = item_loader(read, todo, **worker_settings(num_workers, pin_memory=pin))
    try:
        for name, views in zip(map(inputs.name, todo.tolist()), loader, strict=True):
            if isinstance(views, VideoViews):
                yield name, recognizer.predict(views, request.topk, name)
            else:
                yield name, views
    finally:
        loader.close()


class _Reading(Dataset[VideoViews | VideoError]):
    """The views of an input by its position, or why there are none."""

    def __init__(
        self, inputs: Inputs, recognizer: Recognizer, views: Views | None, watch: Watch
    ) -> None:
        self.watch = watch
        self.name = inputs.name
        self._inputs = inputs
        self._read = recognizer.reading(views)

    def __len__(self) -> int:
        return len(self._inputs)

    def __getitem__(self, position: int) -> VideoViews | VideoError:
        name = self.name(int(position))
        try:
            with self.watch.decoding(int(position), name):
                return self._read(name)
        except VideoError as error:
            return VideoError(name, error.reason)
        except (
            Exception
        ) as error:  # one strange file must not end the prediction of a million others
            return VideoError(name, f"{type(error).__name__}: {error}")


def _timeline(
    request: Request, recognizer: Recognizer, name: str, alone: bool
) -> Timeline | VideoError:
    try:
        return recognizer.timeline(name, **asdict(request.timeline), show_progress=alone)
    except VideoError as error:
        return VideoError(name, error.reason)


def _write_files(
    request: Request,
    recognizer: Recognizer,
    name: str,
    result: Prediction | Timeline,
    single: bool,
) -> None:
    """Subtitles and overlay of one video."""
    for folder, suffix, text in ((request.srt, ".srt", srt), (request.vtt, ".vtt", vtt)):
        if folder:
            target = file_for(Path(folder), name, suffix, single)
            with _told_as_input_error(target), atomic_file(target) as file:
                file.write(text(result.segments).encode("utf-8"))
    if request.overlay:
        target = file_for(Path(request.overlay), name, ".mp4", single)
        with _told_as_input_error(target):
            write_overlay(name, target, labels_of(result, recognizer.class_names, request.topk))


def _record(name: str, result: Prediction | Timeline | VideoError) -> dict[str, Any]:
    if isinstance(result, VideoError):
        return {"video": name, "error": result.reason}
    return result.to_dict()


def _told(name: str, result: Prediction | Timeline | VideoError) -> str:
    return plain(f"{name}: {result.reason}") if isinstance(result, VideoError) else str(result)
