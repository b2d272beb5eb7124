"""Video recognition with multiscale vision transformers.

from mvit_video import load_config, build_model

cfg = load_config("configs/K400/MVITv2_S_16x4.yaml")
model = build_model(cfg)
logits = model(clip)  # clip (B, 3, T, H, W) float -> (B, num_classes)
"""

from mvit_video.build import build_model
from mvit_video.config import load_config

__all__ = ["build_model", "load_config"]
