"""A run small enough for tests: real H.264 files of a few dozen pixels, lists of them, and a model of two blocks."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np

COLORS = ((220, 40, 40), (40, 200, 40), (40, 40, 220))  # a class each
CLASS_NAMES = ("red", "green", "blue")

TINY_MODEL = {
    "MODEL.NUM_CLASSES": len(COLORS),
    "MODEL.DROPOUT_RATE": 0.0,
    "MVIT.EMBED_DIM": 16,
    "MVIT.DEPTH": 2,
    "MVIT.DIM_MUL": [[1, 2.0]],
    "MVIT.HEAD_MUL": [[1, 2.0]],
    "MVIT.POOL_Q_STRIDE": [[1, 1, 2, 2]],
    "MVIT.POOL_KV_STRIDE_ADAPTIVE": [1, 2, 2],
    "MVIT.POOL_KVQ_KERNEL": [3, 3, 3],
    "MVIT.DROPPATH_RATE": 0.0,
    "DATA.NUM_FRAMES": 4,
    "DATA.SAMPLING_RATE": 2,
    "DATA.TRAIN_JITTER_SCALES": [36, 40],
    "DATA.TRAIN_CROP_SIZE": 32,
    "DATA.TEST_CROP_SIZE": 32,
}
TINY_RUN = {
    **TINY_MODEL,
    "NUM_THREADS": 1,
    "NUM_GPUS": 1,
    "TRAIN.BATCH_SIZE": 6,
    "TEST.BATCH_SIZE": 3,
    "TEST.NUM_ENSEMBLE_VIEWS": 3,
    "SOLVER.MAX_EPOCH": 2,
    "SOLVER.BASE_LR": 2e-3,
    "SOLVER.REFERENCE_BATCH_SIZE": 6,
    "DATA_LOADER.NUM_WORKERS": 0,
}


def overrides(keys: dict[str, object]) -> list[str]:
    """Keys and values as they stand on a command line."""
    return [word for key, value in keys.items() for word in (key, str(value))]


def write_video(
    path: Path, label: int, seed: int, frames: int = 16, size: tuple[int, int] = (48, 64)
) -> None:
    """A noisy patch of the class's colour that wanders over a grey ground; size is (height, width)."""
    rng = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"g": "8", "crf": "18"})
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p"
        top, left = rng.integers(0, size[0] // 3), rng.integers(0, size[1] // 3)
        for number in range(frames):
            picture = np.full((*size, 3), 110, dtype=np.int16)
            patch = picture[top : top + size[0] // 2, left + number : left + number + size[1] // 2]
            patch[:] = COLORS[label]
            picture += rng.integers(-15, 16, picture.shape, dtype=np.int16)
            image = picture.clip(0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))


def write_dataset(folder: Path, num_train: int = 12, num_test: int = 7) -> dict[str, str]:
    """Videos and lists of all splits; returns the keys that name them."""
    for split, number in (("train", num_train), ("val", 4), ("test", num_test)):
        lines = []
        for i in range(number):
            label = i % len(COLORS)
            write_video(folder / f"{split}_{i}.mp4", label, seed=1000 * len(split) + i)
            lines.append(f"{split}_{i}.mp4 {label}\n")
        (folder / f"{split}.csv").write_text("".join(lines))
    (folder / "classes.txt").write_text("\n".join(CLASS_NAMES) + "\n")
    return {"DATA.PATH_TO_DATA_DIR": str(folder), "DATA.PATH_PREFIX": str(folder)}
