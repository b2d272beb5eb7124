"""The architecture comes out of the tensors."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
import yaml

from mvit_video.config import load_config
from mvit_video.errors import InputError
from mvit_video.models.mvit import MViT
from mvit_video.models.mvit_presets import PRESETS
from mvit_video.models.mvit_spec import MViTSpec, spec_from_config
from mvit_video.weights import checkpoint_spec, load_weights, model_from_checkpoint, read_checkpoint
from mvit_video.weights.infer_mvit import infer_mvit
from tests.reference.materialised import MaterialisedMViT
from tests.weights.small_models import (
    ALL,
    MASKFEAT,
    V1,
    V2,
    clip_for,
    largest_difference,
    weights_of,
)

# What no tensor tells, and what does not change what the model computes.
UNTOLD = {"drop_path_rate", "dropout_rate", "head_init_scale"}


def _told(spec: MViTSpec) -> dict[str, object]:
    return {
        f.name: getattr(spec, f.name) for f in fields(spec) if f.compare and f.name not in UNTOLD
    }


@pytest.mark.parametrize("name", PRESETS)
def test_every_published_model_is_known_by_its_tensors(name: str) -> None:
    with torch.device("meta"):
        state = MViT(PRESETS[name]).state_dict()
    assert _told(infer_mvit(state)) == _told(PRESETS[name])


@pytest.mark.parametrize("name", ALL)
def test_the_inferred_model_computes_what_the_reference_does(name: str) -> None:
    spec, weights = ALL[name], weights_of(ALL[name])
    model = model_from_checkpoint(weights, num_frames=spec.num_frames)
    assert _told(model.spec) == _told(spec)
    reference = MaterialisedMViT(spec).eval()
    reference.load_state_dict(weights)
    with torch.inference_mode():
        expected, found = reference(clip_for(spec)), model(clip_for(spec))
    assert largest_difference(found, expected) < 1e-5


def test_a_frame_size_whose_grids_round_up_is_read_from_the_tables() -> None:
    """As the published MViTv2-L at 312 pixels: its convolutions round up where its tables rounded down."""
    spec = replace(V2, crop_size=76)  # grids of 19, 10, 5 with tables for 19, 9, 4
    weights = weights_of(spec)
    model = model_from_checkpoint(weights)
    assert model.spec.crop_size == 76
    reference = MaterialisedMViT(spec).eval()
    reference.load_state_dict(weights)
    with torch.inference_mode():
        assert largest_difference(model(clip_for(spec)), reference(clip_for(spec))) < 1e-5


def test_the_older_v1_file_loads_without_the_pools_it_lacks() -> None:
    spec = replace(V1, unpooled_kv=(3,))
    weights = weights_of(spec)
    assert "blocks.3.attn.pool_k.weight" not in weights
    model = model_from_checkpoint(weights)
    assert model.spec == spec
    cfg = load_config("configs/K400/MVIT_B_16x4.yaml", ["MVIT.UNPOOLED_KV", "[14,15]"])
    pools = [block.pool_kv is not None for block in spec_from_config(cfg).blocks]
    assert pools == [True] * 14 + [False] * 2
    with pytest.raises(InputError, match=r"missing from the checkpoint \(blocks\.3\.attn\.pool_k"):
        load_weights(MViT(V1), weights)


@pytest.mark.parametrize("spec", [V1, V2, MASKFEAT], ids=["v1", "v2", "maskfeat"])
def test_a_config_that_fits_tells_what_the_tensors_do_not(spec: MViTSpec) -> None:
    saved = {"model_state": weights_of(spec), "cfg": _slowfast_config(spec)}
    assert checkpoint_spec(read_checkpoint(saved)) == replace(spec, drop_path_rate=0.3)


def test_a_config_that_contradicts_the_tensors_is_refused_with_both_values() -> None:
    weights = weights_of(V1)
    saved = {
        "model_state": weights,
        "cfg": _slowfast_config(replace(V1, num_classes=7, num_frames=16)),
    }
    with pytest.raises(InputError, match=r"classes: 7 against 5.*frames: 16 against 8.*--infer"):
        model_from_checkpoint(saved)
    assert model_from_checkpoint(saved, infer=True).spec.num_classes == 5


def test_the_older_v1_file_contradicts_its_own_config() -> None:
    weights = weights_of(replace(V1, unpooled_kv=(3,)))
    saved = {"model_state": weights, "cfg": _slowfast_config(V1)}
    with pytest.raises(InputError, match=r"key and value pools: .* x4 against .* x3, none x1"):
        model_from_checkpoint(saved)
    assert model_from_checkpoint(saved, infer=True).spec.unpooled_kv == (3,)


def test_a_config_of_another_kind_of_model_is_refused() -> None:
    config = yaml.safe_load(_slowfast_config(V1))
    config["MVIT"]["REV"] = {"ENABLE": True}
    saved = {"model_state": weights_of(V1), "cfg": yaml.safe_dump(config)}
    with pytest.raises(InputError, match=r"MVIT\.REV\.ENABLE is True, the reversible MViT"):
        model_from_checkpoint(saved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("blocks.2.norm1.weight"), r"blocks\.2\.norm1\.weight is missing"),
        (lambda w: [w.pop(k) for k in list(w) if k.startswith("blocks.1.")], "block 1 is missing"),
        (lambda w: w.update({"patch_embed.proj.weight": torch.ones(8, 3, 3, 5, 5)}), "kernel is"),
        (lambda w: w.pop("pos_embed_temporal"), "pos_embed_temporal is missing"),
        (lambda w: w.update({"pos_embed_spatial": torch.ones(1, 15, 8)}), "15 positions"),
        (
            lambda w: w.update({"blocks.1.norm1.weight": torch.ones(9)}),
            "gives 16 channels, block 1",
        ),
    ],
)
def test_tensors_that_are_no_mvit_are_refused(change, message: str) -> None:
    weights = weights_of(V1)
    change(weights)
    with pytest.raises(InputError, match=message):
        model_from_checkpoint(weights)


def test_tables_that_contradict_each_other_are_refused() -> None:
    weights = weights_of(V2)
    weights["blocks.2.attn.rel_pos_h"] = torch.ones(9, 8)
    with pytest.raises(InputError, match=r"blocks\.2\.attn\.rel_pos_h is \(9, 8\), which contra"):
        model_from_checkpoint(weights)


def test_a_model_that_pools_without_weights_needs_its_config() -> None:
    spec = replace(V1, pool_mode="max")
    weights = weights_of(spec)
    with pytest.raises(InputError, match="pools by maximum or average"):
        model_from_checkpoint(weights)
    saved = {"model_state": weights, "cfg": _slowfast_config(spec)}
    assert model_from_checkpoint(saved).spec.pool_mode == "max"


def _slowfast_config(spec: MViTSpec) -> str:
    """What SlowFast would have stored beside the weights: every key, also those without meaning here."""
    expanded = [[i, *b.pool_kv.stride] for i, b in enumerate(spec.blocks) if b.pool_kv]
    return yaml.safe_dump(
        {
            "BN": {"USE_PRECISE_STATS": False},
            "DATA": {
                "NUM_FRAMES": spec.num_frames,
                "TRAIN_CROP_SIZE": spec.crop_size,
                "INPUT_CHANNEL_NUM": [3],
                "DECODING_BACKEND": "torchvision",
            },
            "MODEL": {
                "ARCH": "mvit",
                "MODEL_NAME": "MViT",
                "NUM_CLASSES": spec.num_classes,
                "DROPOUT_RATE": 0.0,
            },
            "MVIT": {
                "MODE": spec.pool_mode,
                "CLS_EMBED_ON": spec.class_token,
                "EMBED_DIM": spec.embed_dim,
                "NUM_HEADS": spec.num_heads,
                "DEPTH": spec.depth,
                "DROPPATH_RATE": 0.3,
                "DIM_MUL": [list(entry) for entry in spec.dim_mul],
                "HEAD_MUL": [list(entry) for entry in spec.head_mul],
                "POOL_Q_STRIDE": [list(entry) for entry in spec.pool_q_stride],
                "POOL_KV_STRIDE": expanded,
                "POOL_KV_STRIDE_ADAPTIVE": list(spec.pool_kv_stride_adaptive),
                "POOL_KVQ_KERNEL": list(spec.pool_kernel),
                "PATCH_PADDING": list(spec.patch_padding),
                "PATCH_2D": False,
                "NORM": "layernorm",
                "SEP_POS_EMBED": spec.separable_positions,
                "USE_ABS_POS": spec.absolute_positions,
                "REL_POS_SPATIAL": spec.relative_positions_space,
                "REL_POS_TEMPORAL": spec.relative_positions_time,
                "RESIDUAL_POOLING": spec.residual_pooling,
                "DIM_MUL_IN_ATT": spec.dim_mul_in_attention,
                "USE_MEAN_POOLING": spec.mean_pooling,
                "LAYER_SCALE_INIT_VALUE": 0.0,
                "REV": {"ENABLE": False, "RESPATH_FUSE": "concat"},
            },
            "SOLVER": {"BETAS": [0.9, 0.999], "BASE_LR": 0.1},
        }
    )
