"""What a run ran on is recorded in words."""

from __future__ import annotations

import json

import torch

from mvit_video.environment import write_environment
from mvit_video.world import World


def test_software_device_and_ranks_are_recorded(tmp_path):
    write_environment(tmp_path / "run", World(size=4))
    described = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert described["torch"] == torch.__version__
    assert described["ranks"] == "4"
    assert f"{torch.get_num_threads()} of " in described["device"]
    assert "numpy " in described["packages"]
    assert all(isinstance(value, str) and value for value in described.values())
