"""The built-in demo: short H.264 videos whose class is how things move, made from the lines of its lists.

Textured sprites drift over a still, textured background in one of eight directions, or grow, shrink or turn in place.
Place, size, heading, shape, colours, texture and speed are random and distributed alike in every class, and the picture
is a torus, so that no frame tells the class; every motion has its reverse, so that frames in a wrong order do not tell
it either. A video is a function of its path in the list and its label.
"""

from __future__ import annotations

import hashlib
import math
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from mvit_video.data.lists import read_csv
from mvit_video.resources import data_lists_dir

HEIGHT, WIDTH, NUM_FRAMES, FPS = 64, 80, 40, 30
SPRITES = 4

_DIRECTIONS = {
    "right": 0,
    "down-right": 45,
    "down": 90,
    "down-left": 135,
    "left": 180,
    "up-left": 225,
    "up": 270,
    "up-right": 315,
}
CLASS_NAMES = (
    *(f"moving {direction}" for direction in _DIRECTIONS),
    "growing",
    "shrinking",
    "turning clockwise",
    "turning anticlockwise",
)


@dataclass(frozen=True)
class Motion:
    """What a sprite does from one frame to the next: pixels right and down, growth of its log size, turn in radians."""

    right: float = 0.0
    down: float = 0.0
    growth: float = 0.0
    turn: float = 0.0


def class_motion(label: int, speed: float) -> Motion:
    """The motion of a class; `speed` is about 1."""
    name = CLASS_NAMES[label]
    if name.startswith("moving "):
        angle = math.radians(_DIRECTIONS[name.removeprefix("moving ")])
        return Motion(right=1.2 * speed * math.cos(angle), down=1.2 * speed * math.sin(angle))
    if name in ("growing", "shrinking"):
        return Motion(growth=(0.035 if name == "growing" else -0.035) * speed)
    return Motion(turn=(0.1 if name == "turning clockwise" else -0.1) * speed)


def write_demo(
    out: Path, lists: Path | None = None, num_workers: int | None = None
) -> tuple[int, int]:
    """Writes the videos of the demo's lists under `out`; those that exist stay as they are.

    Args:
        out: folder that the lists' paths are relative to.
        lists: folder with train.csv, val.csv and test.csv; the shipped ones by default.
        num_workers: processes; one per core by default.

    Returns:
        Number of videos written, and in the lists.
    """
    folder = lists or data_lists_dir() / "demo"
    videos = {
        name: label for file in sorted(folder.glob("*.csv")) for _, name, label in read_csv(file)
    }
    missing = [name for name in videos if not (out / name).exists()]
    for parent in {(out / name).parent for name in missing}:
        parent.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(num_workers) as pool:
        written = pool.map(
            write_video,
            [out / name for name in missing],
            missing,
            [videos[name] for name in missing],
            chunksize=16,
        )
        return len(list(written)), len(videos)


def write_video(path: Path, name: str, label: int) -> None:
    """Writes the demo video `name` of class `label` to `path`, which appears when it is whole."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    options = {"preset": "superfast", "crf": "20", "g": "16"}
    with av.open(str(unfinished), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FPS, options=options)
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        stream.codec_context.thread_count = 1
        for picture in render(name, label):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    os.replace(unfinished, path)


def render(name: str, label: int) -> np.ndarray:
    """The frames of a demo video, (T, H, W, 3) uint8."""
    seed = hashlib.sha256(name.encode()).digest()
    rng = np.random.default_rng(np.frombuffer(seed, dtype=np.uint64))
    video = np.repeat(np.clip(_background(rng), 0, 255).astype(np.uint8)[None], NUM_FRAMES, axis=0)
    motion = class_motion(label, rng.uniform(0.8, 1.25))
    for _ in range(SPRITES):
        _paint_sprite(video, motion, rng)
    return video


def _background(rng: np.random.Generator) -> np.ndarray:
    """(H, W, 3) float32: blotches and grain around a random dark grey."""
    picture = np.full((HEIGHT, WIDTH, 3), rng.uniform(20, 100), dtype=np.float32)
    for cells, strength in ((4, 12), (8, 8), (16, 4)):
        noise = rng.normal(0, strength, (cells, cells, 3)).astype(np.float32)
        picture += np.kron(noise, np.ones((HEIGHT // cells, WIDTH // cells, 1), dtype=np.float32))
    return picture


def _paint_sprite(video: np.ndarray, motion: Motion, rng: np.random.Generator) -> None:
    """One sprite on every frame of `video` (T, H, W, 3), in place."""
    # Counted from the middle of the video: what is drawn below is the state there, alike for every class.
    time = np.arange(NUM_FRAMES, dtype=np.float32)[:, None, None] - (NUM_FRAMES - 1) / 2
    radius = 9 * np.exp(rng.uniform(-0.35, 0.35) + motion.growth * time)
    angle = rng.uniform(0, 2 * math.pi) + motion.turn * time
    cos, sin = np.cos(angle), np.sin(angle)
    x = np.arange(WIDTH, dtype=np.float32) - rng.uniform(0, WIDTH) - motion.right * time
    y = np.arange(HEIGHT, dtype=np.float32)[:, None] - rng.uniform(0, HEIGHT) - motion.down * time
    x, y = _wrapped(x, WIDTH), _wrapped(y, HEIGHT)
    near = np.nonzero(x**2 + y**2 < (1.6 * radius) ** 2)
    frame, row, column = near
    x, y = x[frame, 0, column], y[frame, row, 0]
    radius, cos, sin = (part[frame, 0, 0] for part in (radius, cos, sin))
    u = (cos * x + sin * y) / radius
    v = (cos * y - sin * x) / radius
    cover = np.clip(_depth(u, v, rng) * radius + 0.5, 0, 1)[:, None]
    stripes = np.sin(u * rng.uniform(1.5, 3) + rng.uniform(0, 2 * math.pi)) > 0
    paint = _two_colours(rng)[stripes.astype(int)]
    video[near] = np.rint(cover * paint + (1 - cover) * video[near])


def _wrapped(offset: np.ndarray, length: int) -> np.ndarray:
    return (offset + length / 2) % length - length / 2


def _depth(u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """How far (u, v) lies inside a random tapering bar along u; negative outside."""
    thickness, taper = rng.uniform(0.3, 0.5), rng.uniform(0, 0.2)
    return np.minimum(1.4 - np.abs(u), thickness - taper * u - np.abs(v))


def _two_colours(rng: np.random.Generator) -> np.ndarray:
    """(2, 3): two bright colours of any hue."""
    return rng.uniform(120, 255, (2, 3)).astype(np.float32)
