"""What an exported file is held to: clips to compare it on, and the score it keeps on a list of videos."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from mvit_video.data import demo
from mvit_video.data.dataset import TestVideos, UndecodableVideo
from mvit_video.data.lists import ListFile, read_csv
from mvit_video.data.readers import make_reader
from mvit_video.data.views import VideoViews
from mvit_video.errors import InputError
from mvit_video.predict.export import Run
from mvit_video.predict.recognizer import Recognizer
from mvit_video.progress import progress

_DEMO_CLIPS = 3
_BATCH = 8


@dataclass(frozen=True)
class Comparison:
    """Two models on the middle view of every video of a list.

    Attributes:
        num_videos: how many were compared.
        model_top1, exported_top1: percent.
        agreement: percent of the videos to which both give the same class.
        undecodable: videos left out.
    """

    num_videos: int
    model_top1: float
    exported_top1: float
    agreement: float
    undecodable: tuple[UndecodableVideo, ...]


def check_clips(recognizer: Recognizer, videos: Sequence[str] = ()) -> Tensor:
    """Normalised clips (B, 3, T, H, W), the middle of each video; of the built-in demo's where none are given.

    Raises:
        VideoError: a video cannot be decoded.
    """
    if videos:
        views = [recognizer.read(path, views=(1, 1)) for path in videos]
    else:
        rendered = [demo.render(f"export check {label}", label) for label in range(_DEMO_CLIPS)]
        views = [recognizer.read(frames, views=(1, 1), fps=demo.FPS) for frames in rendered]
    return recognizer.preprocessing.normalise(torch.cat([view.views() for view in views]))


def read_list(file: Path, prefix: str = "") -> ListFile:
    """The videos of a file with `path label` a line, whose paths are relative to the folder `prefix`.

    Raises:
        InputError: there is no such file, it is empty, or a line is of another form.
    """
    if not file.is_file():
        raise InputError(f"there is no list {file}; it takes one video a line, `path label`")
    entries = [(name, label) for _, name, label in read_csv(file)]
    if not entries:
        raise InputError(f"{file}: the list is empty; it takes one video a line, `path label`")
    return ListFile.build(entries, prefix, "", str(file))


@torch.inference_mode()
def compare_on_list(recognizer: Recognizer, run: Run, videos: ListFile) -> Comparison:
    """How often the model, on the CPU, and its exported form `run` are right, and how often they agree.

    Raises:
        InputError: none of the videos can be decoded.
    """
    reader = make_reader(recognizer.settings.reader)
    items = TestVideos(videos, recognizer.preprocessing, reader)
    read = (items[index] for index in range(len(items)))
    lost: list[UndecodableVideo] = []
    rows: list[tuple[int, int, int]] = []  # label, the model's answer, the file's
    for batch in _batches(_decodable(progress(read, len(items), "measure"), lost)):
        clips = recognizer.preprocessing.normalise(torch.cat([video.views() for video in batch]))
        answers = (recognizer.model(clips).argmax(dim=1), run(clips).argmax(dim=1))
        labels = [video.label for video in batch]
        rows += zip(labels, *(answer.tolist() for answer in answers), strict=True)
    if not rows:
        raise InputError(
            f"none of the {len(videos)} videos of {videos.source} can be decoded, the first: {lost[0].reason}"
        )
    label, model, exported = torch.tensor(rows).T
    return Comparison(
        len(rows),
        _percent(model == label),
        _percent(exported == label),
        _percent(model == exported),
        tuple(lost),
    )


def _decodable(
    items: Iterator[VideoViews | UndecodableVideo], lost: list[UndecodableVideo]
) -> Iterator[VideoViews]:
    for item in items:
        if isinstance(item, VideoViews):
            yield item
        else:
            lost.append(item)


def _batches(items: Iterator[VideoViews]) -> Iterator[list[VideoViews]]:
    while batch := list(islice(items, _BATCH)):
        yield batch


def _percent(hits: Tensor) -> float:
    return 100.0 * hits.float().mean().item()
