"""A model as one file that runs without this package: torch.export's pt2, or ONNX.

    torch.export.load("best.pt2").module()(clip)                        torch alone
    onnxruntime.InferenceSession("best.onnx").run(None, {"clip": clip})

The graph takes any number of normalised clips and gives logits. How a video becomes a clip is described in words and
numbers, with the class names, in a JSON file beside it and in the file's own metadata. A file appears only once it has
been loaded and has given the eager model's logits.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from mvit_video.data.preprocessing import Preprocessing
from mvit_video.errors import InputError
from mvit_video.files import atomic_file

FORMATS = ("pt2", "onnx")
TOLERANCE = 1e-4
"""Most that logits may differ from the eager model's, as a share of the largest of them."""

Run = Callable[[Tensor], Tensor]
"""Clips (B, 3, T, H, W) to logits (B, num_classes)."""

_ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
_ONNX_BYTES = 2**31 - 2**24  # a protobuf holds 2 GiB; some of it is graph


class ExportMismatch(Exception):
    """The exported graph does not compute what the model computes."""


@dataclass(frozen=True)
class Export:
    """A file that was written, and what it was held to.

    Attributes:
        path, description: the file, and the JSON file beside it.
        run: the file, loaded.
        difference: largest difference of the graph's logits to the eager model's, as a share of the largest logit.
        int8_difference: the same after its matrices were made int8; None where they were not.
    """

    path: Path
    description: Path
    run: Run = field(repr=False)
    difference: float
    int8_difference: float | None = None


def export_model(
    model: nn.Module,
    preprocessing: Preprocessing,
    target: str | os.PathLike[str],
    to: str,
    clips: Tensor,
    int8: bool = False,
) -> Export:
    """Writes a model as a file that runs without this package, and the description of its clips beside it.

    Args:
        model: any model of ours, in eval mode, on the CPU.
        preprocessing: the model's own.
        target: file to write; one that exists is replaced once the new one is whole and right.
        to: "pt2" or "onnx".
        clips: (B, 3, T, H, W) normalised, that the file is checked on, as one batch and one by one.
        int8: after the check, hold the linear layers' weights in int8, and compute with them in int8 (ONNX alone).

    Raises:
        ExportMismatch: logits differ by more than TOLERANCE; nothing was written.
        InputError: a package is missing, the format cannot hold this, or the file cannot be written.
    """
    target = Path(target)
    _check_request(model, target, to, int8)
    description = describe(model, preprocessing, int8)
    with TemporaryDirectory() as folder:
        draft = Path(folder, f"model.{to}")
        with _quiet(), torch.no_grad():
            program = _trace(model, clips[0])
            (_save_pt2 if to == "pt2" else _save_onnx)(program, draft, description)
        difference = largest_difference(load_exported(draft), model, clips)
        if not difference <= TOLERANCE:
            raise ExportMismatch(
                f"the exported graph's logits differ from the model's by {difference:.1e} of the largest; at most "
                f"{TOLERANCE:.0e} is allowed, so {target} was not written"
            )
        int8_difference = None
        if int8:
            draft = _to_int8(draft, Path(folder, "int8.onnx"))
            int8_difference = largest_difference(load_exported(draft), model, clips)
        beside = _put(draft, target, description)
        return Export(target, beside, load_exported(draft), difference, int8_difference)


def load_exported(path: Path) -> Run:
    """An exported file as a function, on the CPU, with as many threads as torch uses."""
    if path.suffix == ".pt2":
        return torch.export.load(path).module()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda clips: torch.from_numpy(session.run(None, {"clip": clips.numpy()})[0])


@torch.no_grad()
def largest_difference(run: Run, model: nn.Module, clips: Tensor) -> float:
    """Of logits, as a share of the model's largest, over the clips as one batch and one by one."""
    wanted = model(clips)
    found = torch.stack([run(clips), torch.cat([run(clip[None]) for clip in clips])])
    return ((found - wanted).abs().max() / wanted.abs().max()).item()


def describe(model: nn.Module, preprocessing: Preprocessing, int8: bool = False) -> dict[str, Any]:
    """What a user of the file must know, as plain values: its input, its output, and the way from a video to a clip."""
    clip = [3, preprocessing.num_frames, preprocessing.crop_size, preprocessing.crop_size]
    values = preprocessing.to_dict()
    names = values.pop("class_names")
    return {
        "model": type(model).__name__,
        "linear_layers": "int8" if int8 else "float32",
        "input": {"name": "clip", "type": "float32", "shape": ["batch", *clip]},
        "output": {"name": "logits", "type": "float32", "shape": ["batch", model.spec.num_classes]},
        "steps": _steps(preprocessing),
        "preprocessing": values,
        "class_names": names,
    }


