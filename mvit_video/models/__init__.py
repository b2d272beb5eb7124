"""The model families: a frozen spec each, a model read top to bottom, presets as data."""
