"""Jobs that go wrong in ways that a config cannot ask for. They run from this checkout."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

from mvit_video.errors import InputError
from mvit_video.launch.job import Job
from mvit_video.launch.phases import STOPPED
from mvit_video.launch.stop import StopFlag


@dataclass(frozen=True)
class WrongOnOneRank(Job):
    """Like a list that one node does not see: the other ranks are at work, and save when they are ended."""

    rank: int

    def work(self, stop: StopFlag) -> int:
        if int(os.environ["SLURM_PROCID"]) == self.rank:
            time.sleep(2)
            raise InputError("there is no list here")
        while not stop.requested:
            time.sleep(0.1)
        return STOPPED
