"""Templates to pages that stand alone: nothing is fetched, and nothing that a run has named is ever markup or code.

Every value is escaped (autoescape), control characters are shown as escapes, and a content security policy lets no
script run but ours, known by its hash.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mvit_video.errors import InputError
from mvit_video.evaluate.report import chart
from mvit_video.evaluate.report.curves import run_colour
from mvit_video.files import atomic_file


def write_page(path: str | os.PathLike[str], template: str, **values: Any) -> None:
    """Renders a template of this package to a file, in one piece.

    Raises:
        InputError: it cannot be written there.
    """
    page = _environment().get_template(template).render(values).encode()
    try:
        with atomic_file(path) as file:
            file.write(page)
    except OSError as error:
        raise InputError(f"{os.fspath(path)} cannot be written: {error.strerror}") from error


def shown(value: Any) -> Any:
    """A string with its control characters, line breaks and text direction marks as visible escapes."""
    if type(value) is not str or value.isprintable():
        return value
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in value)


def percent(value: float | None, digits: int = 1) -> str:
    """ "85.6 %", or a dash for None."""
    return "\N{EN DASH}" if value is None else f"{value:.{digits}f} %"


def duration(seconds: float) -> str:
    """ "48 s", "12 min", "3.4 h" or "5.2 days"."""
    for size, unit in ((86400, "days"), (3600, "h")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"


def _readings(drawn: chart.Chart) -> list[dict[str, Any]]:
    """What one can point at in a chart, as the page's script reads it."""
    return [
        {"name": shown(line.series.full_name), "points": line.readings}
        for line in drawn.lines
        if line.readings
    ]


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("mvit_video.evaluate.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    names = ("colours.css", "chart.css", "page.css", "charts.js", "tables.js", "matrix.js")
    colour_style, chart_style, page_style, *scripts = (
        Markup(environment.loader.get_source(environment, name)[0]) for name in names
    )
    script = Markup("\n").join(scripts)
    light = dict(re.findall(r"--(\w+): ([^;]+);", colour_style.partition("@media")[0]))
    environment.globals.update(
        chart=chart,
        colours=light,
        style=colour_style + chart_style + page_style,
        picture_style=Markup(re.sub(r"var\(--(\w+)\)", lambda m: light[m[1]], chart_style)),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
    environment.filters.update(
        percent=percent,
        number=chart.number,
        run_colour=run_colour,
        duration=duration,
        readings=_readings,
    )
    return environment
