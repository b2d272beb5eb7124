"""Video readers: a path and frame numbers in, uint8 frames and the stream's facts out."""
