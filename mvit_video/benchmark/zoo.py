"""The table of published models, its parameters and multiply-adds computed."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import torch

from mvit_video.models import REGISTRY
from mvit_video.models.cost import count_multiply_adds, count_parameters
from mvit_video.weights.zoo import ZOO, Published

HEADER = "# Published: "
_HEAD = (
    "| model | data | parameters | G multiply-adds x crops x clips | top-1 | top-5 | config | source, weights |\n"
    "|---|---|---|---|---|---|---|---|"
)


def zoo_table() -> str:
    """Markdown, one line per published model."""
    return "\n".join([_HEAD, *(_line(entry) for entry in ZOO)])


def sizes(entry: Published) -> tuple[int, int]:
    """(parameters, multiply-adds of one view) of a published model."""
    return _sizes(entry.preset, entry.num_classes)


@cache
def _sizes(preset: str, num_classes: int) -> tuple[int, int]:
    family = next(family for family in REGISTRY.values() if preset in family.presets)
    spec = replace(family.presets[preset], num_classes=num_classes)
    with torch.device("meta"):
        model = family.model(spec)
    clip = (1, 3, spec.num_frames, spec.crop_size, spec.crop_size)
    return count_parameters(model), count_multiply_adds(model, clip)


def config_header(config: str) -> str:
    """The comment that begins a shipped config: what was published for its model, one line per source."""
    lines = [_header_line(entry) for entry in ZOO if entry.config == config and entry.top1]
    return "".join(f"{HEADER}{line}\n" for line in lines)


def _header_line(entry: Published) -> str:
    parameters, multiply_adds = sizes(entry)
    views = f" with {entry.views.replace('x', ' x ')} crops x clips" if entry.views else ""
    scores = " / ".join(str(score) for score in (entry.top1, entry.top5) if score)
    weights = f": {entry.url}" if entry.url else ""
    return (
        f"{entry.name} on {entry.dataset}, {parameters / 1e6:.1f} M parameters, {_work(multiply_adds)} G multiply-adds"
        f", {scores} %{views}, {entry.source}{weights}"
    )


def _work(multiply_adds: int) -> str:
    """In 10^9, to four digits or so."""
    return f"{multiply_adds / 1e9:.{2 if multiply_adds < 1e11 else 0}f}"


def _line(entry: Published) -> str:
    parameters, multiply_adds = sizes(entry)
    views = f" x {entry.views.replace('x', ' x ')}" if entry.views else ""
    top1, top5 = (str(score) if score else "" for score in (entry.top1, entry.top5))
    config = f"[{entry.config.removeprefix('configs/')}]({entry.config})" if entry.config else ""
    cells = (
        entry.name,
        entry.dataset,
        f"{parameters / 1e6:.1f} M",
        _work(multiply_adds) + views,
        top1,
        top5,
        config,
        f"[{entry.source}]({entry.url})" if entry.url else entry.source,
    )
    return f"| {' | '.join(cells)} |"
