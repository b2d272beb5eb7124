"""Shows that a run which is killed again and again ends with the bits of one that is not.

    python tools/kill_and_resume.py --cfg configs/demo/MVIT_XS_8x4.yaml --kills 10 OUTPUT_DIR output/kill

Trains twice: once undisturbed, and once killed with SIGKILL in the middle of random steps and started again each time.
Then compares weights, averaged weights, optimiser and position of the last checkpoints, bit for bit.
Exit codes: 0 the same bits, 1 other bits, 2 wrong input.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path

from fvcore.common.config import CfgNode

from mvit_video.errors import InputError
from mvit_video.launch.cli import (
    Parser,
    add_config_arguments,
    parse_with_config,
    positive_int,
    run_tool,
)
from mvit_video.train.checkpoint import (
    checkpoint_files,
    checkpoints_folder,
    differences,
    read_training_checkpoint,
)

_RUN_NET = Path(__file__).with_name("run_net.py")
_COMPARED = ("model", "ema", "optimizer", "scaler", "progress")
_LONGEST_DELAY = (
    0.5  # seconds after a step was logged, so that a kill may hit any part of the next one
)


def main() -> int:
    """Trains undisturbed, trains with kills, compares."""
    parser = Parser(__doc__)
    add_config_arguments(parser)
    parser.add_argument("--kills", type=positive_int, default=10, metavar="N", help="default 10")
    parser.add_argument("--seed", type=int, default=0, help="of the steps it is killed at")
    options, cfg = parse_with_config(parser)
    folder = Path(cfg.OUTPUT_DIR)
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"OUTPUT_DIR {folder} is not empty; name a new folder")
    undisturbed = _config_of(cfg, folder / "undisturbed")
    killed = _config_of(cfg, folder / "killed")
    _wait(_start(undisturbed))
    last = _last_step(undisturbed)
    chance = random.Random(options.seed)
    for step in sorted(chance.choices(range(1, last), k=options.kills)):
        _kill_at(killed, step, chance.uniform(0, _LONGEST_DELAY))
    _wait(_start(killed))
    return _compare(undisturbed, killed)


def _config_of(cfg: CfgNode, output: Path) -> Path:
    """Writes the config of a training into `output` that logs every step, and returns its path."""
    run = cfg.clone()
    run.defrost()
    run.OUTPUT_DIR, run.LOG_PERIOD, run.TEST.ENABLE = str(output), 1, False
    output.mkdir(parents=True)
    path = output / "run.yaml"
    path.write_text(run.dump())
    return path


def _start(config: Path) -> subprocess.Popen:
    with open(config.with_name("stderr.txt"), "a") as stderr:
        return subprocess.Popen(
            [sys.executable, str(_RUN_NET), "--cfg", str(config)], stderr=stderr
        )


def _wait(process: subprocess.Popen) -> None:
    if process.wait():
        command = " ".join(process.args)
        raise InputError(
            f"{command} ended with code {process.returncode}; see stderr.txt beside it"
        )


def _kill_at(config: Path, step: int, delay: float) -> None:
    """Starts the run and kills it `delay` seconds after update `step` was logged, or has been before."""
    process = _start(config)
    beginnings = _count(config, "start", "resume")
    while _count(config, "start", "resume") == beginnings or _last_step(config) < step:
        if process.poll() is not None:
            _wait(process)
            return  # it was done before the kill came
        time.sleep(0.01)
    time.sleep(delay)
    process.kill()
    process.wait()
    print(f"killed after step {_last_step(config)}", flush=True)


def _count(config: Path, *kinds: str) -> int:
    return sum(line["kind"] in kinds for line in _log_lines(config))


def _last_step(config: Path) -> int:
    return max((line["step"] for line in _log_lines(config) if line["kind"] == "step"), default=0)


def _log_lines(config: Path) -> list[dict]:
    path = config.with_name("log.jsonl")
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def _compare(undisturbed: Path, killed: Path) -> int:
    states = []
    for config in (undisturbed, killed):
        newest = checkpoint_files(checkpoints_folder(config.parent))[-1]
        saved = read_training_checkpoint(newest)
        states.append({key: saved[key] for key in _COMPARED})
    different = differences(*states)
    step = states[0]["progress"]["step"]
    if different:
        print(f"after {step} updates {len(different)} values differ: {', '.join(different[:10])}")
        return 1
    resumed = [line["step"] for line in _log_lines(killed) if line["kind"] == "resume"]
    print(f"went on from steps {', '.join(map(str, resumed))}")
    print(f"same bits after {step} updates: {', '.join(_COMPARED)}")
    return 0


if __name__ == "__main__":
    sys.exit(run_tool(main))
