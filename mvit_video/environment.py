"""What a run ran on: recorded beside its numbers, for the day when they cannot be had again."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
from datetime import datetime, timezone
from pathlib import Path

import torch

from mvit_video.files import atomic_file
from mvit_video.run_folder import ENVIRONMENT_FILE
from mvit_video.world import World

_PACKAGES = ("numpy", "av", "decord", "pytorchvideo", "fvcore", "submitit")
_REPOSITORY = Path(__file__).resolve().parent.parent


def write_environment(folder: str | os.PathLike[str], world: World) -> None:
    """Writes environment.json into the folder of a training or a test. On one rank only."""
    with atomic_file(Path(folder) / ENVIRONMENT_FILE) as file:
        file.write((json.dumps(describe_environment(world), indent=2) + "\n").encode())


def describe_environment(world: World) -> dict[str, str]:
    """Software, hardware and time, as text."""
    described = {
        "started": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "mvit-video": _own_version(),
        "torch": torch.__version__,
        "device": _device(world.device),
        "ranks": str(world.size),
        "python": platform.python_version(),
        "system": platform.platform(),
        "packages": ", ".join(
            f"{name} {version}" for name in _PACKAGES if (version := _version(name))
        ),
    }
    if world.device.type == "cuda":
        described["CUDA"] = f"{torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"
    return described


def _device(device: torch.device) -> str:
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"
    return f"{_processor()}, {torch.get_num_threads()} of {os.cpu_count()} threads per rank"


def _processor() -> str:
    """Its model where Linux tells, else its kind."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _own_version() -> str:
    """The version, with the commit where this is a checkout."""
    version = _version("mvit-video") or "not installed as a package"
    if not (_REPOSITORY / ".git").exists():
        return version
    command = ["git", "-C", str(_REPOSITORY), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):  # no git here, or not our folder
        return version
    return f"{version}, commit {done.stdout.strip()}"
