"""Multi-view testing, metrics and the predictions file."""
