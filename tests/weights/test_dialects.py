"""Official keys in, published logits out."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from mvit_video.build import build_model
from mvit_video.config import load_config
from mvit_video.errors import InputError
from mvit_video.weights import load_weights, model_from_checkpoint, read_checkpoint
from tests.weights.seeded import seeded_input, seeded_state_dict
from tests.weights.small_models import (
    V1,
    V2,
    as_pytorchvideo,
    clip_for,
    largest_difference,
    weights_of,
)

FIXTURES = Path(__file__).parent.parent / "fixtures"
NAMES = {
    "slowfast_MVIT_B_16x4_CONV": "configs/K400/MVIT_B_16x4.yaml",
    "slowfast_MVITv2_S_16x4": "configs/K400/MVITv2_S_16x4.yaml",
    "torchvision_mvit_v2_s": "configs/K400/MVITv2_S_16x4.yaml",
    "pytorchvideo_mvit_base_16x4": "configs/K400/MVIT_B_16x4.yaml",
    "slowfast_IN_MVITv2_S": "IN1K_MVITv2_S",
}


@cache
def _specification(name: str) -> dict[str, Any]:
    return json.loads((FIXTURES / f"{name}.json").read_text())


def _seeded(name: str) -> dict[str, torch.Tensor]:
    weights = seeded_state_dict(_specification(name)["state_dict"])
    for alias, key in (_specification(name).get("aliases") or {}).items():
        weights[alias] = weights[key]
    return weights


@pytest.mark.parametrize("name", NAMES)
def test_published_logits_come_out(name: str) -> None:
    """Both ways: the model that the tensors describe, and the one that the shipped config describes."""
    fixture, weights = _specification(name), _seeded(name)
    found = model_from_checkpoint(weights)
    assert sum(parameter.numel() for parameter in found.parameters()) == fixture["params"]
    for run in fixture["runs"]:
        with torch.inference_mode():
            logits = found(seeded_input(run["input_shape"], run["input_seed"]))
        expected = torch.tensor(run["logits"]).view_as(logits)
        assert largest_difference(logits, expected) < 1e-5
    with torch.device("meta"):
        config = NAMES[name]
        built = build_model(load_config(config) if config.endswith(".yaml") else config)
    built.to_empty(device="cpu")
    report = load_weights(built, weights)
    assert len(report.matched) == len(built.state_dict())
    assert not (report.missing or report.unexpected or report.interpolated or report.inflated)
    for key, tensor in found.state_dict().items():
        assert torch.equal(built.state_dict()[key], tensor)


def test_the_report_says_what_was_renamed_joined_and_dropped() -> None:
    checkpoint = read_checkpoint(as_pytorchvideo(weights_of(V1)))
    assert checkpoint.dialect == "pytorchvideo"
    pools = [key for key in weights_of(V1) if re.search(r"attn\.(pool|norm)_", key)]
    assert len(checkpoint.translation.dropped) == len(pools)
    assert "blocks.0.attn.qkv.weight" in checkpoint.translation.reshaped
    assert ("head.proj.weight", "head.projection.weight") in checkpoint.translation.renamed


def test_a_repeated_tensor_that_differs_is_refused() -> None:
    weights = as_pytorchvideo(weights_of(V1))
    key = "blocks.3.attn._attention_pool_k.norm.bias"
    weights[key] = weights[key] + 1e-6
    with pytest.raises(InputError, match=rf"{key} should repeat blocks\.3\.attn\.norm_k\.bias"):
        read_checkpoint(weights)


def test_a_lone_query_projection_is_refused() -> None:
    weights = as_pytorchvideo(weights_of(V1))
    del weights["blocks.3.attn.k.weight"]
    with pytest.raises(InputError, match=r"the part k of blocks\.3\.attn\.qkv\.weight is missing"):
        read_checkpoint(weights)


@pytest.mark.parametrize("repeated", [True, False], ids=["main", "0.1.5"])
def test_pytorchvideo_comes_out_as_it_went_in(repeated: bool) -> None:
    weights = weights_of(V1)
    state = read_checkpoint(as_pytorchvideo(weights, repeated)).state
    assert state.keys() == weights.keys()
    assert all(torch.equal(state[key], tensor) for key, tensor in weights.items())


@pytest.mark.parametrize("prefix", ["module.", "model.", "module.model.", "_orig_mod."])
@pytest.mark.parametrize("wrapper", [None, "model_state", "state_dict", "model"])
def test_wrappers_and_prefixes_are_taken_off(prefix: str, wrapper: str | None) -> None:
    weights = weights_of(V1)
    saved: dict[str, Any] = {f"{prefix}{key}": tensor for key, tensor in weights.items()}
    saved = {wrapper: saved, "epoch": 3} if wrapper else saved
    assert read_checkpoint(saved).state.keys() == weights.keys()


def test_an_unknown_naming_is_refused_with_what_was_found() -> None:
    with pytest.raises(InputError, match=r"holds 1 tensors \(conv1\.weight, \.\.\.\) in no naming"):
        read_checkpoint({"conv1.weight": torch.ones(3)})
    with pytest.raises(InputError, match="holds epoch, loss; a state dict was expected"):
        read_checkpoint({"epoch": 3, "loss": 0.1})
    with pytest.raises(InputError, match="several naming schemes"):
        theirs = {
            "conv_proj.weight": torch.ones(3),
            "blocks.0.attn.project.0.weight": torch.ones(3),
        }
        read_checkpoint(theirs | weights_of(V2))


@pytest.mark.parametrize("spec", [V1, V2], ids=["v1", "v2"])
def test_separate_and_fused_projections_mean_the_same(spec) -> None:
    weights = weights_of(spec)
    apart = {key: tensor for key, tensor in weights.items() if ".qkv." not in key}
    for key in weights.keys() - apart.keys():
        for part, tensor in zip("qkv", weights[key].chunk(3), strict=True):
            apart[key.replace(".qkv.", f".{part}.")] = tensor
    fused, separate = model_from_checkpoint(weights), model_from_checkpoint(apart)
    assert separate.spec.separate_qkv and not fused.spec.separate_qkv
    with torch.inference_mode():
        expected, found = fused(clip_for(spec)), separate(clip_for(spec))
    assert largest_difference(found, expected) < 1e-5
    load_weights(fused, apart)
    assert all(torch.equal(tensor, weights[key]) for key, tensor in fused.state_dict().items())
    load_weights(separate, weights)
