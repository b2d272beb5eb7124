"""Round trips give the same bits; a native file is enough to predict with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mvit_video.config import load_config
from mvit_video.data.preprocessing import Preprocessing
from mvit_video.errors import InputError
from mvit_video.models.mvit import MViT
from mvit_video.models.mvit_spec import MViTSpec
from mvit_video.weights import Inflation, model_from_checkpoint, read_checkpoint
from mvit_video.weights.convert import convert
from tests.weights.small_models import ALL, IMAGE_V2, MASKFEAT, V1, V2, VIT, weights_of

OLDER_V1 = replace(V1, unpooled_kv=(3,))


def _saved(spec: MViTSpec, folder: Path) -> Path:
    path = folder / "source.pyth"
    torch.save({"model_state": weights_of(spec), "epoch": 199}, path)
    return path


@pytest.mark.parametrize("to", ["slowfast", "native"])
@pytest.mark.parametrize("name", [*ALL, "older v1"])
def test_there_and_back_gives_the_same_bits(name: str, to: str, tmp_path: Path) -> None:
    spec = OLDER_V1 if name == "older v1" else ALL[name]
    convert(read_checkpoint(_saved(spec, tmp_path)), tmp_path / "there", to)
    there = read_checkpoint(tmp_path / "there")
    convert(there, tmp_path / "back", "native")
    back = model_from_checkpoint(tmp_path / "back")
    assert back.spec == spec
    weights = weights_of(spec)
    assert all(torch.equal(tensor, weights[key]) for key, tensor in back.state_dict().items())


@pytest.mark.parametrize("spec", [V1, V2, OLDER_V1], ids=["v1", "v2", "older v1"])
def test_to_torchvision_and_back_gives_the_same_bits(spec: MViTSpec, tmp_path: Path) -> None:
    convert(read_checkpoint(_saved(spec, tmp_path)), tmp_path / "there", "torchvision")
    there = read_checkpoint(tmp_path / "there")
    assert there.dialect == "torchvision"
    back = model_from_checkpoint(there)
    assert back.spec == spec
    weights = weights_of(spec)
    assert all(torch.equal(tensor, weights[key]) for key, tensor in back.state_dict().items())


def test_slowfast_gets_a_flat_stem_for_images(tmp_path: Path) -> None:
    convert(read_checkpoint(_saved(IMAGE_V2, tmp_path)), tmp_path / "there", "slowfast")
    saved = torch.load(tmp_path / "there", weights_only=True)
    assert saved["model_state"]["patch_embed.proj.weight"].shape == (8, 3, 7, 7)
    assert "PATCH_2D: true" in saved["cfg"]


@pytest.mark.parametrize(
    ("spec", "message"),
    [(IMAGE_V2, "a class token, frames in time"), (MASKFEAT, "the class token at the head")],
)
def test_what_torchvision_has_no_words_for_is_refused(spec, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        convert(read_checkpoint(_saved(spec, tmp_path)), tmp_path / "there", "torchvision")
    assert not (tmp_path / "there").exists()


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="choose one of native, slowfast, torchvision"):
        convert(read_checkpoint(weights_of(V1)), tmp_path / "there", "keras")


def test_a_native_file_carries_config_preprocessing_names_and_how_it_was_inflated(
    tmp_path: Path,
) -> None:
    names = [f"class {index}" for index in range(5)]
    cfg = load_config("configs/K400/MVIT_B_16x4.yaml")
    preprocessing = Preprocessing.from_config(cfg).to_dict()
    line = convert(
        read_checkpoint(_saved(IMAGE_V2, tmp_path)),
        tmp_path / "there",
        num_frames=8,
        inflation=Inflation("mean", "replicate"),
        preprocessing=preprocessing,
        class_names=names,
    )
    assert "8 frames, 5 classes" in line
    there = read_checkpoint(tmp_path / "there")
    assert there.class_names == tuple(names)
    restored = Preprocessing.from_dict(there.preprocessing)
    assert restored.num_frames == 8 and restored.class_names == tuple(names)
    how = there.record["converted"]
    assert how["source"] == "source.pyth" and how["dialect"] == "slowfast"
    assert how["inflation"]["init"] == "mean" and how["inflation"]["time_padding"] == "replicate"
    assert model_from_checkpoint(there).spec.temporal_padding == "replicate"


def test_class_names_for_another_head_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="2 class names were given for a head of 5 classes"):
        convert(read_checkpoint(weights_of(V1)), tmp_path / "there", class_names=["a", "b"])


def test_a_training_checkpoint_of_ours_is_read_with_its_companions(tmp_path: Path) -> None:
    cfg = load_config("configs/K400/MVIT_B_16x4.yaml", ["MODEL.NUM_CLASSES", "400"])
    preprocessing = Preprocessing.from_config(cfg).to_dict() | {"class_names": ["a"] * 400}
    with torch.device("meta"):
        model = MViT(replace(V1, num_classes=400))
    saved = {
        "model": model.state_dict(),
        "ema": None,
        "optimizer": {},
        "config": cfg.dump(),
        "preprocessing": preprocessing,
        "format": 1,
    }
    checkpoint = read_checkpoint(saved)
    assert checkpoint.config_spelling == "own" and checkpoint.config == cfg.dump()
    assert checkpoint.preprocessing == preprocessing and len(checkpoint.class_names) == 400


def test_a_file_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    convert(read_checkpoint(_saved(VIT, tmp_path)), tmp_path / "there")
    checkpoint = read_checkpoint(tmp_path / "there")
    checkpoint.record["spec"]["ring_attention"] = True
    with pytest.raises(InputError, match="fields unknown here: ring_attention"):
        model_from_checkpoint(checkpoint)
