"""A candidate in a process of its own, so that it meets what it would meet alone.

Its peak memory is its own. And the allocator is set as whoever runs it would have it: ours keep the memory they free,
as runs, tests and predictions do (`processes.keep_freed_memory`), models by other hands take torch's default. Where
that is the difference, in the page faults of tensors above 32 MiB, it is one that users of either meet.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

import torch
from fvcore.common.config import CfgNode
from torch import Tensor, nn

from mvit_video.benchmark.candidates import BY_OTHER_HANDS, OURS, Candidate, make_candidate
from mvit_video.benchmark.measure import peak_resident_mib, wait_for
from mvit_video.errors import InputError
from mvit_video.evaluate.scoring import autocast
from mvit_video.models.cuda_graph import CudaGraphs
from mvit_video.processes import die_with_parent, keep_freed_memory


class Contestant:
    """A candidate that waits in its process for passes to do.

    Args:
        cfg: TEST.PRECISION (TRAIN.PRECISION when training) and NUM_THREADS hold; TEST.CUDA_GRAPHS for ours.
        name: of the candidate.
        batch: clips per pass.
        training: forward and backward in training mode, instead of forward in inference mode.

    Attributes:
        inputs, multiply_adds: of the candidate (`candidates.Candidate`).

    Raises:
        InputError: the candidate does not have this model.
    """

    def __init__(self, cfg: CfgNode, name: str, batch: int, training: bool) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, far_end = context.Pipe()
        arguments = (far_end, os.getpid(), cfg, name, batch, training)
        self._process = context.Process(target=_serve, args=arguments, name=name)
        self._process.start()
        far_end.close()
        self.inputs, self.multiply_adds = self._answer()

    def run_pass(self) -> None:
        """One pass, done when this returns."""
        self._ask("pass")

    def memory(self) -> dict[str, float]:
        """Peak memory of the passes so far in MiB, of the process or of the GPU, and what they added to the model."""
        return self._ask("memory")

    def close(self) -> None:
        """Ends the process."""
        with suppress(OSError):
            self._pipe.send("end")
        self._process.join()

    def _ask(self, what: str) -> Any:
        with suppress(OSError):  # who is gone does not answer either
            self._pipe.send(what)
        return self._answer()

    def _answer(self) -> Any:
        try:
            answer = self._pipe.recv()
        except (EOFError, OSError):
            self._process.join()
            raise InputError(
                f"{self._process.name} ended with exit code {self._process.exitcode} before its passes were done; -9 "
                "is what Linux does to a process where memory runs out: a smaller --batch needs less"
            ) from None
        if isinstance(answer, InputError):
            self._process.join()
            raise answer
        return answer


def _serve(
    pipe: Connection, parent: int, cfg: CfgNode, name: str, batch: int, training: bool
) -> None:
    die_with_parent(parent)
    if name not in BY_OTHER_HANDS:
        keep_freed_memory()
    if cfg.NUM_THREADS:
        torch.set_num_threads(cfg.NUM_THREADS)
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        candidate = make_candidate(cfg, name, batch)
    except InputError as error:
        pipe.send(error)
        return
    replayed = name == OURS and cfg.TEST.CUDA_GRAPHS
    run_pass = _make_pass(candidate, cfg, training, device, replayed)
    before = _peak_mib(device)
    pipe.send((candidate.inputs, candidate.multiply_adds))
    while (asked := pipe.recv()) != "end":
        if asked == "memory":
            peak = _peak_mib(device)
            pipe.send({"peak_memory_mib": peak, "pass_memory_mib": peak - before})
        else:
            run_pass()
            wait_for(device)
            pipe.send("done")


def _peak_mib(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return peak_resident_mib()


def _make_pass(
    candidate: Candidate, cfg: CfgNode, training: bool, device: torch.device, replayed: bool
) -> Callable[[], Any]:
    """A function that runs one pass of a candidate, a forward pass as a CUDA graph if it is to be `replayed`."""
    model = candidate.model.to(device).train(training)
    inputs = [torch.randn(shape, device=device) for shape in candidate.inputs]
    if training:
        return lambda: _training_pass(model, inputs, cfg.TRAIN.PRECISION)
    forward = CudaGraphs(model) if replayed else model
    return lambda: _forward_pass(forward, inputs, cfg.TEST.PRECISION)


@torch.inference_mode()
def _forward_pass(model: Callable[[Tensor], Tensor], inputs: list[Tensor], precision: str) -> None:
    for clip in inputs:
        with autocast(clip.device, precision):
            model(clip)


def _training_pass(model: nn.Module, inputs: list[Tensor], precision: str) -> None:
    model.zero_grad(set_to_none=True)
    for clip in inputs:
        with autocast(clip.device, precision):
            loss = model(clip).float().square().mean()
        loss.backward()
