"""Other people's checkpoints: key maps per dialect, inflation, loading that fails closed."""
