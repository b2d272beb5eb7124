"""A model's forward pass, or training step, against the same model by other hands."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from fvcore.common.config import CfgNode
from torch import Tensor, nn

from mvit_video.benchmark.measure import (
    alternate,
    in_fresh_process,
    matmul_job,
    median_and_spread,
    peak_resident_mib,
    ratio,
)
from mvit_video.build import build_model
from mvit_video.errors import InputError
from mvit_video.evaluate.scoring import autocast
from mvit_video.models.cost import TRAINING_STEP, count_multiply_adds, count_parameters

OURS = "mvit_video"
AGAINST = ("pytorchvideo", "materialised")


def benchmark_model(
    cfg: CfgNode,
    against: Sequence[str] = (),
    batch: int = 1,
    rounds: int = 7,
    training: bool = False,
) -> dict[str, Any]:
    """Times passes of the config's model, in alternation with those of other implementations of it.

    Args:
        cfg: TEST.PRECISION (TRAIN.PRECISION when training) and NUM_THREADS hold for all candidates.
        against: names of AGAINST.
        batch: clips per pass.
        rounds: timed passes of each candidate.
        training: forward and backward in training mode, instead of forward in inference mode.

    Returns:
        Plain values: the setting, one entry of `candidates` for each implementation, and one of `ratios` for each of
        `against`: its time and memory over ours.

    Raises:
        InputError: an implementation that does not have this model.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if cfg.NUM_THREADS:
        torch.set_num_threads(cfg.NUM_THREADS)
    precision = cfg.TRAIN.PRECISION if training else cfg.TEST.PRECISION
    names = (OURS, *against)
    passes = {name: _make_pass(cfg, name, batch, training, device) for name in names}
    matmul, matmul_multiply_adds = matmul_job(device, getattr(torch, precision))
    seconds = alternate({**passes, "matmul": matmul}, rounds, device)
    with torch.device("meta"):
        per_clip = count_multiply_adds(build_model(cfg), _clip_shape(cfg, 1))
    work = per_clip * batch * (TRAINING_STEP if training else 1)
    peak = [matmul_multiply_adds / taken for taken in seconds["matmul"]]
    candidates = {}
    for name in names:
        candidates[name] = {
            **_speed(seconds[name], batch),
            "share_of_matmul_peak": median_and_spread(
                [work / taken / p for taken, p in zip(seconds[name], peak, strict=True)]
            )[0],
            **_memory(cfg, name, batch, training, passes[name], device),
        }
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "pass": "training step" if training else "forward",
        "precision": precision,
        "clip": _clip_shape(cfg, batch),
        "rounds": rounds,
        "multiply_adds_per_clip": per_clip,
        "matmul_multiply_adds_per_second": median_and_spread(peak)[0],
        "candidates": candidates,
        "ratios": {name: _ratios(seconds, candidates, name) for name in against},
    }


def _make_pass(
    cfg: CfgNode, name: str, batch: int, training: bool, device: torch.device
) -> Callable[[], Any]:
    """A function that runs one pass of the named implementation."""
    torch.manual_seed(0)
    model = _build(cfg, name).to(device).train(training)
    clip = torch.randn(_clip_shape(cfg, batch), device=device)
    if training:
        return lambda: _training_pass(model, clip, cfg.TRAIN.PRECISION)
    return lambda: _forward_pass(model, clip, cfg.TEST.PRECISION)


@torch.inference_mode()
def _forward_pass(model: nn.Module, clip: Tensor, precision: str) -> None:
    with autocast(clip.device, precision):
        model(clip)


def _training_pass(model: nn.Module, clip: Tensor, precision: str) -> None:
    model.zero_grad(set_to_none=True)
    with autocast(clip.device, precision):
        loss = model(clip).float().square().mean()
    loss.backward()


def _build(cfg: CfgNode, name: str) -> nn.Module:
    if name == OURS:
        return build_model(cfg)
    # References live with the tests that hold the package against them, in a checkout and not in an installed package.
    try:
        pytorchvideo = importlib.import_module("tests.reference.pytorchvideo_mvit")
        materialised = importlib.import_module("tests.reference.materialised")
    except ModuleNotFoundError as error:
        raise InputError(
            f"--against {name} needs {error.name}, from a checkout with tests/reference"
        ) from error
    with torch.device("meta"):
        ours = build_model(cfg)
    if cfg.MODEL.MODEL_NAME != "MViT":
        raise InputError(
            f"--against {name} has MViT only, MODEL.MODEL_NAME is {cfg.MODEL.MODEL_NAME}"
        )
    theirs = (
        pytorchvideo.build(ours.spec)
        if name == "pytorchvideo"
        else materialised.MaterialisedMViT(ours.spec)
    )
    if count_parameters(theirs) != count_parameters(ours):
        raise InputError(
            f"{name} does not have this model: its nearest has {count_parameters(theirs):,} parameters, "
            f"not {count_parameters(ours):,} (pytorchvideo has MViT v1 only)"
        )
    return theirs


def _clip_shape(cfg: CfgNode, batch: int) -> tuple[int, ...]:
    size = cfg.DATA.TRAIN_CROP_SIZE
    return batch, 3, cfg.DATA.NUM_FRAMES, size, size


def _speed(seconds: list[float], batch: int) -> dict[str, float]:
    median, spread = median_and_spread(seconds)
    return {
        "clips_per_second": batch / median,
        "ms_per_clip": 1000 * median / batch,
        "spread": spread,
        "best_ms_per_clip": 1000 * min(seconds) / batch,
    }


def _memory(
    cfg: CfgNode,
    name: str,
    batch: int,
    training: bool,
    run_pass: Callable[[], Any],
    device: torch.device,
) -> dict[str, float]:
    """Peak memory in MiB, of a process that does two passes and no more, or of the GPU; and what the passes added."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device) / 2**20
        run_pass()
        peak = torch.cuda.max_memory_allocated(device) / 2**20
    else:
        before, peak = in_fresh_process(_resident_before_and_peak, cfg, name, batch, training)
    return {"peak_memory_mib": peak, "pass_memory_mib": peak - before}


def _resident_before_and_peak(
    cfg: CfgNode, name: str, batch: int, training: bool
) -> tuple[float, float]:
    if cfg.NUM_THREADS:
        torch.set_num_threads(cfg.NUM_THREADS)
    run_pass = _make_pass(cfg, name, batch, training, torch.device("cpu"))
    before = peak_resident_mib()
    for _ in range(2):  # in training, the second pass meets the first one's gradients
        run_pass()
    return before, peak_resident_mib()


def _ratios(
    seconds: dict[str, list[float]], candidates: dict[str, dict[str, float]], name: str
) -> dict[str, float]:
    """How many times our time and memory the other implementation takes."""
    memory = {
        kind: candidates[name][f"{kind}_mib"] / candidates[OURS][f"{kind}_mib"]
        for kind in ("peak_memory", "pass_memory")
    }
    return {**ratio(seconds[name], seconds[OURS]), **memory}
