"""How processes come to be, and how they are told to stop."""

from mvit_video.launch.run import run

__all__ = ["run"]
