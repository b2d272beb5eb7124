"""Every tensor accounted for, or nothing is loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mvit_video.errors import InputError
from mvit_video.models.mvit import MViT
from mvit_video.weights import load_weights, model_from_checkpoint, read_checkpoint
from tests.weights.small_models import (
    V1,
    V2,
    as_pytorchvideo,
    clip_for,
    largest_difference,
    weights_of,
)


def _copy(model: MViT) -> dict[str, Tensor]:
    return {key: tensor.clone() for key, tensor in model.state_dict().items()}


def _damage(name: str, weights: dict[str, Tensor]) -> None:
    key = "blocks.1.mlp.fc1.weight"
    if name == "missing":
        del weights[key]
    elif name == "extra":
        weights["blocks.1.mlp.fc3.weight"] = torch.ones(3)
    elif name == "transposed":
        weights[key] = weights[key].T
    elif name == "NaN":
        weights[key] = weights[key].clone()
        weights[key][0, 0] = float("nan")
    elif name == "infinite":
        weights["norm.bias"] = weights["norm.bias"] / 0
    elif name == "narrow table":
        weights["pos_embed_spatial"] = weights["pos_embed_spatial"][..., :4]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("missing", r"1 missing from the checkpoint \(blocks\.1\.mlp\.fc1\.weight\)"),
        ("extra", r"1 not in the model \(blocks\.1\.mlp\.fc3\.weight\)"),
        ("transposed", r"blocks\.1\.mlp\.fc1\.weight is \(16, 64\) in the checkpoint, \(64, 16\)"),
        ("NaN", r"1 of \d+ tensors hold NaN .*blocks\.1\.mlp\.fc1\.weight"),
        ("infinite", r"1 of \d+ tensors hold NaN or infinite numbers.*norm\.bias"),
        ("narrow table", r"pos_embed_spatial is \(1, 256, 4\) in the checkpoint"),
    ],
)
def test_a_damaged_checkpoint_is_refused_and_changes_nothing(damage: str, message: str) -> None:
    weights = weights_of(V1)
    _damage(damage, weights)
    model = MViT(V1)
    before = _copy(model)
    with pytest.raises(InputError, match=message):
        load_weights(model, weights)
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())
    with pytest.raises(InputError):
        model_from_checkpoint(weights)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (replace(V1, depth=5), "depth: 5 against 4"),
        (replace(V1, class_token=False), "class token: False against True"),
        (replace(V1, pool_kernel=(1, 3, 3)), r"key and value pools: \(1, 3, 3\) x4 against"),
        (V2, "absolute positions: none against space and time apart"),
    ],
)
def test_another_architecture_is_refused_with_both_values(other, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_weights(MViT(V1), weights_of(other))


def test_a_head_for_other_classes_is_left_new_and_reported() -> None:
    model = MViT(replace(V1, num_classes=12))
    before = _copy(model)
    report = load_weights(model, weights_of(V1))
    head = ("head.projection.weight", "head.projection.bias")
    assert report.new_head and report.missing == report.unexpected == head
    assert "the head is new" in str(report)
    after = model.state_dict()
    assert all(torch.equal(after[key], before[key]) for key in head)
    assert torch.equal(after["norm.weight"], weights_of(V1)["norm.weight"])


def test_a_checkpoint_without_a_head_is_refused_unless_asked_for() -> None:
    weights = {key: tensor for key, tensor in weights_of(V1).items() if not key.startswith("head")}
    with pytest.raises(InputError, match="2 missing from the checkpoint"):
        load_weights(MViT(V1), weights)
    report = load_weights(MViT(V1), weights, allow_missing=[r"head\..*"])
    assert len(report.missing) == 2 and not report.new_head


def test_what_is_allowed_by_name_is_reported_all_the_same() -> None:
    weights = weights_of(V1) | {"decoder.weight": torch.ones(3)}
    report = load_weights(MViT(V1), weights, allow_unexpected=[r"decoder\..*"])
    assert report.unexpected == ("decoder.weight",)


@pytest.mark.parametrize("spec", [V1, V2], ids=["v1", "v2"])
def test_tables_follow_the_clip(spec) -> None:
    weights = weights_of(spec)
    wider = replace(spec, num_frames=16, crop_size=96)
    model = MViT(wider).eval()
    report = load_weights(model, weights)
    tables = [
        key
        for key in weights
        if "rel_pos" in key or key in ("pos_embed_spatial", "pos_embed_temporal")
    ]
    assert set(report.interpolated) <= set(tables) and report.interpolated
    assert len(report.matched) + len(report.interpolated) == len(weights)
    longer = model_from_checkpoint(weights, num_frames=16)
    assert longer.spec == replace(spec, num_frames=16)
    key = "pos_embed_temporal" if spec is V1 else "blocks.0.attn.rel_pos_t"
    grown, table = longer.state_dict()[key], weights[key]
    length = grown.shape[-2]
    expected = torch.nn.functional.interpolate(
        table.reshape(1, -1, table.shape[-1]).transpose(1, 2), size=length, mode="linear"
    )
    assert torch.equal(grown.reshape(length, -1), expected[0].T)


def test_interpolated_weights_do_what_the_model_does_with_its_tables_at_that_length() -> None:
    """Relative tables are read the same whether resized once when loading or in the forward."""
    weights = weights_of(V2)
    clip = clip_for(V2, num_frames=16)
    with torch.inference_mode():
        at_run_time = model_from_checkpoint(weights)(clip)
        when_loaded = model_from_checkpoint(weights, num_frames=16)(clip)
    assert largest_difference(when_loaded, at_run_time) < 1e-5


def test_weights_of_another_family_are_refused() -> None:
    with pytest.raises(InputError, match="holds a MViT; the model is a Linear"):
        model = torch.nn.Linear(2, 2)
        model.spec = None
        load_weights(model, weights_of(V1))


def test_half_precision_weights_load_as_what_they_stand_for() -> None:
    weights = {key: tensor.half() for key, tensor in weights_of(V1).items()}
    model = model_from_checkpoint(weights)
    assert model.norm.weight.dtype == torch.float32
    assert torch.equal(model.norm.weight, weights["norm.weight"].float())


def test_a_checkpoint_read_once_can_be_loaded_twice() -> None:
    checkpoint = read_checkpoint(weights_of(V1))
    assert str(load_weights(MViT(V1), checkpoint)) == str(load_weights(MViT(V1), checkpoint))


def _tables_in_disorder() -> list[tuple[str, Callable[[Tensor], Tensor]]]:
    relative, position = "blocks.0.attn.rel_pos_h", "pos_embed_spatial"
    return [
        (relative, lambda table: table[:15]),
        (relative, lambda table: torch.cat([table, table])),
        ("blocks.2.attn.rel_pos_w", lambda table: table[:9]),
        (position, lambda table: table.repeat(2, 1, 1)),
        (position, lambda table: table[:0]),
    ]


@pytest.mark.parametrize("number", range(5))
def test_one_table_of_another_size_is_damage_not_another_clip(number: int) -> None:
    key, change = _tables_in_disorder()[number]
    spec = V2 if "rel_pos" in key else V1
    weights = weights_of(spec)
    weights[key] = change(weights[key])
    with pytest.raises(InputError, match=r"rel_pos|relative|pos_embed_spatial"):
        load_weights(MViT(spec), weights)


def test_half_a_head_is_damage_not_another_head() -> None:
    weights = weights_of(V1)
    weights["head.projection.bias"] = weights["head.projection.bias"][:2]
    with pytest.raises(InputError, match=r"head\.projection\.bias is \(2,\) in the checkpoint"):
        load_weights(MViT(V1), weights)


@pytest.mark.parametrize("theirs", [False, True], ids=["slowfast", "pytorchvideo"])
@pytest.mark.parametrize("change", [Tensor.flatten, lambda t: t[None], lambda t: t.sum()])
def test_a_tensor_of_any_other_shape_is_refused_with_a_message(theirs: bool, change) -> None:
    weights = as_pytorchvideo(weights_of(V1), repeated=False) if theirs else weights_of(V1)
    for key, tensor in weights.items():
        damaged = weights | {key: change(tensor)}
        if damaged[key].shape == tensor.shape:
            continue
        with pytest.raises(InputError):
            model_from_checkpoint(damaged)
