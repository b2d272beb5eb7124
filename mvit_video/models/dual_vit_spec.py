"""What a Dual-ViT is made of, and the published ones (Yao et al., arXiv 2207.04976)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mvit_video.models.inflated import InflatedSpec, spec_from_section, with_image_models

MERGE_FROM = 2  # the first stage of merge blocks


@dataclass(frozen=True, kw_only=True)
class DualViTSpec(InflatedSpec):
    """Sizes of a Dual-ViT, one entry per stage.

    Attributes:
        stem_width: channels inside the stem.
        depths: blocks of each stage: dual blocks in the first two, merge blocks in the last two.
        heads: heads of each stage.
        mlp_ratios: hidden width of the pixels' MLP over the stage's; one less in every second block
            of the third stage.
        class_mlp_ratio: of the class token's MLP.
        semantic_pool_t: time steps of the stem's cube that one semantic token begins as an average
            of.
        layer_scale: initial factor on every branch.
        aux_head: a second head on every pixel token, whose maximum counts half in the logits (the
            published checkpoints').
    """

    stem_width: int
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    mlp_ratios: tuple[int, ...] = (8, 8, 4, 3)
    class_mlp_ratio: int = 2
    semantic_pool_t: int = 2
    layer_scale: float = 1e-6
    aux_head: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_stages("depths", "heads", "mlp_ratios")
        self._check_heads(self.heads)

    def mlp_ratio(self, stage: int, block: int) -> int:
        """Of the pixels' MLP in one block."""
        return self.mlp_ratios[stage] - (stage == MERGE_FROM and block % 2)


PRESETS = with_image_models(
    {
        "DUALVIT_S": DualViTSpec(
            stem_width=32,
            widths=(64, 128, 320, 448),
            depths=(3, 4, 6, 3),
            heads=(2, 4, 10, 14),
            drop_path_rate=0.15,
        ),
        "DUALVIT_B": DualViTSpec(
            stem_width=64,
            widths=(64, 128, 320, 512),
            depths=(3, 4, 15, 3),
            heads=(2, 4, 10, 16),
            drop_path_rate=0.15,
        ),
        "DUALVIT_L": DualViTSpec(
            stem_width=64,
            widths=(96, 192, 384, 512),
            depths=(3, 6, 21, 3),
            heads=(3, 6, 12, 16),
            drop_path_rate=0.3,
        ),
    },
    aux_head=True,
) | {
    # For demos and tests.
    "DUALVIT_TINY": DualViTSpec(
        stem_width=32,
        widths=(32, 64, 96, 128),
        depths=(2, 2, 2, 1),
        heads=(1, 2, 4, 4),
        mlp_ratios=(4, 4, 4, 3),
        layer_scale=1.0,
    ),
}


def spec_from_config(cfg: Any) -> DualViTSpec:
    """The spec that a config's DUALVIT section describes."""
    section = cfg.DUALVIT
    return spec_from_section(
        cfg, section, PRESETS, semantic_pool_t=section.SEMANTIC_POOL_T, aux_head=section.AUX_HEAD
    )
