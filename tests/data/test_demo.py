"""The built-in demo: its lists, and the real video files made from them."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from mvit_video.config import load_config
from mvit_video.data.demo import (
    CLASS_NAMES,
    HEIGHT,
    NUM_FRAMES,
    WIDTH,
    class_motion,
    render,
    write_demo,
    write_video,
)
from mvit_video.data.lists import load_class_names, load_list
from mvit_video.data.readers import VideoInfo, make_reader
from mvit_video.resources import data_lists_dir

CONFIG = load_config("configs/demo/MVIT_XS_8x4.yaml")


def test_the_lists_are_balanced_and_share_no_video() -> None:
    seen: set[str] = set()
    for split in ("train", "val", "test"):
        videos = load_list(CONFIG, split)
        assert len(set(Counter(videos.labels.tolist()).values())) == 1
        assert set(videos.labels.tolist()) == set(range(len(CLASS_NAMES)))
        names = [videos.video_id(index) for index in range(len(videos))]
        assert not seen & set(names)
        seen.update(names)
        for name, label in zip(names, videos.labels, strict=True):
            assert name.startswith(CLASS_NAMES[label].replace(" ", "_") + "/")
    assert load_class_names(CONFIG) == CLASS_NAMES


def test_every_motion_has_its_reverse() -> None:
    motions = [class_motion(label, 1.0) for label in range(len(CLASS_NAMES))]
    for one in motions:
        opposite = [
            other
            for other in motions
            if math.isclose(one.right, -other.right, abs_tol=1e-9)
            and math.isclose(one.down, -other.down, abs_tol=1e-9)
            and (one.growth, one.turn) == (-other.growth, -other.turn)
        ]
        assert len(opposite) == 1 and opposite[0] is not one


@pytest.mark.parametrize("label", range(0, 8))
def test_things_move_where_the_class_says(label: int) -> None:
    """The shift between frames of a moving picture, from the phase of their Fourier transforms."""
    motion = class_motion(label, 1.0)
    found = []
    for number in range(5):
        frames = render(f"{number}", label).mean(axis=3)
        moving = frames - np.median(frames, axis=0)  # the background stands still
        spectra = np.fft.fft2(moving)
        cross = (spectra[:-4] * spectra[4:].conj()).sum(axis=0)
        peak = np.unravel_index(np.abs(np.fft.ifft2(cross)).argmax(), cross.shape)
        down, right = ((-at + n // 2) % n - n // 2 for at, n in zip(peak, cross.shape, strict=True))
        found.append((right, down))
    right, down = np.median(found, axis=0) / 4
    assert abs(right - motion.right) < 0.6 and abs(down - motion.down) < 0.6


def test_growing_things_grow_and_shrinking_ones_shrink() -> None:
    def brightness(name: str, frame: int) -> float:
        """Mean over some videos: sprites are brighter than the background."""
        label = CLASS_NAMES.index(name)
        return float(np.mean([render(str(number), label)[frame].mean() for number in range(6)]))

    assert brightness("growing", -1) > brightness("growing", 0) + 10
    assert brightness("shrinking", -1) < brightness("shrinking", 0) - 10


def test_a_video_is_a_function_of_its_name(tmp_path: Path) -> None:
    assert (render("a", 3) == render("a", 3)).all()
    assert not (render("a", 3) == render("b", 3)).all()
    write_video(tmp_path / "1.mp4", "a", 3)
    write_video(tmp_path / "2.mp4", "a", 3)
    assert (tmp_path / "1.mp4").read_bytes() == (tmp_path / "2.mp4").read_bytes()


@pytest.mark.parametrize("reader", ["decord", "pyav"])
def test_videos_are_real_files(tmp_path: Path, reader: str) -> None:
    write_video(tmp_path / "v.mp4", "a", 0)
    frames, info = make_reader(reader).read(str(tmp_path / "v.mp4"), range(NUM_FRAMES))
    assert info == VideoInfo(num_frames=NUM_FRAMES, fps=30.0, width=WIDTH, height=HEIGHT)
    assert abs(frames.astype(float) - render("a", 0)).mean() < 8


def test_what_exists_is_kept_and_what_is_missing_is_made(tmp_path: Path) -> None:
    lists, out = tmp_path / "lists", tmp_path / "out"
    lists.mkdir()
    for split in ("train", "val", "test"):
        lines = (data_lists_dir() / "demo" / f"{split}.csv").read_text().splitlines()[:2]
        (lists / f"{split}.csv").write_text("\n".join(lines))
    assert write_demo(out, lists, num_workers=2) == (6, 6)
    files = sorted(path for path in out.rglob("*") if path.is_file())
    assert len(files) == 6 and all(path.suffix == ".mp4" for path in files)
    kept = files[0].stat().st_mtime_ns
    files[1].unlink()
    assert write_demo(out, lists, num_workers=2) == (1, 6)
    assert files[0].stat().st_mtime_ns == kept and files[1].exists()
