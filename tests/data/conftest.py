"""A data set of real files: ten demo videos, one undecodable one, and lists of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from fvcore.common.config import CfgNode

from mvit_video.config import load_config
from mvit_video.data.demo import write_video

NUM_VIDEOS = 10
BROKEN = 4  # the number of the video that is no video


@pytest.fixture(scope="session")
def data_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with train.csv and val.csv of ten good videos, and test.csv in which number BROKEN is a text file."""
    folder = tmp_path_factory.mktemp("data set")
    names = [f"video {number}.mp4" for number in range(NUM_VIDEOS)]
    for label, name in enumerate(names):
        write_video(folder / name, name, label)
    good = "".join(f'"{name}" {label}\n' for label, name in enumerate(names))
    (folder / "train.csv").write_text(good)
    (folder / "val.csv").write_text(good)
    (folder / "broken.mp4").write_text("not a video")
    (folder / "test.csv").write_text(good.replace(names[BROKEN], "broken.mp4"))
    return folder


@pytest.fixture
def make_config(data_set: Path):
    """config(KEY, value, ...) for the data set: 48-pixel clips of four frames, batches of four, no workers."""

    def config(*overrides: object) -> CfgNode:
        keys = {
            "DATA.PATH_TO_DATA_DIR": data_set,
            "DATA.PATH_PREFIX": data_set,
            "DATA.READER": "pyav",
            "DATA.NUM_FRAMES": 4,
            "DATA.TRAIN_JITTER_SCALES": "[56,64]",
            "DATA.TRAIN_CROP_SIZE": 48,
            "DATA.TEST_CROP_SIZE": 48,
            "TRAIN.BATCH_SIZE": 4,
            "DATA_LOADER.NUM_WORKERS": 0,
        }
        keys.update(zip(overrides[::2], overrides[1::2], strict=True))
        return load_config(None, [str(word) for pair in keys.items() for word in pair])

    return config
