"""Test videos: the right pixels in every view, from one decode; nothing replaced."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mvit_video.data.dataset import TestVideos, UndecodableVideo
from mvit_video.data.lists import load_list
from mvit_video.data.preprocessing import Preprocessing
from mvit_video.data.readers import make_reader
from mvit_video.data.spatial import crop_corners, scaled_size
from mvit_video.data.views import VideoViews
from tests.data.conftest import BROKEN, NUM_VIDEOS


@dataclass
class CountingReader:
    """A real reader that counts its calls and the frames it was asked for."""

    calls: int = 0
    frames: list[int] = field(default_factory=list)

    def read(self, path, frames, size=None):
        self.calls += 1
        pictures, info = make_reader("pyav").read(path, frames, size)
        self.frames.append(len(pictures))
        return pictures, info


def naive_view(
    path: Path, preprocessing: Preprocessing, view: int, crop: int, num_views: int, num_crops: int
) -> torch.Tensor:
    """One view, (3, T, size, size), from a decode of the whole file of its own, resized as float."""
    with av.open(str(path)) as container:
        frames = np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])
    n, fps, size = len(frames), 30.0, preprocessing.crop_size
    span = preprocessing.num_frames * preprocessing.sampling_rate * fps / preprocessing.target_fps
    room = max(n - span, 0)
    start = room // 2 if num_views == 1 else view * (room // (num_views - 1))
    wanted = np.floor(np.linspace(start, start + span - 1, preprocessing.num_frames) + 1e-9)
    clip = torch.from_numpy(frames[np.minimum(wanted.astype(int), n - 1)]).permute(0, 3, 1, 2)
    short_side = preprocessing.short_side if num_crops == 1 else size
    scaled = F.interpolate(clip.float(), scaled_size(*clip.shape[2:], short_side), mode="bilinear")
    top, left = crop_corners(*scaled.shape[2:], size, num_crops)[crop].tolist()
    return scaled[:, :, top : top + size, left : left + size].permute(1, 0, 2, 3)


@pytest.mark.parametrize(("num_views", "num_crops"), [(1, 1), (5, 1), (5, 3)])
def test_views_are_those_of_one_decode_each(make_config, num_views: int, num_crops: int) -> None:
    cfg = make_config()
    videos, preprocessing = load_list(cfg, "val"), Preprocessing.from_config(cfg)
    item = TestVideos(videos, preprocessing, make_reader("pyav"), num_views, num_crops)[2]
    views = item.views()
    assert views.shape == (num_views * num_crops, 3, 4, 48, 48) and views.dtype == torch.uint8
    assert (item.video_id, item.label, item.index) == ("video 2.mp4", 2, 2)
    for number, (view, crop) in enumerate(item.view_numbers().tolist()):
        path = Path(videos.path(2))
        naive = naive_view(path, preprocessing, view, crop, num_views, num_crops)
        assert (views[number] - naive).abs().max() <= 1.01


def test_a_video_is_read_once_and_each_frame_once(make_config) -> None:
    cfg = make_config()
    reader = CountingReader()
    videos = TestVideos(load_list(cfg, "val"), Preprocessing.from_config(cfg), reader, 5, 3)
    item = videos[0]
    assert reader.calls == 1
    assert reader.frames == [len(item.frame_index.unique())] and reader.frames[0] <= 20
    assert len(item.frames) == reader.frames[0] and item.num_views == 15


def test_undecodable_videos_are_reported_and_never_replaced(make_config) -> None:
    cfg = make_config()
    videos = TestVideos(load_list(cfg, "test"), Preprocessing.from_config(cfg), make_reader("pyav"))
    items = [videos[index] for index in range(NUM_VIDEOS)]
    missing = [item for item in items if isinstance(item, UndecodableVideo)]
    assert [(item.video_id, item.label, item.index) for item in missing] == [
        ("broken.mp4", BROKEN, BROKEN)
    ]
    assert "broken.mp4" in missing[0].reason and "\n" not in missing[0].reason
    assert [item.index for item in items] == list(range(NUM_VIDEOS))


def test_shuffled_frames_are_the_same_frames_in_another_order_every_time_the_same(
    make_config,
) -> None:
    cfg = make_config()
    arguments = load_list(cfg, "val"), Preprocessing.from_config(cfg), make_reader("pyav"), 3, 1
    plain, shuffled = TestVideos(*arguments)[1], TestVideos(*arguments, shuffle_seed=0)[1]
    again = TestVideos(*arguments, shuffle_seed=0)[1]
    assert torch.equal(shuffled.frame_index, again.frame_index)
    assert not torch.equal(shuffled.frame_index, plain.frame_index)
    assert torch.equal(shuffled.frame_index.sort(dim=1).values, plain.frame_index)


def test_views_are_temporal_major() -> None:
    frames = torch.arange(3, dtype=torch.uint8).view(3, 1, 1, 1).expand(3, 2, 4, 3).clone()
    frames[:, :, 2:] += 100
    views = VideoViews(
        frames, torch.tensor([[0, 1], [1, 2]]), torch.tensor([[0, 0], [0, 2]]), crop_size=2
    )
    assert views.views()[:, 0, :, 0, 0].tolist() == [[0, 1], [100, 101], [1, 2], [101, 102]]
    assert views.view_numbers().tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
