"""Training in shards (TRAIN.FSDP): the same training, checkpoints that any number of ranks can take up."""

from __future__ import annotations

import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch

from mvit_video.config import load_config
from mvit_video.errors import InputError
from mvit_video.train.checkpoint import (
    checkpoint_files,
    checkpoints_folder,
    differences,
    find_newest_checkpoint,
    open_training_checkpoint,
    read_training_checkpoint,
    remove_leftovers,
)
from mvit_video.train.loop import train
from mvit_video.train.model import MODEL_FILE
from mvit_video.weights import model_from_checkpoint, read_checkpoint
from mvit_video.weights.shards import describe_shards
from mvit_video.world import World
from tests.run_processes import Run, log_lines
from tests.tiny_run import TINY_RUN, overrides
from tests.train.test_resume import final_state, kill_at, run_through
from tests.train.test_training import Stop

FSDP = {"TRAIN__FSDP": True}


def newest(output: Path) -> Path:
    return checkpoint_files(checkpoints_folder(output))[-1]


def test_shards_train_as_copies_do(words):
    changes = {"SOLVER__ACCUMULATE_STEPS": 2, "MODEL__ACT_CHECKPOINT": True}
    outputs = [run_through(words(f"{keys}", **changes, **keys), 2) for keys in ({}, FSDP)]
    told = [
        [(line["loss"], line["grad_norm"]) for line in log_lines(output, "step")]
        for output in outputs
    ]
    torch.testing.assert_close(*map(torch.tensor, told), rtol=1e-3, atol=0)
    copies, shards = map(final_state, outputs)
    for part in ("model", "ema"):
        for name, tensor in copies[part].items():
            # Adam makes a step of what is rounding alone, such as the gradient of a key's bias.
            torch.testing.assert_close(shards[part][name], tensor, rtol=1e-3, atol=1e-3)
    assert shards["optimizer"].keys() == copies["optimizer"].keys()
    assert shards["optimizer"]["param_groups"] == copies["optimizer"]["param_groups"]


@pytest.mark.slow
def test_killed_and_resumed_in_shards_ends_with_the_same_bits(words):
    undisturbed = run_through(words("undisturbed", **FSDP), 2)
    kill_at(words("killed", **FSDP), 7, ranks=2)
    killed = run_through(words("killed", **FSDP), 2)
    assert not differences(final_state(undisturbed), final_state(killed))
    assert len(log_lines(killed, "resume")) == 1
    # Of the shards only those are left that a checkpoint names: the two newest, and the best.
    folder = checkpoints_folder(killed)
    named = {open_training_checkpoint(file)[1] for file in folder.glob("*.pt")}
    assert set(folder.glob("*.shards")) == named and 2 <= len(named) <= 3


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 4])
def test_another_number_of_ranks_takes_up_the_shards(words, ranks):
    changes = {
        "MODEL__DROPOUT_RATE": 0.0,
        "MVIT__DROPPATH_RATE": 0.0,
        "MIXUP__ENABLE": False,
        **FSDP,
    }
    undisturbed = run_through(words("undisturbed", **changes), 2)
    kill_at(words("killed", **changes), 6, ranks=2)
    killed = run_through(words("killed", **changes), ranks)
    a, b = final_state(undisturbed), final_state(killed)
    for name, tensor in a["model"].items():
        torch.testing.assert_close(b["model"][name], tensor, rtol=1e-3, atol=1e-4)
    assert b["progress"]["step"] == 12


@pytest.fixture(scope="module")
def training(dataset, tmp_path_factory) -> dict[str, object]:
    """The keys of a training in shards, by one process, that has come to its end."""
    keys = {
        **TINY_RUN,
        **dataset,
        "SOLVER.EMA_DECAY": 0.9,
        "TRAIN.FSDP": True,
        "TRAIN.EVAL_PERIOD": 0,
        "OUTPUT_DIR": str(tmp_path_factory.mktemp("sharded") / "run"),
    }
    train(load_config(None, overrides(keys)), World(), Stop())
    return keys


@pytest.fixture
def trained(training, tmp_path) -> Path:
    """Its newest checkpoint, to be done with as one likes."""
    shutil.copytree(training["OUTPUT_DIR"], tmp_path / "trained")
    return newest(tmp_path / "trained")


