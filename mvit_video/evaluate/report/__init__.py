"""The report: a run and its test as one page that needs nothing else, and curves of several runs side by side."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from fvcore.common.config import CfgNode

from mvit_video.errors import InputError
from mvit_video.evaluate.predictions import load
from mvit_video.evaluate.report.contents import (
    changed_keys,
    read_bad_videos,
    read_config,
    read_environments,
    test_contents,
    tested_ensemble,
)
from mvit_video.evaluate.report.curves import draw_curves
from mvit_video.evaluate.report.render import write_page
from mvit_video.evaluate.report.run_log import read_run_log
from mvit_video.run_folder import LOG_FILE, PREDICTIONS_FILE, REPORT_FILE, TEST_FOLDER

__all__ = ["write_curves", "write_report"]


def write_report(output_dir: str | os.PathLike[str], cfg: CfgNode | None = None) -> Path:
    """Writes OUTPUT_DIR/report.html from what a run has left there: its log, its predictions, or both.

    Args:
        cfg: of the test; None to read it from the folder. It says where the videos are, for their pictures.

    Returns:
        Where the report lies.

    Raises:
        InputError: the folder holds neither a log nor predictions, one of them is damaged, or the folder is read-only.
    """
    folder = Path(output_dir)
    predictions = folder / TEST_FOLDER / PREDICTIONS_FILE
    has_log, has_test = (folder / LOG_FILE).is_file(), predictions.is_file()
    if not has_log and not has_test:
        raise InputError(
            f"{folder}: there is neither {LOG_FILE} (a training) nor {TEST_FOLDER}/{PREDICTIONS_FILE} (a test); "
            "give the OUTPUT_DIR of a run"
        )
    cfg, text = (cfg, cfg.dump()) if cfg is not None else read_config(folder)
    run = read_run_log(folder) if has_log else None
    values: dict[str, Any] = {
        "name": folder.resolve().name,
        "written": _now(),
        "run": run,
        "curves": draw_curves([run]) if run else [],
        "test": None,
        "config": cfg,
        "config_text": text,
        "changed": changed_keys(cfg),
        "bad_videos": read_bad_videos(folder),
        "environments": read_environments(folder),
    }
    if has_test:
        ensemble = tested_ensemble(folder, cfg)
        values["test"] = test_contents(load(predictions), ensemble, cfg)
    write_page(folder / REPORT_FILE, "report.html", **values)
    return folder / REPORT_FILE


def write_curves(output_dirs: Sequence[str | os.PathLike[str]], picture: Path, page: Path) -> None:
    """Draws the curves of one or several runs into one picture (SVG) and one page.

    Raises:
        InputError: a folder has no log, or no log has anything to draw yet.
    """
    runs = [read_run_log(folder) for folder in output_dirs]
    charts = draw_curves(runs)
    if not charts:
        raise InputError(f"nothing is logged yet in {', '.join(run.name for run in runs)}")
    write_page(picture, "curves.svg", charts=charts, runs=runs)
    write_page(page, "curves.html", charts=charts, runs=runs, written=_now())


def _now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