def _steps(p: Preprocessing) -> list[str]:
    """From a video to scores, for a reader who has only the file."""
    seconds = p.num_frames * p.sampling_rate / p.target_fps
    frames = {
        "slowfast": f"Take {p.num_frames} frames evenly, both ends included, over {seconds:.4g} s in the middle of the "
        "video, each position rounded down to a frame; past the video's end repeat its last frame.",
        "stride": f"Take {p.num_frames} frames, one in every {p.sampling_rate}, in the middle of the video; past its "
        "end repeat its last frame.",
        "segments": f"Cut the video into {p.num_frames} equal parts and take the middle frame of each.",
    }
    return [
        frames[p.sampling],
        f"Scale the frames (RGB, uint8; bilinear, no antialiasing) until the short side is {p.short_side} pixels, and "
        f"cut out the {p.crop_size} x {p.crop_size} pixels in their centre.",
        *(["Reverse the channels: BGR."] if p.reverse_channels else []),
        f"Divide by 255, subtract the mean {list(p.mean)}, divide by the deviation {list(p.std)}, channel by channel.",
        "Order the axes: batch, channel, frame, row, column.",
        "The softmax of the logits is the score of each class; over several clips of a video, scores are averaged.",
    ]


def _put(draft: Path, target: Path, description: dict[str, Any]) -> Path:
    """Copies the finished file to its place; writes the description beside it, and returns where."""
    beside = target.with_name(f"{target.name}.json")
    try:
        with open(draft, "rb") as source, atomic_file(target) as file:
            shutil.copyfileobj(source, file)
        with atomic_file(beside) as file:
            file.write(json.dumps(description, indent=2, ensure_ascii=False).encode())
    except OSError as error:
        raise InputError(f"{target} cannot be written: {error.strerror}") from error
    return beside


def _check_request(model: nn.Module, target: Path, to: str, int8: bool) -> None:
    if target.is_dir():
        raise InputError(f"{target} is a folder; give the file to write")
    if to not in FORMATS:
        raise InputError(f"a model is not exported to {to!r}; choose one of {', '.join(FORMATS)}")
    if to == "pt2":
        if int8:
            # torch.ao's quantised layers, deprecated, cannot be exported.
            raise InputError("int8 is for ONNX alone; export to onnx, or leave int8 out")
        return
    missing = [name for name in _ONNX_PACKAGES if find_spec(name) is None]
    if missing:
        raise InputError(
            f"export to ONNX needs {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed: "
            "pip install 'mvit-video[export]'"
        )
    num_bytes = sum(t.numel() * t.element_size() for t in model.state_dict().values())
    if num_bytes > _ONNX_BYTES:
        raise InputError(
            f"the model's weights are {num_bytes / 2**30:.1f} GiB, and an ONNX file holds 2; export to pt2"
        )


def _trace(model: nn.Module, clip: Tensor) -> ExportedProgram:
    batch = torch.stack((clip, clip))  # a batch of one would be taken for a constant
    return torch.export.export(model, (batch,), dynamic_shapes=({0: Dim.DYNAMIC},), strict=False)


def _save_pt2(program: ExportedProgram, path: Path, description: dict[str, Any]) -> None:
    torch.export.save(program, path, extra_files=_as_text(description))


def _save_onnx(program: ExportedProgram, path: Path, description: dict[str, Any]) -> None:
    names = {"input_names": ["clip"], "output_names": ["logits"]}
    onnx_program = torch.onnx.export(program, dynamo=True, verbose=False, **names)
    graph = onnx_program.model.graph
    for value in (*graph.inputs, *graph.outputs):
        value.shape[0] = "batch"
    onnx_program.model.metadata_props.update(_as_text(description))
    onnx_program.save(path)


def _to_int8(source: Path, target: Path) -> Path:
    """Matrix products with a weight computed in int8, the ranges of what they multiply found as they run."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    graph = onnx.load(source)
    del graph.graph.value_info[
        :
    ]  # the quantiser takes the weights' old names in it for contradictions
    # Unsigned: on processors without VNNI signed weights saturate (measured here: eight times the error).
    # Convolutions stay as they are: in int8 they run at a third of their speed.
    with _quiet():
        quantize_dynamic(
            graph, target, op_types_to_quantize=["MatMul", "Gemm"], weight_type=QuantType.QUInt8
        )
    return target


def _as_text(description: dict[str, Any]) -> dict[str, str]:
    """Metadata: every entry of the description as JSON."""
    return {key: json.dumps(value, ensure_ascii=False) for key, value in description.items()}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporters' notes on themselves (no torchvision, their own deprecations) are kept from the user."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
