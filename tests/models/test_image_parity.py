"""Every published image model computes what its official code does, from its official weights, at any size.

The fixtures hold logits of the official code for three variants. They prove `tests/reference/image_families.py`, which
then stands for the official code of all ten.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mvit_video.weights import Inflation, model_from_checkpoint
from tests.models.inflation import difference
from tests.reference.image_families import SIZES, Recorder, Weights, run
from tests.weights.seeded import seeded_input, seeded_state_dict

FIXTURES = {"DUALVIT_S": "dualvit_s", "MPVIT_T": "mpvit_tiny", "CLOFORMER_XXS": "cloformer_xxs"}
QUICK = ("MPVIT_T", "CLOFORMER_XXS")
every_variant = pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in SIZES]
)


def weights_of(name: str) -> dict[str, Tensor]:
    """Random weights of a variant under their official names."""
    recorder = Recorder()
    run(name, recorder, torch.empty(1, 3, 64, 64, device="meta"))
    return seeded_state_dict(list(recorder.items()))


@pytest.mark.parametrize("name", FIXTURES)
def test_the_reference_computes_what_the_official_code_does(name):
    fixture = json.loads(
        (Path(__file__).parent.parent / "fixtures" / f"{FIXTURES[name]}.json").read_text()
    )
    weights, aliases = Weights(seeded_state_dict(fixture["state_dict"])), fixture.get("aliases", ())
    recorder = Recorder()
    run(name, recorder, torch.empty(1, 3, 64, 64, device="meta"))
    own = {key: tuple(tensor.shape) for key, tensor in weights.items() if key not in aliases}
    assert own == recorder
    for case in fixture["runs"]:
        with torch.inference_mode():
            logits = run(name, weights, seeded_input(case["input_shape"], case["input_seed"]))
        assert difference(logits, torch.tensor(case["logits"])) < 1e-5


@every_variant
@pytest.mark.parametrize("size", [(64, 96), (112, 70)], ids=str)
def test_official_weights_give_the_official_logits_at_any_size(name, size):
    weights = weights_of(name)
    image = seeded_input((2, 3, *size), 1)
    with torch.inference_mode():
        expected = run(name, Weights(weights), image)
        model = model_from_checkpoint(weights, num_frames=1)
        assert difference(model(image), expected) < 2e-5
        still = image[:, :, None].expand(-1, -1, 4, -1, -1)
        for inflation in (Inflation(), Inflation("mean", "replicate")):
            video = model_from_checkpoint(weights, num_frames=4, inflation=inflation)
            assert difference(video(still), expected) < 2e-5
