"""Video recognition with multiscale vision transformers.

from mvit_video import load_config, build_model

cfg = load_config("configs/K400/MVITv2_S_16x4.yaml")
model = build_model(cfg)
logits = model(clip)  # clip (B, 3, T, H, W) float -> (B, num_classes)

from mvit_video import Recognizer

print(Recognizer.from_checkpoint("output/checkpoints/best.pt")("video.mp4"))
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mvit_video.build import build_model
from mvit_video.config import load_config

if TYPE_CHECKING:
    from mvit_video.predict.recognizer import Recognizer

__all__ = ["Recognizer", "build_model", "load_config"]


def __getattr__(name: str) -> Any:
    """The Recognizer is imported when it is asked for: training needs no part of it."""
    if name == "Recognizer":
        from mvit_video.predict.recognizer import Recognizer

        return Recognizer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
