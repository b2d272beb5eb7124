"""Which curves of a training are drawn, for one run or several side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from mvit_video.evaluate.report.chart import NUM_COLOURS, Chart, Series, draw, thinned
from mvit_video.evaluate.report.run_log import LoggedRun


class Curve(NamedTuple):
    """A key of the lines of one kind in log.jsonl, times a factor."""

    kind: str
    key: str
    name: str = ""
    factor: float = 1.0


class Panel(NamedTuple):
    """A chart; it is drawn if some run logged a key of it."""

    title: str
    unit: str
    curves: tuple[Curve, ...]
    log: bool = False
    from_zero: bool = False
    y_range: tuple[float, float] | None = None


PERCENT = (0.0, 100.0)
PANELS = (
    Panel(
        "Loss", "", (Curve("step", "loss", "training"), Curve("epoch", "val_loss", "validation"))
    ),
    Panel(
        "Validation accuracy",
        "%",
        (Curve("epoch", "val_top1", "top-1"), Curve("epoch", "val_top5", "top-5")),
        y_range=PERCENT,
    ),
    Panel("Learning rate", "", (Curve("step", "lr"),)),
    Panel("Throughput", "clips/s", (Curve("step", "clips_per_second"),), from_zero=True),
    Panel(
        "Waiting for data", "% of time", (Curve("step", "data_share", factor=100),), from_zero=True
    ),
    Panel("Model FLOPs utilisation", "%", (Curve("step", "mfu", factor=100),), from_zero=True),
    Panel("Gradient norm", "", (Curve("step", "grad_norm"),), log=True),
    Panel("Peak memory", "GiB", (Curve("step", "memory_mib", factor=1 / 1024),), from_zero=True),
)


def draw_curves(runs: Sequence[LoggedRun]) -> list[Chart]:
    """A chart per panel that has numbers: of one run with a colour per curve, of several with a colour per run."""
    charts = []
    for panel in PANELS:
        every = _of_one_run(panel, runs[0]) if len(runs) == 1 else _of_runs(panel, runs)
        if any(one.points for one in every):
            charts.append(draw(panel.title, panel.unit, every, **_axis(panel)))
    return charts


def _axis(panel: Panel) -> dict[str, Any]:
    return {"log": panel.log, "from_zero": panel.from_zero, "y_range": panel.y_range}


def _of_one_run(panel: Panel, run: LoggedRun) -> list[Series]:
    return [_series(run, curve, i) for i, curve in enumerate(panel.curves)]


def _of_runs(panel: Panel, runs: Sequence[LoggedRun]) -> list[Series]:
    return [
        _series(run, curve, run_colour(i), dashed=k > 0, name=run.name)
        for i, run in enumerate(runs)
        for k, curve in enumerate(panel.curves)
    ]


def run_colour(number: int) -> int:
    """The colour of one of several runs."""
    return number % (NUM_COLOURS - 1)


def _series(
    run: LoggedRun, curve: Curve, colour: int, dashed: bool = False, name: str = ""
) -> Series:
    """A curve of a run; its points are marked where they are few."""
    points = [(x, y * curve.factor) for x, y in run.points(curve.kind, curve.key)]
    few = len(points) <= 40
    return Series(curve.name, thinned(points), colour, dashed, dots=few, run=name)
