"""How the official code (YehLi/ImageNetModel) names Dual-ViT's tensors. Its "proxy" is our semantic
path.
"""

from __future__ import annotations

from mvit_video.models.dual_vit_spec import PRESETS
from mvit_video.weights.adapt_inflated import BATCH_NORM, P, as_cube, inflated_reader
from mvit_video.weights.dialect import Dialect, Rule, copy, reshape


def _first_tokens() -> tuple[Rule, ...]:
    """The stem and the first semantic tokens."""
    rules = [reshape(r"patch_embed1\.conv\.0\.weight", "stem.convs.0.conv.weight", as_cube)]
    for index in range(3):
        theirs, ours = r"patch_embed1\.conv", f"stem.convs.{index}"
        rules.append(copy(rf"{theirs}\.{3 * index}\.weight", f"{ours}.conv.weight"))
        rules.append(
            copy(
                rf"{theirs}\.{3 * index + 1}\.{BATCH_NORM}",
                rf"{ours}.norm.\1",
            )
        )
    return (
        *rules,
        copy(rf"patch_embed1\.(proj|norm)\.{P}", r"stem.embed.\1.\2"),
        copy(r"q", "semantics.query"),
        copy(rf"q_embed\.0\.{P}", r"semantics.query_norm.\1"),
        copy(rf"q_embed\.1\.{P}", r"semantics.q.\1"),
        copy(rf"kv\.{P}", r"semantics.kv.\1"),
        copy(rf"se\.0\.{P}", r"semantics.gate.fc1.\1"),
        copy(rf"se\.2\.{P}", r"semantics.gate.fc2.\1"),
        copy(rf"proxy_ln\.{P}", r"semantics.norm.\1"),
    )


def _stage(stage: int) -> tuple[Rule, ...]:
    """Tables of one stage, counted from 0."""
    block, ours = rf"block{stage + 1}\.(\d+)\.", rf"stages.{stage}.blocks.\1."
    return (
        copy(rf"patch_embed{stage + 1}\.(proj|norm)\.{P}", rf"stages.{stage}.embed.\1.\2"),
        copy(
            rf"proxy_embed{stage + 1}\.proj_proxy\.0\.{P}",
            rf"stages.{stage}.semantic_embed.proj.\1",
        ),
        copy(
            rf"proxy_embed{stage + 1}\.proj_proxy\.1\.{P}",
            rf"stages.{stage}.semantic_embed.norm.\1",
        ),
        copy(rf"{block}gamma([12])", rf"{ours}scale\2.weight"),
        copy(rf"{block}(norm[12]|attn\.(?:q|kv|proj)|mlp\.fc[12])\.{P}", rf"{ours}\2.\3"),
        copy(rf"{block}mlp\.dwconv\.dwconv\.{P}", rf"{ours}mlp.depthwise.\2"),
        copy(rf"{block}mlp\.fc_proxy\.0\.{P}", rf"{ours}semantic_mlp.fc1.\2"),
        copy(rf"{block}mlp\.fc_proxy\.2\.{P}", rf"{ours}semantic_mlp.fc2.\2"),
        *_semantic_path(block, ours),
        copy(rf"norm{stage + 1}\.{P}", r"norm.\1" if stage == 3 else rf"stages.{stage}.norm.\1"),
        copy(rf"norm_proxy{stage + 1}\.{P}", rf"stages.{stage}.semantic_norm.\1"),
    )


def _semantic_path(block: str, ours: str) -> tuple[Rule, ...]:
    """The semantic half of a dual block's attention."""
    path = rf"{ours}semantic_path."
    return (
        copy(rf"{block}attn\.gamma1", f"{path}self_scale.weight"),
        copy(rf"{block}attn\.gamma2", f"{path}cross_scale.weight"),
        copy(rf"{block}attn\.gamma3", f"{path}mlp_scale.weight"),
        copy(rf"{block}attn\.qkv_proxy\.0\.{P}", rf"{path}self_norm.\2"),
        copy(rf"{block}attn\.qkv_proxy\.1\.{P}", rf"{path}self_qkv.\2"),
        copy(rf"{block}attn\.q_proxy_ln\.{P}", rf"{path}cross_norm.\2"),
        copy(rf"{block}attn\.q_proxy\.{P}", rf"{path}cross_q.\2"),
        copy(rf"{block}attn\.kv_proxy\.{P}", rf"{path}cross_kv.\2"),
        copy(rf"{block}attn\.p_ln\.{P}", rf"{path}mlp_norm.\2"),
        copy(rf"{block}attn\.mlp_proxy\.0\.{P}", rf"{path}mlp.fc1.\2"),
        copy(rf"{block}attn\.mlp_proxy\.2\.{P}", rf"{path}mlp.fc2.\2"),
        copy(rf"{block}attn\.proxy_ln\.{P}", rf"{ours}semantic_norm.\2"),
    )


OFFICIAL = Dialect(
    name="Dual-ViT",
    family="DualViT",
    markers=(r"patch_embed1\.conv\.0\.weight", r"block1\.0\.attn\.q_proxy\.weight"),
    rules=(
        *_first_tokens(),
        *(rule for stage in range(4) for rule in _stage(stage)),
        copy(
            rf"post_network\.0\.(norm[12]|attn\.(?:q|kv|proj)|mlp\.fc[12])\.{P}",
            r"class_block.\1.\2",
        ),
        copy(rf"(head|aux_head)\.{P}"),
    ),
)

READER = inflated_reader(
    OFFICIAL,
    PRESETS,
    own=(r"semantics\.query", r"stem\.convs\.0\.conv\.weight"),
    block_norm=r"stages\.(\d)\.blocks\.(\d+)\.norm1\.weight",
    stem="stem.convs.0.conv.weight",
    depthwise="stages.0.blocks.0.mlp.depthwise",
    head=rf"(head|aux_head)\.{P}",
    further=lambda state: {"aux_head": "aux_head.weight" in state},
)
