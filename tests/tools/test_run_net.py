"""tools/run_net.py as a process: what a person meets who types it, rightly and wrongly."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.tiny_run import write_dataset

WRONG_INPUT = 2


@pytest.fixture
def copied_data(tiny_config, tmp_path) -> Path:
    """The tiny data set's lists in a folder of their own, to spoil; the videos stay where they are."""
    folder = tmp_path / "lists"
    folder.mkdir()
    for name in ("train.csv", "val.csv", "test.csv", "classes.txt"):
        (folder / name).write_text((tiny_config.parent / name).read_text())
    return folder


def assert_refused(done, output: Path, *messages: str) -> None:
    assert done.returncode == WRONG_INPUT, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("error: "), done.stderr
    for message in messages:
        assert message in done.stderr
    assert not output.exists(), f"left behind: {sorted(output.rglob('*'))}"


@pytest.mark.parametrize(
    ("words", "messages"),
    [
        (["SOLVER.BASE_LRR", "1"], ["SOLVER.BASE_LRR", "did you mean SOLVER.BASE_LR"]),
        (["SOLVER.BASE_LR", "fast"], ["SOLVER.BASE_LR", "'fast'"]),
        (["DATA.TEST_CROP_SIZE", "64"], ["DATA.TEST_CROP_SIZE is 64", "DATA.TRAIN_CROP_SIZE"]),
        (["DATA.PATH_TO_DATA_DIR", "/no/such/folder"], ["/no/such/folder"]),
        (["TRAIN.BATCH_SIZE", "50"], ["TRAIN.BATCH_SIZE", "12"]),
        (["TRAIN.ENABLE", "False"], ["weights", "TEST.RANDOM_WEIGHTS"]),
        (["TEST.CHECKPOINT_FILE_PATH", "/no/weights.pt"], ["/no/weights.pt"]),
    ],
    ids=lambda words: " ".join(words)[:60],
)  # fmt: skip
def test_wrong_keys_are_one_message(run_tool, tiny_config, tmp_path, words, messages):
    output = tmp_path / "output"
    done = run_tool("run_net.py", "--cfg", tiny_config, "OUTPUT_DIR", output, *words)
    assert_refused(done, output, *messages)


@pytest.mark.parametrize("content", [None, "MODEL: [1, 2\n"], ids=["missing", "malformed"])
def test_wrong_configs_are_one_message(run_tool, tmp_path, content):
    config = tmp_path / "wrong.yaml"
    if content is not None:
        config.write_text(content)
    done = run_tool("run_net.py", "--cfg", config, "OUTPUT_DIR", tmp_path / "output")
    assert_refused(done, tmp_path / "output", "wrong.yaml")


@pytest.mark.parametrize(
    ("split", "line", "messages"),
    [
        ("val", None, ["val.csv"]),
        ("train", "only_a_path.mp4\n", ["train.csv:3"]),
        ("test", "train_0.mp4 3\n", ["test.csv:3", "label 3"]),
    ],
    ids=["missing", "bad line", "label out of range"],
)
def test_wrong_lists_are_found_before_training(
    run_tool, tiny_config, copied_data, tmp_path, split, line, messages
):
    file = copied_data / f"{split}.csv"
    if line is None:
        file.unlink()
    else:
        lines = file.read_text().splitlines(keepends=True)
        file.write_text("".join([*lines[:2], line, *lines[2:]]))
    output = tmp_path / "output"
    done = run_tool(
        "run_net.py",
        "--cfg",
        tiny_config,
        "DATA.PATH_TO_DATA_DIR",
        copied_data,
        "OUTPUT_DIR",
        output,
    )
    assert_refused(done, output, *messages)


def test_it_trains_tests_and_goes_on_from_what_is_there(run_tool, tiny_config, tmp_path):
    keys = ("OUTPUT_DIR", tmp_path / "output", "SOLVER.MAX_EPOCH", 6, "SOLVER.EMA_DECAY", 0.5)
    command = ("run_net.py", "--cfg", tiny_config, *keys)
    first = run_tool(*command)
    assert first.returncode == 0, first.stderr
    folder = tmp_path / "output"
    metrics = json.loads((folder / "test" / "metrics.json").read_text())
    last_lines = first.stdout.strip().splitlines()[-2:]
    assert f"top-1 {metrics['top1']:.2f} %" in last_lines[0]
    assert "7 videos scored, 0 undecodable" in last_lines[0]
    assert str(folder / "test" / "predictions.npz") in last_lines[1]
    assert metrics["top1"] == 100.0  # three colours
    predictions = (folder / "test" / "predictions.npz").read_bytes()
    checkpoints = {file: file.read_bytes() for file in (folder / "checkpoints").iterdir()}

    again = run_tool(*command)  # training is finished: only the test runs
    assert again.returncode == 0, again.stderr
    assert (folder / "test" / "predictions.npz").read_bytes() == predictions
    assert {file: file.read_bytes() for file in (folder / "checkpoints").iterdir()} == checkpoints

    elsewhere = run_tool(
        "run_net.py", "--cfg", folder / "config.yaml", "TRAIN.ENABLE", "False", "OUTPUT_DIR", tmp_path / "other",
        "TEST.CHECKPOINT_FILE_PATH", sorted((folder / "checkpoints").glob("step_*.pt"))[-1],
    )  # fmt: skip
    assert elsewhere.returncode == 0, elsewhere.stderr
    assert (tmp_path / "other" / "test" / "predictions.npz").read_bytes() == predictions


@pytest.mark.slow  # tests/evaluate holds the test itself to it, by default
def test_two_and_three_ranks_write_the_predictions_of_one(run_tool, tiny_config, tmp_path):
    for ranks in (1, 2, 3):
        done = run_tool(
            "run_net.py", "--cfg", tiny_config, "--opts", "TRAIN.ENABLE", "False", "TEST.RANDOM_WEIGHTS", "True",
            "NUM_GPUS", ranks, "OUTPUT_DIR", tmp_path / f"{ranks}",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    files = [
        (tmp_path / f"{ranks}" / "test" / "predictions.npz").read_bytes() for ranks in (1, 2, 3)
    ]
    assert files[0] == files[1] == files[2]


def test_undecodable_test_videos_are_named_and_make_exit_code_1(run_tool, tiny_config, tmp_path):
    keys = write_dataset(tmp_path / "data", num_train=6, num_test=4)
    video = tmp_path / "data" / "test_1.mp4"
    video.write_bytes(video.read_bytes()[:500])
    done = run_tool(
        "run_net.py", "--cfg", tiny_config, "OUTPUT_DIR", tmp_path / "output", "TRAIN.ENABLE", "False",
        "TEST.RANDOM_WEIGHTS", "True", *(word for pair in keys.items() for word in pair),
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "3 videos scored, 1 undecodable" in done.stdout
    metrics = json.loads((tmp_path / "output" / "test" / "metrics.json").read_text())
    assert [video["video_id"] for video in metrics["undecodable"]] == ["test_1.mp4"]
    with np.load(tmp_path / "output" / "test" / "predictions.npz") as predictions:
        assert predictions["video_id"].tolist() == ["test_0.mp4", "test_2.mp4", "test_3.mp4"]
