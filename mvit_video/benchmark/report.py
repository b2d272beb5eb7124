"""Results as a table for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_COLUMNS = {
    "videos_per_second": ("videos/s", "{:.3g}"),
    "clips_per_second": ("clips/s", "{:.3g}"),
    "ms_per_clip": ("ms/clip", "{:.1f}"),
    "spread": ("spread", "{:.1%}"),
    "best_ms_per_clip": ("best ms", "{:.1f}"),
    "data_share": ("waiting for data", "{:.1%}"),
    "multiply_adds_per_clip": ("multiply-adds", "{:.3g}"),
    "share_of_matmul_peak": ("of matmul peak", "{:.1%}"),
    "peak_memory_mib": ("peak MiB", "{:.0f}"),
    "pass_memory_mib": ("of it, the pass", "{:.0f}"),
    "largest_batch": ("largest batch", "{:d}"),
}
_RATIOS = {"time": "time", "peak_memory": "peak memory", "pass_memory": "memory of the pass"}


def as_text(result: Mapping[str, Any]) -> str:
    """The setting, a row per candidate, and a line per ratio."""
    tables = ("candidates", "ratios", "blocks")
    setting = {key: value for key, value in result.items() if key not in tables}
    lines = [
        ", ".join(f"{key.replace('_', ' ')} {_plain(value)}" for key, value in setting.items())
    ]
    candidates = result["candidates"]
    shown = [key for key in _COLUMNS if key in next(iter(candidates.values()))]
    rows = [["", *(_COLUMNS[key][0] for key in shown)]]
    for name, values in candidates.items():
        rows.append([name, *(_COLUMNS[key][1].format(values[key]) for key in shown)])
    lines += _aligned(rows)
    if "blocks" in result:
        rows = [[_plain(value) for value in row.values()] for row in result["blocks"]]
        lines += ["", *_aligned([list(result["blocks"][0]), *rows]), ""]
    ours = next(iter(candidates))
    for name, ratios in result["ratios"].items():
        times = ", ".join(
            f"{ratios[key]:.2f}x the {label}" for key, label in _RATIOS.items() if key in ratios
        )
        spread = f" (spread of time {ratios['time_spread']:.1%})" if "time" in ratios else ""
        lines.append(f"{name} takes {times} of {ours}{spread}")
        if "rate" in ratios:
            lines.append(
                f"{ours} does {ratios['rate']:.2f}x the multiply-adds per second of {name}"
            )
    return "\n".join(lines)


def _aligned(rows: list[list[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    ]


def _plain(value: Any) -> str:
    if isinstance(value, (int, float)) and value >= 1e6:
        return f"{value / 1e9:.2f} G"
    if isinstance(value, float):
        return f"{value:.2f}"
    return "x".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)