def test_a_sharded_checkpoint_is_a_weight_file(trained):
    whole = read_training_checkpoint(trained)
    checkpoint = read_checkpoint(trained)
    for name, tensor in checkpoint.state.items():
        assert torch.equal(tensor, whole["ema"][name])
    model = model_from_checkpoint(trained)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, whole["ema"][name])


def test_the_end_of_a_training_is_one_plain_file(trained):
    plain = model_from_checkpoint(trained.parents[1] / MODEL_FILE).state_dict()
    for name, tensor in read_training_checkpoint(trained)["ema"].items():
        assert torch.equal(tensor, plain[name])
    assert read_checkpoint(trained.parents[1] / MODEL_FILE).class_names == ("red", "green", "blue")


def shard_of(file: Path, pattern: str) -> Path:
    _, folder = open_training_checkpoint(file)
    return next(folder.glob(pattern))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("pattern", ["__0_*", ".metadata"])
@pytest.mark.parametrize("damage", [truncate, flip_a_bit, Path.unlink])
def test_a_checkpoint_with_a_damaged_shard_is_passed_over(trained, caplog, pattern, damage):
    damage(shard_of(trained, pattern))
    assert find_newest_checkpoint(trained.parent) == checkpoint_files(trained.parent)[-2]
    assert f"passing over {trained.name}" in caplog.text


def test_a_file_without_its_shards_says_so(trained, tmp_path):
    alone = tmp_path / "alone.pt"
    alone.write_bytes(trained.read_bytes())
    with pytest.raises(InputError, match="keep the two together"):
        read_checkpoint(alone)


def test_what_a_killed_save_left_is_never_taken_for_a_checkpoint(trained):
    folder = trained.parent
    complete = set(folder.iterdir())
    half = folder / "step_00000099-0.shards"
    half.mkdir()
    (half / "__0_0.distcp").write_bytes(b"half of it")
    (folder / ".step_00000099.pt.tmp").write_bytes(b"half of it")
    assert find_newest_checkpoint(folder) == trained
    remove_leftovers(folder)
    assert set(folder.iterdir()) == complete


def test_metadata_that_would_run_code_is_not_read(trained, tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "trap"),)

    saved, folder = open_training_checkpoint(trained)
    metadata = folder / ".metadata"
    metadata.write_bytes(pickle.dumps(Trap()))
    saved["shards"]["files"] |= describe_shards(folder, ".metadata")
    torch.save(saved, trained)
    with pytest.raises(InputError, match="wants to run"):
        read_checkpoint(trained)
    assert not (tmp_path / "trap").exists()


def test_a_run_in_shards_and_one_in_copies_are_two_runs(training):
    copies = load_config(None, overrides(training | {"TRAIN.FSDP": False}))
    with pytest.raises(InputError, match=r"TRAIN\.FSDP: True there, False now"):
        train(copies, World(), Stop())


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"TRAIN__PRECISION": "float16"}, "bfloat16"),
        ({"SOLVER__OPTIMIZING_METHOD": "sgd"}, "adamw"),
    ],
)
def test_what_does_not_go_with_shards_is_refused(words, changes, says):
    with pytest.raises(InputError, match=says):
        load_config(None, words(**changes, **FSDP))


@pytest.mark.slow
def test_trains_and_tests_from_given_weights_in_shards(training, trained, tmp_path):
    changes = {"TRAIN.CHECKPOINT_FILE_PATH": trained, "SOLVER.BASE_LR": 0.0, "SOLVER.MAX_EPOCH": 1}
    run = Run(overrides(training | changes | {"OUTPUT_DIR": tmp_path / "tuned"}), 2)
    assert set(run.wait()) == {0}, run.told()
    start = read_training_checkpoint(trained)["ema"]
    saved = read_training_checkpoint(newest(run.output))
    for name, tensor in start.items():
        assert torch.equal(saved["model"][name], tensor)  # the learning rate is 0
        torch.testing.assert_close(saved["ema"][name], tensor)  # the average began there too
    assert (run.output / "test" / "metrics.json").exists()
