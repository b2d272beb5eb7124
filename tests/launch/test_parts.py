"""A test in parts, each in a process of its own, is the test in one piece."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from mvit_video.config import load_config
from mvit_video.data.preprocessing import Preprocessing
from mvit_video.errors import InputError
from mvit_video.evaluate.test import merge_parts, run_test, run_test_part
from mvit_video.launch.phases import model_to_test
from mvit_video.launch.stop import StopFlag
from mvit_video.world import World
from tests.tiny_run import TINY_RUN, overrides, write_dataset


@pytest.fixture
def make_cfg(tmp_path):
    keys = {**TINY_RUN, **write_dataset(tmp_path / "videos", num_train=3), "DATA.READER": "pyav"}
    keys |= {"TEST.RANDOM_WEIGHTS": True, "TRAIN.ENABLE": False}
    return lambda output, *words: load_config(
        None, [*overrides(keys), "OUTPUT_DIR", str(tmp_path / output), *words]
    )


@pytest.fixture
def tested(make_cfg):
    """The config, model and preprocessing of a test, and the bytes of its predictions file."""
    cfg = make_cfg("whole")
    model, preprocessing = model_to_test(cfg, World(), None)
    run_test(cfg, model, preprocessing, World(), StopFlag())
    return make_cfg("parts"), model, preprocessing, predictions_of(cfg)


def predictions_of(cfg) -> bytes:
    return (Path(cfg.OUTPUT_DIR) / "test" / "predictions.npz").read_bytes()


def write_part(cfg, model, preprocessing, part, num_parts=3, stop=None) -> Path | None:
    cpu = torch.device("cpu")
    return run_test_part(cfg, model, preprocessing, part, num_parts, cpu, stop or StopFlag())


class StopAfter:
    """Asks to stop after some looks at it."""

    def __init__(self, looks: int) -> None:
        self.looks = looks

    @property
    def requested(self) -> bool:
        self.looks -= 1
        return self.looks < 0


class Counting(nn.Module):
    """A model that counts the videos it has seen."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.forward, self.seen = self.count, 0
        self.inner = [model]  # not a submodule: the weights keep their names
        self.state_dict = model.state_dict

    def count(self, clips: torch.Tensor) -> torch.Tensor:
        self.seen += 1
        return self.inner[0](clips)


def test_merged_parts_are_the_bytes_of_the_whole_and_a_lost_one_is_named(tested):
    cfg, model, preprocessing, whole = tested
    for part in (2, 0):
        write_part(cfg, model, preprocessing, part)
    with pytest.raises(InputError, match="part 2 of 3 is not in"):
        merge_parts(cfg, 3)
    write_part(cfg, model, preprocessing, 1)
    merge_parts(cfg, 3)
    assert predictions_of(cfg) == whole
    folder = Path(cfg.OUTPUT_DIR) / "test"
    assert not list(folder.glob("predictions-*"))  # the parts are gone


def test_a_stopped_part_goes_on_where_it_was(tested, make_cfg):
    _, model, preprocessing, whole = tested
    cfg = make_cfg("parts", "TEST.BATCH_SIZE", "1")  # an agreement before each video
    counting = Counting(model)
    assert write_part(cfg, counting, preprocessing, 0, 2, StopAfter(0)) is None
    assert not (Path(cfg.OUTPUT_DIR) / "test").exists()  # nothing was scored
    assert write_part(cfg, counting, preprocessing, 0, 2, StopAfter(3)) is None
    assert counting.seen == 3
    write_part(cfg, model, preprocessing, 1, 2)
    with pytest.raises(InputError, match=r"part 1 of 2 .* was stopped on the way"):
        merge_parts(cfg, 2)
    for _ in range(2):  # the second time there is nothing left to do
        write_part(cfg, counting, preprocessing, 0, 2)
        assert counting.seen == 4
    merge_parts(cfg, 2)
    assert predictions_of(cfg) == whole


def test_a_stopped_test_goes_on_where_it_was(tested, make_cfg):
    _, model, preprocessing, whole = tested
    cfg = make_cfg("parts", "TEST.BATCH_SIZE", "1")
    counting = Counting(model)
    assert run_test(cfg, counting, preprocessing, World(), StopAfter(2)) is None
    assert run_test(cfg, counting, preprocessing, World(), StopFlag()) is not None
    assert counting.seen == 7
    assert predictions_of(cfg) == whole


def test_parts_of_other_weights_are_named_and_never_mixed_in(tested, caplog):
    cfg, model, preprocessing, whole = tested
    for part in range(3):
        write_part(cfg, model, preprocessing, part)
    with torch.no_grad():
        next(model.parameters()).add_(1)  # trained on
    write_part(cfg, model, preprocessing, 1)
    assert "of another test" in caplog.text
    with pytest.raises(InputError, match=r"part 1, 3 of 3 .* other weights.* than part 2"):
        merge_parts(cfg, 3)
    for part in (0, 2):
        write_part(cfg, model, preprocessing, part)
    merge_parts(cfg, 3)
    assert predictions_of(cfg) != whole


@pytest.mark.parametrize(
    "words",
    [
        ("DATA.SAMPLING_RATE", "1"),
        ("TEST.NUM_ENSEMBLE_VIEWS", "1"),
        ("TEST.PRECISION", "bfloat16"),
        ("TEST.SHUFFLE_FRAMES", "True"),
    ],
)
def test_a_part_of_other_settings_is_scored_anew(tested, make_cfg, words):
    cfg, model, preprocessing, _ = tested
    write_part(cfg, model, preprocessing, 0, 1)
    changed, counting = make_cfg("parts", *words), Counting(model)
    write_part(changed, counting, Preprocessing.from_config(changed), 0, 1)
    assert counting.seen == 7


def test_a_damaged_part_is_scored_anew(tested, caplog):
    cfg, model, preprocessing, whole = tested
    path = write_part(cfg, model, preprocessing, 0, 1)
    path.write_bytes(path.read_bytes()[:1000])
    write_part(cfg, model, preprocessing, 0, 1)
    assert "damaged" in caplog.text
    merge_parts(cfg, 1)
    assert predictions_of(cfg) == whole
