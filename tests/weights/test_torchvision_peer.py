"""Against torchvision itself, where it is installed. Nothing needs it; its wheel needs its own build of torch."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
import torch

from mvit_video.benchmark.candidates import torchvision_video
from mvit_video.errors import InputError
from mvit_video.weights import model_from_checkpoint, read_checkpoint
from mvit_video.weights.convert import convert
from tests.weights.seeded import seeded_input, seeded_state_dict
from tests.weights.small_models import largest_difference


@pytest.fixture(scope="module")
def video() -> ModuleType:
    try:
        return torchvision_video()
    except InputError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("name", ["mvit_v1_b", "mvit_v2_s"])
def test_torchvisions_model_and_ours_agree_both_ways(
    name: str, video: ModuleType, tmp_path: Path
) -> None:
    theirs = getattr(video, name)().eval()
    weights = seeded_state_dict([(k, tuple(t.shape)) for k, t in theirs.state_dict().items()])
    theirs.load_state_dict(weights)
    ours = model_from_checkpoint(weights, num_frames=16)
    clip = seeded_input((1, 3, 16, 224, 224))
    with torch.inference_mode():
        expected = theirs(clip)
        assert largest_difference(ours(clip), expected) < 1e-5
    convert(read_checkpoint(dict(ours.state_dict())), tmp_path / "back.pth", "torchvision")
    back = torch.load(tmp_path / "back.pth", weights_only=True)
    theirs.load_state_dict(back)
    assert all(torch.equal(back[key], tensor) for key, tensor in weights.items())
