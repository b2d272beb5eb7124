"""What every model of the registry can do, whatever its family."""

from __future__ import annotations

import copy
import math
import pickle
import re
from dataclasses import replace

import pytest
import torch
from fvcore.common.config import CfgNode
from torch import Tensor, nn

from mvit_video.build import build_model
from mvit_video.config import load_config
from mvit_video.models import REGISTRY
from mvit_video.models.blocks import recompute
from mvit_video.resources import configs_dir
from tests.weights.small_models import V1, V2

CLASSES = 5
SMALL = {
    "MViT v1": ("MViT", V1),
    "MViT v2": ("MViT", V2),
    "DualViT": ("DualViT", REGISTRY["DualViT"].presets["DUALVIT_TINY"]),
    "DualViT aux": ("DualViT", replace(REGISTRY["DualViT"].presets["DUALVIT_TINY"], aux_head=True)),
    "MPViT": ("MPViT", REGISTRY["MPViT"].presets["MPVIT_TINY"]),
    "CloFormer": ("CloFormer", REGISTRY["CloFormer"].presets["CLOFORMER_TINY"]),
    "CloFormer full": (
        "CloFormer",
        replace(
            REGISTRY["CloFormer"].presets["CLOFORMER_TINY"],
            depthwise_time="full",
            temporal_position=True,
            temporal_padding="replicate",
            norm_scope="clip",
            pool_t=2,
        ),
    ),
    "MPViT relative time": (
        "MPViT",
        replace(REGISTRY["MPViT"].presets["MPVIT_TINY"], relative_time=True),
    ),
}
PRESETS = [(family, name) for family in REGISTRY for name in REGISTRY[family].presets]
everyone = pytest.mark.parametrize("which", SMALL)


def make(which: str, **changes) -> nn.Module:
    family, spec = SMALL[which]
    torch.manual_seed(0)
    return REGISTRY[family].model(
        replace(spec, num_classes=CLASSES, num_frames=8, crop_size=64, **changes)
    )


def clip(*size: int, batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, *(size or (8, 64, 64)), generator=torch.Generator().manual_seed(1))


def test_there_is_a_small_model_of_every_family():
    assert {family for family, _ in SMALL.values()} == set(REGISTRY)


@pytest.mark.parametrize(("family", "name"), PRESETS, ids=[name for _, name in PRESETS])
def test_every_preset_builds_and_runs_on_the_meta_device(family, name):
    with torch.device("meta"):
        model = build_model(name).eval()
        spec = model.spec
        size = (spec.num_frames, spec.crop_size, spec.crop_size)
        assert model(torch.empty(1, 3, *size)).shape == (1, spec.num_classes)
    assert REGISTRY[family].presets[name] == spec


@everyone
def test_forward_and_backward_reach_every_parameter(which):
    model = make(which).train()
    logits = model(clip())
    assert logits.shape == (2, CLASSES) and logits.isfinite().all()
    nn.functional.cross_entropy(logits, torch.tensor([0, 3])).backward()
    # A head that reads the class token alone passes by the last block's q pool and tables.
    idle = r"blocks\.3\.attn\.(pool_q|rel_pos|norm_q).*"
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert parameter.grad.any() or re.fullmatch(idle, name), name


@everyone
def test_fresh_weights_are_finite_and_the_logits_small(which):
    model = make(which).eval()
    for name, tensor in model.state_dict().items():
        assert tensor.isfinite().all(), name
    with torch.no_grad():
        assert model(clip()).abs().max() < 10


@everyone
def test_images_and_one_frame_clips_are_the_same_to_an_image_model(which):
    family, _ = SMALL[which]
    name = {"MViT": "IN1K_MVITv2_T"}.get(family)
    if name:
        spec = replace(REGISTRY[family].presets[name], num_classes=CLASSES, crop_size=64)
        model = REGISTRY[family].model(spec).eval()
    else:
        model = make(which).eval()
        time = {"stem_kernel_t": 1, "stem_stride_t": 1, "depthwise_time": "none", "num_frames": 1}
        model = REGISTRY[family].model(replace(model.spec, **time)).eval()
    images = clip(64, 64)
    with torch.no_grad():
        assert torch.equal(model(images), model(images[:, :, None]))


