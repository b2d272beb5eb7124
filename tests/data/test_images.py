"""Folders of images through the video pipeline: an image is a video of one frame."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from mvit_video import load_config
from mvit_video.data.lists import load_class_names, load_list
from mvit_video.data.loader import train_loader, video_loader
from mvit_video.errors import InputError
from mvit_video.world import World

CLASSES = ("dark", "light")


def write_image(path: Path, level: int, size: tuple[int, int] = (40, 56)) -> None:
    """A JPEG or PNG of one grey level, (height, width)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = ("png", "rgb24") if path.suffix == ".png" else ("mjpeg", "yuvj420p")
    with av.open(str(path), "w", format="image2") as container:
        stream = container.add_stream(kind[0])
        stream.height, stream.width, stream.pix_fmt = *size, kind[1]
        picture = np.full((*size, 3), level, dtype=np.uint8)
        for packet in (
            *stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")),
            *stream.encode(),
        ):
            container.mux(packet)


def write_images(folder: Path, per_class: int = 4) -> Path:
    """train/<class>/<image> and val/<class>/<image>, the class told by the grey level."""
    for split in ("train", "val"):
        for label, name in enumerate(CLASSES):
            for number in range(per_class):
                suffix = ".JPEG" if number % 2 else ".png"
                write_image(folder / split / name / f"{number}{suffix}", 60 + 120 * label + number)
    (folder / "train" / "dark" / "notes.txt").write_text("no image")
    return folder


def image_config(folder: Path, *more: str):
    keys = {
        "DATA.PATH_TO_DATA_DIR": folder,
        "MODEL.NUM_CLASSES": 2,
        "DATA.TRAIN_JITTER_SCALES": [36, 40],
        "DATA.TRAIN_CROP_SIZE": 32,
        "DATA.TEST_CROP_SIZE": 32,
        "TRAIN.BATCH_SIZE": 4,
        "TEST.BATCH_SIZE": 4,
        "DATA_LOADER.NUM_WORKERS": 0,
        "AUG.ENABLE": False,
        "MIXUP.ENABLE": False,
    }
    words = [word for key, value in keys.items() for word in (key, str(value))]
    return load_config("configs/IN1K/MVITv2_T.yaml", [*words, *more])


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_images(tmp_path_factory.mktemp("images"))


def test_folders_are_classes_in_the_order_of_their_names(folder: Path) -> None:
    images = load_list(image_config(folder), "train")
    assert len(images) == 8
    assert [images.label(i) for i in range(8)] == [0] * 4 + [1] * 4
    assert images.video_id(1) == "dark/1.JPEG"
    assert Path(images.path(5)).is_file()
    assert load_class_names(image_config(folder)) == CLASSES


def test_the_test_split_is_val(folder: Path) -> None:
    assert load_list(image_config(folder), "test").source == str(folder / "val")


def test_images_come_out_as_clips_of_one_frame(folder: Path) -> None:
    cfg = image_config(folder)
    loader = train_loader(cfg, World())
    loader.set_position(0, 0)
    batch = next(iter(loader))
    assert batch["clips"].shape == (4, 3, 1, 32, 32)
    light = batch["clips"].float().mean(dim=(1, 2, 3, 4)) > 120
    assert light.int().tolist() == batch["label"].tolist()
    videos = list(video_loader(cfg, "test", World()))
    assert len(videos) == 8
    assert videos[0].views().shape == (1, 3, 1, 32, 32)
    levels = [video.views().float().mean().item() for video in videos]
    assert levels == pytest.approx([60, 61, 62, 63, 180, 181, 182, 183], abs=2)


def test_missing_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"train is not there"):
        load_list(image_config(tmp_path), "train")
    (tmp_path / "train").mkdir()
    with pytest.raises(InputError, match="holds no folders"):
        load_list(image_config(tmp_path), "train")


def test_a_class_beyond_the_head_is_named(folder: Path) -> None:
    with pytest.raises(InputError, match=r"label 1 of light/0\.png is outside 0 \.\.\. 0"):
        load_list(image_config(folder, "MODEL.NUM_CLASSES", "1"), "train")
