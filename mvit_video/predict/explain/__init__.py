"""Seeing what a model sees: heat maps over the frames of a clip."""
