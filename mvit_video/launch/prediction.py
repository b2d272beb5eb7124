"""Predicting over a long list as an array of jobs: tools/submit.py --predict, followed by what tools/predict.py takes.

Each shard predicts for every N-th input and notes each result as it is known, so that one that is stopped, killed or
submitted again goes on behind its last line. The last job brings the shards' results together, in input order.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from mvit_video.errors import InputError
from mvit_video.launch.cli import Parser
from mvit_video.launch.job import Job
from mvit_video.launch.predict_options import (
    add_predict_options,
    exit_code,
    make_recognizer,
    predict_request,
)
from mvit_video.launch.rank import log_to_stderr
from mvit_video.launch.steps import Step, request_of, submit_steps
from mvit_video.launch.stop import StopFlag
from mvit_video.predict.inputs import Inputs
from mvit_video.predict.run import predict_inputs
from mvit_video.predict.shards import merge_shards


@dataclass(frozen=True)
class PredictJob(Job):
    """Predicts for one shard of the inputs, in one process.

    Attributes:
        words: as tools/predict.py takes them.
        shard: counted from 1, of num_shards.
        cores: of this process; one for the model, the others for loader workers.
    """

    words: tuple[str, ...]
    shard: int
    num_shards: int
    cores: int

    def work(self, stop: StopFlag) -> int:
        log_to_stderr(0)
        torch.set_num_threads(self.cores)
        options = _parse(self.words)
        if options.workers is None:
            options.workers = max(self.cores - 1, 1)
        # A table is made of all shards.
        request = replace(predict_request(options), csv="", shard=(self.shard, self.num_shards))
        outcome = predict_inputs(request, make_recognizer(options), stop)
        print(
            f"shard {self.shard} of {self.num_shards}: {outcome.num_done} of {outcome.num_inputs} inputs have a result"
        )
        return exit_code(outcome)


@dataclass(frozen=True)
class MergePredictionsJob(Job):
    """Brings the results of all shards together."""

    words: tuple[str, ...]
    num_shards: int

    def work(self, stop: StopFlag) -> int:
        request = predict_request(_parse(self.words))
        try:
            outcome = merge_shards(request, self.num_shards)
        except InputError as error:
            raise InputError(
                f"{error}: the same command, perhaps with --only-shards NUMBER ..."
            ) from error
        print(
            f"{outcome.num_inputs} results in {request.json}, {outcome.num_failed} of them errors"
        )
        return exit_code(outcome)


def submit_prediction(options: argparse.Namespace, command: Sequence[str]) -> int:
    """Checks, then submits (or prints) an array of shards and the job that merges them; returns the exit code.

    Raises:
        InputError: what is wrong, before anything is submitted; or Slurm's reason.
    """
    words, num_shards = tuple(options.predict), options.shards or 1
    asked = _parse(words)
    request = predict_request(asked)
    if not request.json:
        raise InputError("--predict takes --json FILE, where the results go")
    num_inputs = len(Inputs.of(request.inputs, request.prefix))
    if num_shards > num_inputs:
        raise InputError(f"--shards {num_shards} of {num_inputs} inputs: take fewer")
    make_recognizer(asked, "cpu")
    here, asked_of_slurm = os.getcwd(), request_of(options)
    one = asked_of_slurm.one_process(f"{options.name}-predict")
    last = asked_of_slurm.one_process(f"{options.name}-merge", with_gpu=False)
    shards: list[Job] = [
        PredictJob(here, one.gpus_per_node, words, shard, num_shards, one.cpus_per_task)
        for shard in options.only_shards or range(1, num_shards + 1)
    ]
    merge: list[Job] = [MergePredictionsJob(here, 0, words, num_shards)]
    job_dir = options.job_dir or str(Path(request.json).parent / "jobs" / "%j")
    return submit_steps(
        options, [Step(one, shards), Step(last, merge, "afterany")], job_dir, [], command
    )


def _parse(words: Sequence[str]) -> argparse.Namespace:
    parser = Parser(prog="--predict")
    add_predict_options(parser)
    return parser.parse_args(words)
