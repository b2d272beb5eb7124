"""What Slurm says to a task of a job step: which one it is, and where the first task is to be found."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping

from mvit_video.errors import InputError

_PORTS = range(12_000, 32_000)  # below those that systems give to outgoing connections


def expand_counts(text: str) -> list[int]:
    """Tasks of each node, from Slurm's short form: "2(x3),1" is [2, 2, 2, 1]."""
    counts: list[int] = []
    for item in text.split(","):
        found = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", item)
        if found is None:
            raise InputError(f"SLURM_STEP_TASKS_PER_NODE is {text!r}, not like '2(x3),1'")
        counts += [int(found[1])] * int(found[2] or 1)
    return counts


def expand_hosts(text: str) -> list[str]:
    """Names of the nodes, from Slurm's short form: "gpu[01-03],big" is gpu01, gpu02, gpu03, big."""
    hosts: list[str] = []
    for group in re.findall(r"(?:[^,\[]|\[[^\]]*\])+", text):
        names = [""]
        for plain, ranges in re.findall(r"([^\[]+)|\[([^\]]*)\]", group):
            endings = [plain] if plain else [n for item in ranges.split(",") for n in _range(item)]
            names = [name + ending for name in names for ending in endings]
        hosts += names
    return hosts


def _range(text: str) -> list[str]:
    first, _, last = text.partition("-")
    last = last or first
    return [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]


def meeting_port(environment: Mapping[str, str]) -> int:
    """A port for this step, the same for all its tasks; another one when the job is requeued."""
    names = ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT")
    seed = "/".join(environment.get(name, "0") for name in names)
    return random.Random(seed).choice(_PORTS)
