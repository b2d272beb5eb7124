"""Jobs that go wrong in ways that a config cannot ask for. They run from this checkout."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from datetime import timedelta

from mvit_video.errors import InputError
from mvit_video.launch.job import Job
from mvit_video.launch.meeting import meeting_store, roll_call
from mvit_video.launch.phases import STOPPED
from mvit_video.launch.place import place_from_environment
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


@dataclass(frozen=True)
class OneRankHangs(Job):
    """As on a node whose file system hangs: one rank never comes to where they meet."""

    rank: int

    def work(self, stop: StopFlag) -> int:
        place = place_from_environment(os.environ)
        if place.rank == self.rank:
            time.sleep(600)
        store = meeting_store(place.rank, place.size, place.address)
        roll_call(store, place.rank, place.size, timedelta(seconds=5))
        raise AssertionError("all ranks came")