@everyone
@pytest.mark.parametrize("size", [(1, 64, 64), (5, 40, 72), (12, 64, 96), (16, 33, 47)])
def test_other_sizes_and_lengths_run(which, size):
    model = make(which).eval()
    with torch.no_grad():
        logits = model(clip(*size, batch=1))
    assert logits.shape == (1, CLASSES) and logits.isfinite().all()


@everyone
@pytest.mark.parametrize("size", [(8, 64, 64), (6, 96, 64)])
def test_the_pyramid_is_what_its_description_says(which, size):
    model = make(which).eval()
    with torch.no_grad():
        levels = model.forward_pyramid(clip(*size))
    assert len(levels) == len(model.feature_info) >= 3
    for level, info in zip(levels, model.feature_info, strict=True):
        extents = [
            math.ceil(extent / stride) for extent, stride in zip(size, info.stride, strict=True)
        ]
        assert level.shape == (2, info.channels, *extents)
        assert level.isfinite().all()


@everyone
def test_features_are_what_the_head_reads(which):
    model = make(which).eval()
    with torch.no_grad():
        tokens, thw = model.forward_features(clip())
    assert thw[0] == 4 and tokens.shape[1] >= math.prod(thw)


@everyone
def test_state_dicts_go_round(which, tmp_path):
    model = make(which).train()
    model(clip())  # moves the BatchNorm statistics
    torch.save(model.state_dict(), tmp_path / "model.pt")
    other = REGISTRY[SMALL[which][0]].model(model.spec)
    other.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    with torch.no_grad():
        assert torch.equal(other.eval()(clip()), model.eval()(clip()))
        assert torch.equal(copy.deepcopy(model)(clip()), model(clip()))
    assert pickle.loads(pickle.dumps(model.spec)) == model.spec


@everyone
def test_bfloat16_autocast_stays_close_and_trains(which):
    model = make(which)
    with torch.no_grad():
        full = model.eval()(clip())
        with torch.autocast("cpu", torch.bfloat16):
            half = model(clip())
    assert (half.float() - full).abs().max() < 0.05 * full.abs().max() + 0.01
    with torch.autocast("cpu", torch.bfloat16):
        loss = nn.functional.cross_entropy(model.train()(clip()), torch.tensor([0, 3]))
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@everyone
def test_recomputed_activations_give_the_same_gradients_and_statistics(which):
    results = []
    for stages in ((), None):
        model = make(which, drop_path_rate=0.2).train()
        recompute(model, stages)
        torch.manual_seed(3)
        model(clip()).square().sum().backward()
        results.append((model.state_dict(), [p.grad for p in model.parameters()]))
    (state, grads), (other_state, other_grads) = results
    for key, tensor in state.items():
        assert torch.equal(tensor, other_state[key]), key
    for grad, other in zip(grads, other_grads, strict=True):
        torch.testing.assert_close(grad, other)


@everyone
def test_a_model_from_the_meta_device_is_filled_by_init_weights(which):
    expected = make(which)
    with torch.device("meta"):
        model = make(which)
    assert all(tensor.is_meta for tensor in model.state_dict().values())
    model = model.to_empty(device="cpu")
    for tensor in model.state_dict().values():
        tensor.fill_(7)
    model.init_weights()
    for (name, one), other in zip(
        model.state_dict().items(), expected.state_dict().values(), strict=True
    ):
        assert not (one == 7).any(), name
        if other.is_floating_point() and one.numel() > 1000:
            assert 0.7 < one.std() / other.std() < 1.4 or one.std() == other.std() == 0, name


