"""Clips and test videos from files: how many a second the loader delivers, and how many in other ways."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from fvcore.common.config import CfgNode

from mvit_video.benchmark.measure import alternate, median_and_spread, peak_resident_mib, ratio
from mvit_video.benchmark.rival_readers import PerView, make_rival
from mvit_video.data.lists import load_list
from mvit_video.data.loader import train_loader, video_loader
from mvit_video.data.preparation.output import list_line
from mvit_video.data.preparation.probe import probe
from mvit_video.data.preparation.reencode import reencode
from mvit_video.data.preparation.video_tree import VideoTree
from mvit_video.data.preprocessing import Preprocessing
from mvit_video.data.readers import READERS
from mvit_video.data.workers import Loader, item_loader, settings_from_config
from mvit_video.errors import InputError, VideoError
from mvit_video.world import World

AGAINST = (*READERS, "bare", "encoded_video", "copies", "per_view")


class _Candidate(NamedTuple):
    loader: Loader
    read: Callable[[], None]  # a round


def benchmark_loader(
    cfg: CfgNode,
    against: Sequence[str] = (),
    batches: int = 8,
    rounds: int = 7,
    videos: Sequence[str] = (),
    views: bool = False,
) -> dict[str, Any]:
    """Times training clips, or test videos with all their views, in alternation with other ways to the same.

    A round reads the last `batches` updates of an epoch (or the whole test list) with workers that are awake but idle:
    filling the pipeline counts, and nothing is read ahead for a later round.

    decord, pyav, auto: other readers; bare: the decoder alone; encoded_video: pytorchvideo's; copies: the config's
    reader on copies of the videos as `prepare_data.py --reencode` makes them; per_view: every view decoded for itself.

    Args:
        cfg: names the list, the batch, the reader, the workers and the views.
        against: names of AGAINST.
        videos: files and folders to read instead of the config's list; those that are damaged are left out.
        views: test videos instead of training clips.

    Returns:
        Plain values, as `benchmark_model`; for views, a clip is a view. Memory is that of the largest process that
        decodes.

    Raises:
        InputError: no video, or what a comparison needs is not here.
    """
    ours = cfg.DATA.READER
    names = list(dict.fromkeys((ours, *against)))
    if "per_view" in names and not views:
        raise InputError("--against per_view compares test videos; add --views")
    with ExitStack() as stack:
        if videos:
            cfg = stack.enter_context(_listed(cfg, videos))
        candidates = {name: _candidate(stack, cfg, name, batches, views) for name in names}
        for candidate in candidates.values():
            candidate.read()  # starts the workers
        pids = {n: [w.pid for w in c.loader.workers] for n, c in candidates.items()}
        jobs = {name: candidate.read for name, candidate in candidates.items()}
        seconds = alternate(jobs, rounds, torch.device("cpu"))
        memory = {
            name: max(map(peak_resident_mib, pids[name]), default=peak_resident_mib())
            for name in names
        }
        clips = _num_clips(cfg, candidates[ours].loader, batches, views)
    return {
        "clips_per_round": clips,
        "rounds": rounds,
        "workers": len(pids[ours]),
        "candidates": {n: _numbers(seconds[n], clips, memory[n]) for n in names},
        "ratios": {
            name: {
                **ratio(seconds[name], seconds[ours]),
                "peak_memory": memory[name] / memory[ours],
            }
            for name in names[1:]
        },
    }


def _numbers(seconds: list[float], clips: int, memory: float) -> dict[str, float]:
    median, spread = median_and_spread(seconds)
    return {
        "clips_per_second": clips / median,
        "ms_per_clip": 1000 * median / clips,
        "spread": spread,
        "peak_memory_mib": memory,
    }


def _candidate(stack: ExitStack, cfg: CfgNode, name: str, batches: int, views: bool) -> _Candidate:
    if name == "copies":
        cfg = stack.enter_context(_copied(cfg, "test" if views else "train"))
    reader = make_rival(cfg.DATA.READER if name in ("copies", "per_view") else name)
    if name == "per_view":
        test = cfg.TEST
        items = PerView(
            load_list(cfg, "test"), Preprocessing.from_config(cfg), reader,
            test.NUM_ENSEMBLE_VIEWS, test.NUM_SPATIAL_CROPS,
        )  # fmt: skip
        loader = item_loader(items, range(len(items)), **settings_from_config(cfg, World()))
    elif views:
        loader = video_loader(cfg, "test", World(), reader=reader)
    else:
        loader = train_loader(cfg, World(), reader)
        order = loader.order
        first = max(order.steps_per_epoch - batches, 0) * order.batch_size
    stack.enter_context(closing(loader))

    def read() -> None:
        if not views:
            loader.set_position(epoch=0, consumed_samples=first)
        for _ in loader:
            pass

    return _Candidate(loader, read)


def _num_clips(cfg: CfgNode, loader: Loader, batches: int, views: bool) -> int:
    if views:
        return len(loader) * cfg.TEST.NUM_ENSEMBLE_VIEWS * cfg.TEST.NUM_SPATIAL_CROPS
    return min(batches, loader.order.steps_per_epoch) * cfg.TRAIN.BATCH_SIZE * cfg.AUG.NUM_SAMPLE


@contextmanager
def _listed(cfg: CfgNode, videos: Sequence[str]) -> Iterator[CfgNode]:
    """The config with lists of these videos; each twice for training, so that batches meet the same one again."""
    good = []
    for name in videos:
        path = Path(name).absolute()
        for file in map(path.joinpath, VideoTree(path).paths) if path.is_dir() else [path]:
            try:
                probe(str(file))
                good.append(str(file))
            except VideoError as error:
                print(f"left out: {error}")
    if not good:
        raise InputError("--videos names no video that can be decoded")
    with tempfile.TemporaryDirectory() as folder:
        yield _with_lists(cfg, folder, {"train": _enough(good, cfg.TRAIN.BATCH_SIZE), "test": good})


def _enough(videos: list[str], batch_size: int) -> list[str]:
    return videos * max(-(-8 * batch_size // len(videos)), 1)


@contextmanager
def _copied(cfg: CfgNode, split: str) -> Iterator[CfgNode]:
    """The config with a list of copies of its videos."""
    listed = load_list(cfg, split)
    with tempfile.TemporaryDirectory() as folder:
        copies: dict[str, str] = {}
        for index in range(len(listed)):
            source = listed.path(index)
            if source not in copies:
                copies[source] = str(Path(folder, f"{len(copies)}.mp4"))
                reencode(source, copies[source])
        videos = [copies[listed.path(index)] for index in range(len(listed))]
        yield _with_lists(cfg, folder, {split: videos})


def _with_lists(cfg: CfgNode, folder: str, lists: dict[str, list[str]]) -> CfgNode:
    for split, videos in lists.items():
        text = "".join(list_line(video, 0) for video in videos)
        Path(folder, f"{split}.csv").write_bytes(text.encode(errors="surrogateescape"))
    cfg = cfg.clone()
    cfg.defrost()
    cfg.DATA.PATH_TO_DATA_DIR, cfg.DATA.PATH_PREFIX = folder, ""
    return cfg
