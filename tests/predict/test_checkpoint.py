"""What a recognizer takes from a weight file, and what it asks for where the file does not say it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mvit_video import Recognizer
from mvit_video.errors import InputError
from mvit_video.predict.checkpoint import TestSettings, load_recognition
from mvit_video.resources import read_class_names
from mvit_video.weights import read_checkpoint
from mvit_video.weights.convert import convert
from tests.tiny_run import CLASS_NAMES
from tests.weights.small_models import V2, weights_of


@pytest.fixture
def official(tmp_path):
    """A small file under the name of an official one, and like that without any word on its preprocessing."""
    path = tmp_path / "MViTv2_S_16x4_k400_f302660347.pyth"
    torch.save({"model_state": weights_of(replace(V2, num_classes=400))}, path)
    return path


def test_a_training_checkpoint_says_everything(trained):
    found = load_recognition(trained.checkpoint)
    assert found.preprocessing.class_names == CLASS_NAMES
    assert found.preprocessing.crop_size == 32
    assert found.settings == TestSettings(clips=3, crops=3, reader="decord")
    assert not found.model.training


def test_a_converted_file_recognises_like_its_checkpoint(trained, recognizer, tmp_path):
    native = tmp_path / "native.safetensors"
    convert(read_checkpoint(trained.checkpoint), native)
    video = trained.videos / "test_0.mp4"
    found = Recognizer.from_checkpoint(native, "cpu")(video)
    assert found.to_dict() == recognizer(video).to_dict()


def test_an_official_file_is_known_by_its_name(official):
    found = load_recognition(official)
    assert found.preprocessing.class_names == read_class_names("kinetics400")
    assert (found.preprocessing.num_frames, found.preprocessing.sampling_rate) == (16, 4)
    assert (found.settings.clips, found.settings.crops) == (5, 1)


def test_a_file_that_says_nothing_asks_for_the_config(official, tmp_path):
    renamed = official.rename(tmp_path / "mine.pyth")
    with pytest.raises(InputError, match=r"--cfg.*convert_weights"):
        load_recognition(renamed)


def test_config_and_class_names_can_be_given(official, tmp_path):
    torch.save({"model_state": weights_of(V2)}, official)
    names, config = tmp_path / "names.txt", tmp_path / "config.yaml"
    names.write_text("a\nb\nc\nd\ne\n")
    config.write_text(CONFIG)
    found = load_recognition(official.rename(tmp_path / "mine.pyth"), str(config), str(names))
    assert found.preprocessing.class_names == tuple("abcde")
    assert found.preprocessing.short_side == 72
    assert (found.settings.clips, found.settings.crops) == (4, 3)


def test_class_names_of_another_number_are_refused(official, tmp_path):
    with pytest.raises(InputError, match="400 classes apart, but there are 600 class names"):
        load_recognition(official, class_names="kinetics600")


def test_a_name_that_is_no_file_lists_the_public_weights():
    with pytest.raises(InputError, match="MVITv2_S_16x4"):
        load_recognition("no_such_file.pt")


CONFIG = """
DATA:
  NUM_FRAMES: 8
  SAMPLING_RATE: 4
  TRAIN_JITTER_SCALES: [72, 80]
  TRAIN_CROP_SIZE: 64
  TEST_CROP_SIZE: 64
MODEL:
  NUM_CLASSES: 5
MVIT:
  EMBED_DIM: 8
  DEPTH: 4
  DIM_MUL: [[1, 2.0], [3, 2.0]]
  HEAD_MUL: [[1, 2.0], [3, 2.0]]
  POOL_Q_STRIDE: [[0, 1, 1, 1], [1, 1, 2, 2], [2, 1, 1, 1], [3, 1, 2, 2]]
  POOL_KV_STRIDE_ADAPTIVE: [1, 8, 8]
  POOL_KVQ_KERNEL: [3, 3, 3]
  DIM_MUL_IN_ATT: True
  RESIDUAL_POOLING: True
  USE_ABS_POS: False
  REL_POS_SPATIAL: True
  REL_POS_TEMPORAL: True
TEST:
  NUM_ENSEMBLE_VIEWS: 4
  NUM_SPATIAL_CROPS: 3
"""
