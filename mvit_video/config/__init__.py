"""What a run is: one documented tree of keys, read strictly."""
