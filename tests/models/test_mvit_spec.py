"""What a spec works out, and what it refuses."""

from __future__ import annotations

import dataclasses
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvit_video.config import load_config
from mvit_video.errors import InputError
from mvit_video.models.mvit_presets import PRESETS
from mvit_video.models.mvit_spec import MViTSpec, spec_from_config
from mvit_video.resources import configs_dir


def rows(name: str) -> list[tuple]:
    """(dim, dim_out, attention width, heads, q stride, kv stride) of each block."""
    return [
        (b.dim, b.dim_out, b.attention_dim, b.num_heads,
         b.pool_q and b.pool_q.stride, b.pool_kv and b.pool_kv.stride)
        for b in PRESETS[name].blocks
    ]  # fmt: skip


def test_v1_b_has_the_published_blocks() -> None:
    none, two, kv8, kv4, kv2, kv1 = None, (1, 2, 2), (1, 8, 8), (1, 4, 4), (1, 2, 2), (1, 1, 1)
    assert rows("MVIT_B_16x4") == [
        (96, 192, 96, 1, none, kv8),
        (192, 192, 192, 2, two, kv4),
        (192, 384, 192, 2, none, kv4),
        (384, 384, 384, 4, two, kv2),
        *[(384, 384, 384, 4, none, kv2)] * 9,
        (384, 768, 384, 4, none, kv2),
        (768, 768, 768, 8, two, kv1),
        (768, 768, 768, 8, none, kv1),
    ]


def test_v2_s_has_the_published_blocks() -> None:
    one, two = (1, 1, 1), (1, 2, 2)
    assert rows("MVITv2_S_16x4") == [
        (96, 96, 96, 1, one, (1, 8, 8)),
        (96, 192, 192, 2, two, (1, 4, 4)),
        (192, 192, 192, 2, one, (1, 4, 4)),
        (192, 384, 384, 4, two, (1, 2, 2)),
        *[(384, 384, 384, 4, one, (1, 2, 2))] * 10,
        (384, 768, 768, 8, two, one),
        (768, 768, 768, 8, one, one),
    ]


def test_kernels_follow_strides_where_none_is_given() -> None:
    blocks = PRESETS["MVIT_B24_32x3"].blocks
    assert [b.pool_kv and b.pool_kv.kernel for b in (blocks[0], blocks[2], blocks[5], blocks[21])] == [
        (1, 9, 9), (1, 5, 5), (1, 3, 3), None,
    ]  # fmt: skip


def test_v2_l_keeps_tables_that_were_sized_rounding_down() -> None:
    blocks = PRESETS["MVITv2_L_40x3"].blocks
    assert [blocks[i].relative_rows[1] for i in (0, 2, 8, 9, 44, 45)] == [155, 77, 37, 37, 37, 17]


def test_the_time_table_is_sized_by_the_input_even_where_time_is_pooled() -> None:
    spec = replace(PRESETS["MVITv2_S_16x4"], pool_q_stride=((0, 1, 1, 1), (1, 2, 2, 2)))
    assert [block.relative_rows[0] for block in spec.blocks[:3]] == [15, 15, 7]


def test_a_spec_is_plain_data() -> None:
    spec = PRESETS["MVITv2_S_16x4"]
    plain = {f.name: getattr(spec, f.name) for f in dataclasses.fields(spec) if f.init}
    assert MViTSpec(**plain) == spec and hash(MViTSpec(**plain)) == hash(spec)
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.depth = 3


@given(
    embed=st.sampled_from([16, 24, 96]),
    factor=st.floats(1.0, 3.0),
    heads=st.sampled_from([1, 2, 4]),
    in_attention=st.booleans(),
)
def test_widths_always_split_into_their_heads(embed, factor, heads, in_attention) -> None:
    spec = MViTSpec(embed_dim=embed, num_heads=heads, depth=4, dim_mul=((2, factor),),
                    head_mul=((2, 2.0),), dim_mul_in_attention=in_attention)  # fmt: skip
    for block, following in zip(spec.blocks, spec.blocks[1:], strict=False):
        assert block.dim_out == following.dim
        assert block.attention_dim % block.num_heads == 0
        assert block.dim_out >= 0.9 * block.dim


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"pool_mode": "median"}, "choose one of conv"),
        ({"pool_mode": "conv_unshared"}, "POOL_FIRST"),
        ({"num_heads": 7}, "does not split into 7 heads"),
        ({"crop_size": 3}, "empty token grid"),
        ({"depth": 0}, "MVIT.DEPTH"),
        ({"dim_mul": ((16, 2.0),)}, "MVIT.DIM_MUL names block 16"),
        ({"dim_mul": ((0, 2.0),)}, "MVIT.EMBED_DIM"),
        ({"head_mul": ((1, 0.0),)}, "positive"),
        ({"pool_q_stride": ((1, 0, 2, 2),)}, "positive"),
        ({"pool_kv_stride": ((0, 1, 8, 8),)}, "both given"),
        ({"drop_path_rate": 1.0}, "drop_path_rate is 1.0"),
        ({"unpooled_kv": (16,)}, "names block 16"),
    ],
)
def test_what_cannot_be_is_refused_with_what_to_change(changes: dict, says: str) -> None:
    with pytest.raises(InputError, match=says):
        replace(PRESETS["MVIT_B_16x4"], **changes)


SHIPPED = ["MVIT_B_16x4", "MVIT_B_32x3", "MVIT_B_64x3", "MVIT_B24_32x3",
           "MVITv2_S_16x4", "MVITv2_B_32x3", "MVITv2_L_40x3"]  # fmt: skip


@pytest.mark.parametrize("name", SHIPPED)
def test_the_shipped_configs_describe_the_presets(name: str) -> None:
    spec = spec_from_config(load_config(str(configs_dir() / "K400" / f"{name}.yaml"), []))
    assert spec == PRESETS[name]


def test_a_config_may_give_an_image_models_stem_in_two_numbers() -> None:
    cfg = load_config(None, ["DATA.NUM_FRAMES", "1", "MVIT.PATCH_KERNEL", "[7, 7]",
                             "MVIT.PATCH_STRIDE", "[4, 4]", "MVIT.PATCH_PADDING", "[3, 3]"])  # fmt: skip
    spec = spec_from_config(cfg)
    assert (spec.patch_kernel, spec.patch_stride, spec.patch_padding) == (
        (1, 7, 7),
        (1, 4, 4),
        (0, 3, 3),
    )


def test_an_expanded_stride_list_beside_the_adaptive_one_is_no_conflict() -> None:
    """SlowFast writes the list it worked out into the config that it saves."""
    path = str(configs_dir() / "K400" / "MVIT_B_16x4.yaml")
    cfg = load_config(path, ["MVIT.POOL_KV_STRIDE", "[[0, 1, 8, 8], [1, 1, 4, 4]]"])
    assert spec_from_config(cfg).blocks == PRESETS["MVIT_B_16x4"].blocks
