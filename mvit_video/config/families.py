"""Sections of the families beside MViT."""

from __future__ import annotations

from mvit_video.config.schema import Section

FAMILY_NAMES: tuple[str, ...] = ()

FAMILY_SECTIONS: dict[str, Section] = {}
