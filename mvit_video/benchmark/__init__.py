"""The instrument: what `tools/benchmark.py` measures, and how."""
