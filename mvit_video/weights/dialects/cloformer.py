"""How the official code (qhfan/CloFormer) names CloFormer's tensors."""

from __future__ import annotations

from mvit_video.models.cloformer import PRESETS
from mvit_video.weights.adapt_inflated import BATCH_NORM, P, as_cube, inflated_reader, linear
from mvit_video.weights.dialect import Dialect, Rule, copy, reshape

_BLOCK = r"layers\.(\d)\.blocks\.(\d+)\."
_OURS = r"stages.\1.\2."


def _pointwise(pattern: str, target: str) -> tuple[Rule, ...]:
    """A 1 x 1 convolution that is a linear layer here."""
    return (
        reshape(rf"{pattern}\.weight", rf"{target}.weight", linear),
        copy(rf"{pattern}\.bias", rf"{target}.bias"),
    )


def _stem() -> tuple[Rule, ...]:
    rules = [reshape(r"patch_embed\.conv1\.conv\.0\.weight", "stem.convs.0.conv.weight", as_cube)]
    for index in range(4):
        theirs, ours = rf"patch_embed\.conv{index + 1}\.conv", f"stem.convs.{index}"
        rules.append(copy(rf"{theirs}\.0\.{P}", rf"{ours}.conv.\1"))
        rules.append(copy(rf"{theirs}\.1\.{BATCH_NORM}", rf"{ours}.norm.\1"))
    return (
        *rules,
        *_pointwise(r"patch_embed\.conv5", "stem.proj"),
        copy(rf"patch_embed\.layernorm\.{P}", r"stem.norm.\1"),
    )


OFFICIAL = Dialect(
    name="CloFormer",
    family="CloFormer",
    markers=(
        r"patch_embed\.conv5\.weight",
        r"layers\.0\.blocks\.0\.attn\.(qkvs\.0|global_q)\.weight",
    ),
    rules=(
        *_stem(),
        copy(rf"{_BLOCK}(norm[12])\.{P}", rf"{_OURS}\3.\4"),
        *_pointwise(rf"{_BLOCK}attn\.qkvs\.0", rf"{_OURS}attn.local.qkv"),
        copy(rf"{_BLOCK}attn\.convs\.0\.{P}", rf"{_OURS}attn.local.depthwise.\3"),
        *_pointwise(
            rf"{_BLOCK}attn\.act_blocks\.0\.act_block\.([02])", rf"{_OURS}attn.local.gate.\3"
        ),
        *_pointwise(rf"{_BLOCK}attn\.global_(q|kv)", rf"{_OURS}attn.pooled.\3"),
        *_pointwise(rf"{_BLOCK}attn\.proj", rf"{_OURS}attn.proj"),
        *_pointwise(rf"{_BLOCK}mlp\.(fc[12])", rf"{_OURS}mlp.\3"),
        copy(rf"{_BLOCK}mlp\.dwconv\.{P}", rf"{_OURS}mlp.depthwise.\3"),
        copy(rf"{_BLOCK}downsample\.0\.{P}", rf"{_OURS}skip.down.conv.\3"),
        copy(
            rf"{_BLOCK}downsample\.1\.{BATCH_NORM}",
            rf"{_OURS}skip.down.norm.\3",
        ),
        *_pointwise(rf"{_BLOCK}downsample\.2", rf"{_OURS}skip.proj"),
        copy(rf"(norm|head)\.{P}"),
    ),
)

READER = inflated_reader(
    OFFICIAL,
    PRESETS,
    own=(r"stages\.0\.0\.attn\.local\.qkv\.weight", r"stem\.convs\.0\.conv\.weight"),
    block_norm=r"stages\.(\d)\.(\d+)\.norm1\.weight",
    stem="stem.convs.0.conv.weight",
    depthwise="stages.0.0.mlp.depthwise",
)
