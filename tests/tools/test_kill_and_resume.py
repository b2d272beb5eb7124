"""The tool that kills a run at ten random steps and compares its bits with an undisturbed one."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY
from tests.tiny_run import TINY_RUN, overrides, write_dataset


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2])
def test_ten_kills_leave_the_bits_as_they_are(tmp_path, ranks):
    keys = {
        **TINY_RUN,
        **write_dataset(tmp_path / "videos", num_train=18),
        "NUM_GPUS": ranks,
        "MODEL.DROPOUT_RATE": 0.3,
        "MVIT.DROPPATH_RATE": 0.3,
        "SOLVER.MAX_EPOCH": 12,
        "SOLVER.EMA_DECAY": 0.9,
        "TRAIN.BATCH_SIZE": 4,
        "TRAIN.CHECKPOINT_STEPS": 3,
        "DATA_LOADER.NUM_WORKERS": 1,
        "OUTPUT_DIR": str(tmp_path / "output"),
    }
    (tmp_path / "empty.yaml").write_text("")
    tool = REPOSITORY / "tools" / "kill_and_resume.py"
    done = subprocess.run(
        [sys.executable, str(tool), "--cfg", str(tmp_path / "empty.yaml"), *overrides(keys)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("killed after step") == 10
    assert "same bits after 48 updates" in done.stdout
    lines = (tmp_path / "output" / "killed" / "log.jsonl").read_text().splitlines()
    assert sum(json.loads(line)["kind"] == "resume" for line in lines) >= 9
