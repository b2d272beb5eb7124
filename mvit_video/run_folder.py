"""What lies where in the OUTPUT_DIR of a run: one name for those who write a file and those who read it."""

from __future__ import annotations

CONFIG_FILE = "config.yaml"  # this and the next of the training, and in TEST_FOLDER of the test
ENVIRONMENT_FILE = "environment.json"
LOG_FILE = "log.jsonl"
BAD_VIDEOS_FILE = "bad_videos.jsonl"
REPORT_FILE = "report.html"
TEST_FOLDER = "test"
PREDICTIONS_FILE = "predictions.npz"  # this and the next in TEST_FOLDER only
METRICS_FILE = "metrics.json"
