"""Blocks on tokens and cubes. Plain arguments, no config."""
