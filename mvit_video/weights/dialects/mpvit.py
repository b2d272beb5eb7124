"""How the official checkpoints name MPViT's tensors.

Every layer of a path repeats the path's two position encodings under names of its own; they are
checked to be equal, then dropped.
"""

from __future__ import annotations

from mvit_video.models.mpvit import PRESETS
from mvit_video.weights.adapt_inflated import (
    BATCH_NORM,
    P,
    as_cube,
    depthwise_time,
    inflated_reader,
    linear,
)
from mvit_video.weights.dialect import Dialect, Rule, copy, duplicate, reshape

_EMBED = r"patch_embed_stages\.(\d)\.patch_embeds\.(\d)\.patch_conv\."
_STAGE = r"mhca_stages\.(\d)\."
_PATH = rf"{_STAGE}mhca_blks\.(\d)\."
_LAYER = rf"{_PATH}MHCA_layers\.(\d+)\."


def _local_branch() -> tuple[Rule, ...]:
    ours = r"stages.\1.local.layers"
    return (
        reshape(rf"{_STAGE}InvRes\.conv1\.conv\.weight", f"{ours}.0.conv.weight", linear),
        copy(rf"{_STAGE}InvRes\.conv1\.bn\.{BATCH_NORM}", rf"{ours}.0.norm.\2"),
        copy(rf"{_STAGE}InvRes\.dwconv\.weight", f"{ours}.1.conv.weight"),
        copy(rf"{_STAGE}InvRes\.norm\.{BATCH_NORM}", rf"{ours}.1.norm.\2"),
        reshape(rf"{_STAGE}InvRes\.conv2\.conv\.weight", f"{ours}.2.conv.weight", linear),
        copy(rf"{_STAGE}InvRes\.conv2\.bn\.{BATCH_NORM}", rf"{ours}.2.norm.\2"),
    )


OFFICIAL = Dialect(
    name="MPViT",
    family="MPViT",
    markers=(r"stem\.0\.conv\.weight", rf"{_EMBED}dwconv\.weight"),
    rules=(
        reshape(r"stem\.0\.conv\.weight", "stem.0.conv.weight", as_cube),
        copy(r"stem\.1\.conv\.weight"),
        copy(rf"stem\.([01])\.bn\.{BATCH_NORM}", r"stem.\1.norm.\2"),
        copy(rf"{_EMBED}dwconv\.weight", r"stages.\1.embed.\2.depthwise.weight"),
        reshape(rf"{_EMBED}pwconv\.weight", r"stages.\1.embed.\2.pointwise.conv.weight", linear),
        copy(rf"{_EMBED}bn\.{BATCH_NORM}", r"stages.\1.embed.\2.pointwise.norm.\3"),
        copy(rf"{_PATH}cpe\.proj\.{P}", r"stages.\1.paths.\2.position.\3"),
        copy(rf"{_PATH}crpe\.conv_list\.(\d)\.{P}", r"stages.\1.paths.\2.relative.convs.\3.\4"),
        duplicate(rf"{_LAYER}cpe\.proj\.{P}", r"stages.\1.paths.\2.position.\4"),
        duplicate(
            rf"{_LAYER}(?:factoratt_crpe\.)?crpe\.conv_list\.(\d)\.{P}",
            r"stages.\1.paths.\2.relative.convs.\4.\5",
        ),
        copy(
            rf"{_LAYER}factoratt_crpe\.(qkv|proj)\.{P}", r"stages.\1.paths.\2.blocks.\3.attn.\4.\5"
        ),
        copy(rf"{_LAYER}(norm[12]|mlp\.fc[12])\.{P}", r"stages.\1.paths.\2.blocks.\3.\4.\5"),
        *_local_branch(),
        reshape(rf"{_STAGE}aggregate\.conv\.weight", r"stages.\1.join.conv.weight", linear),
        copy(rf"{_STAGE}aggregate\.bn\.{BATCH_NORM}", r"stages.\1.join.norm.\2"),
        copy(rf"cls_head\.cls\.{P}", r"head.\1"),
    ),
)

READER = inflated_reader(
    OFFICIAL,
    PRESETS,
    own=(
        r"stages\.0\.embed\.0\.depthwise\.weight",
        r"stages\.0\.local\.layers\.0\.conv\.weight",
    ),
    block_norm=r"stages\.(\d)\.paths\.0\.blocks\.(\d+)\.norm1\.weight",
    stem="stem.0.conv.weight",
    depthwise="stages.0.embed.0.depthwise",
    further=lambda state: {
        "relative_time": depthwise_time(state, "stages.0.paths.0.relative.convs.0") != "none"
    },
)
