"""Other people's checkpoints: key maps per dialect, inflation, loading that fails closed."""

from mvit_video.weights.architecture import checkpoint_spec
from mvit_video.weights.checkpoint import Checkpoint, read_checkpoint
from mvit_video.weights.inflate import Inflation
from mvit_video.weights.load import LoadReport, load_weights
from mvit_video.weights.model import model_from_checkpoint

__all__ = [
    "Checkpoint",
    "Inflation",
    "LoadReport",
    "checkpoint_spec",
    "load_weights",
    "model_from_checkpoint",
    "read_checkpoint",
]