@pytest.mark.parametrize(
    "which",
    [
        "MViT v2",
        *(pytest.param(x, marks=pytest.mark.slow) for x in ("DualViT", "MPViT", "CloFormer")),
    ],
)
def test_compilation_traces_the_whole_model(which):
    model = make(which).eval()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(clip()), model(clip()), atol=1e-4, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("which", ["MViT v2", "DualViT", "MPViT", "CloFormer"])
def test_compiled_training_equals_eager_training(which):
    # In float64: some gradients in front of a BatchNorm are nothing but rounding in float32.
    model = make(which).double().train()
    compiled = torch.compile(copy.deepcopy(model))
    for one in (model, compiled):
        nn.functional.cross_entropy(one(clip().double()), torch.tensor([0, 3])).backward()
    found = dict(compiled._orig_mod.named_parameters())
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(found[name].grad, parameter.grad, atol=1e-9, rtol=1e-6)


CONFIGS = {
    "DualViT": ["DUALVIT.VARIANT", "DUALVIT_TINY"],
    "MPViT": ["MPVIT.VARIANT", "MPVIT_TINY"],
    "CloFormer": ["CLOFORMER.VARIANT", "CLOFORMER_TINY"],
}


@pytest.mark.parametrize("family", CONFIGS)
def test_a_config_says_how_a_family_sees_time(family):
    values = {
        "STEM_KERNEL_T": "2",
        "STEM_STRIDE_T": "1",
        "TEMPORAL_PADDING": "replicate",
        "DEPTHWISE_TIME": "full",
        "TEMPORAL_POSITION": "True",
        "DROPPATH_RATE": "0.3",
    }
    options = [word for key, value in values.items() for word in (f"{family.upper()}.{key}", value)]
    cfg = load_config(
        None,
        ["MODEL.MODEL_NAME", family, *CONFIGS[family], "DATA.NUM_FRAMES", "12", *options],
    )
    spec = build_model(cfg).spec
    preset = REGISTRY[family].presets[CONFIGS[family][1]]
    assert spec == replace(
        preset,
        num_classes=400,
        num_frames=12,
        stem_kernel_t=2,
        stem_stride_t=1,
        temporal_padding="replicate",
        depthwise_time="full",
        temporal_position=True,
        drop_path_rate=0.3,
        dropout_rate=0.5,
    )


DEMOS = {
    "MViT": "MVIT_XS",
    "DualViT": "DUALVIT_TINY",
    "MPViT": "MPVIT_TINY",
    "CloFormer": "CLOFORMER_TINY",
}


def demo(family: str, image: bool) -> CfgNode:
    """The config of a family's demo, or of the same model for images."""
    section, words = family.upper(), []
    if family == "MViT" and image:
        values = {"KERNEL": [1, 8, 8], "STRIDE": [1, 8, 8], "PADDING": [0, 0, 0]}
        words = [f"{word}" for key in values for word in (f"MVIT.PATCH_{key}", values[key])]
        words += ["MVIT.POOL_KVQ_KERNEL", "[1, 3, 3]", "MVIT.REL_POS_TEMPORAL", "False"]
    elif image:
        values = {"STEM_KERNEL_T": 1, "STEM_STRIDE_T": 1, "DEPTHWISE_TIME": "none"}
        words = [str(word) for key in values for word in (f"{section}.{key}", values[key])]
    words += ["DATA.NUM_FRAMES", "1"] if image else []
    return load_config(str(configs_dir() / "demo" / f"{DEMOS[family]}_8x4.yaml"), words)


@pytest.mark.parametrize("image", [False, True], ids=["video", "image"])
@pytest.mark.parametrize("family", REGISTRY)
def test_features_only_gives_a_pyramid_with_its_channels_and_strides(family, image):
    model = build_model(demo(family, image), features_only=True).eval()
    with torch.no_grad():
        levels = model(clip(64, 64) if image else clip())
    assert len(levels) == len(model.feature_info)
    for level, info in zip(levels, model.feature_info, strict=True):
        extents = [64 // stride for stride in info.stride[1:]]
        assert level.shape == (2, info.channels, 1 if image else 8 // info.stride[0], *extents)
