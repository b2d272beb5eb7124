"""Video recognition with multiscale vision transformers."""
