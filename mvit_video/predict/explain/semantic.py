"""What Dual-ViT's semantic tokens stand for: where each of them looks in the clip.

In the first two stages every semantic token gathers from all pixels; that attention is its map. The class token's
attention, at the end, says which semantic tokens matter for the answer.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mvit_video.models.dual_vit import DualViT
from mvit_video.predict.explain.recording import recorded

_GATHER = 1  # of a semantic path's two attentions, the one that reads the pixels
_HEARD = 0.05  # share of the answer's attention from which on a semantic token is worth a picture


@torch.no_grad()
def semantic_maps(model: DualViT, clip: Tensor, most: int = 3) -> list[tuple[Tensor, int, float]]:
    """The semantic tokens that the class token attends to most, one at least; none but the first that it hardly hears.

    Args:
        clip: (1, 3, T, H, W), normalised.

    Returns:
        For each: its attention to the pixels in the last dual block, (T', H', W'), mean over heads; its number, in
        time-major order; and its share of the attention that the class token pays to semantic tokens.
    """
    dual = [stage for stage in model.stages if not stage.merges][-1]
    path, reader = dual.blocks[-1].semantic_path, model.class_block.attn
    grids: list[torch.Size] = []
    hook = dual.register_forward_hook(lambda *seen: grids.append(seen[-1][0].shape[1:4]))
    try:
        with recorded((path, reader)) as calls:
            model(clip)
    finally:
        hook.remove()
    maps = calls[path][_GATHER].mean_weights()
    shares = calls[reader][0].mean_weights()[0, -len(maps) :]
    shares = shares / shares.sum()
    best = shares.argsort(descending=True)[:most].tolist()
    best = [token for token in best if token == best[0] or shares[token] >= _HEARD]
    return [(maps[token].unflatten(0, grids[0]), token, shares[token].item()) for token in best]
