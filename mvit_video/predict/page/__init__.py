"""A page to try a model: drop a video, see what is in it, what is on when, and where the model looks."""
