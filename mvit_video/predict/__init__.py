"""Any video in; scores, timelines and overlays out."""
