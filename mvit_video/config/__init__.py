"""What a run is: one documented tree of keys, read strictly."""

from mvit_video.config.loading import get_cfg, load_config

__all__ = ["get_cfg", "load_config"]
