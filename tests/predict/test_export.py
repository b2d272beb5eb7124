"""Exported files: what they compute and carry, that they need nothing of ours, that wrong ones are not written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mvit_video.build import build_model
from mvit_video.config import load_config
from mvit_video.data import demo
from mvit_video.data.preprocessing import Preprocessing
from mvit_video.errors import InputError
from mvit_video.models.mvit import MViT
from mvit_video.predict import export
from mvit_video.predict.export import TOLERANCE, ExportMismatch, describe, export_model
from mvit_video.predict.export_check import check_clips, compare_on_list, read_list
from mvit_video.predict.recognizer import Recognizer
from tests.tiny_run import TINY_MODEL, overrides
from tests.weights.small_models import V1, V2

FED = Preprocessing(
    num_frames=8,
    sampling_rate=4,
    sampling="slowfast",
    target_fps=30.0,
    short_side=72,
    crop_size=64,
    mean=(0.45, 0.4, 0.5),
    std=(0.225, 0.25, 0.2),
    reverse_channels=False,
    class_names=("a <b>", 'quote "c"', "d", "é", "f"),
)
MODELS = {
    "tiny": lambda: build_model(load_config(None, overrides(TINY_MODEL))),
    "MViT v1": lambda: MViT(V1),
    "MViT v2": lambda: MViT(V2),
    "DualViT": lambda: build_model("DUALVIT_TINY", num_classes=5, num_frames=8, aux_head=True),
    "MPViT": lambda: build_model("MPVIT_TINY", num_classes=5, num_frames=8, relative_time=True),
    "CloFormer": lambda: build_model("CLOFORMER_TINY", num_classes=5, num_frames=8),
}

# A user's program. It sees neither this package nor, for ONNX, torch.
_ALONE = """
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {hidden}:
            raise ImportError(name + " is hidden")
sys.meta_path.insert(0, Hidden())
import numpy as np
path, clips, out = sys.argv[1:]
clips = np.load(clips)
{load}
np.savez(out, metadata=np.array(metadata), **{{str(n): run(clips[:n]) for n in (1, 2, 3)}})
"""
_PT2 = """
import torch
metadata = {"steps": "", "preprocessing": "", "class_names": ""}
module = torch.export.load(path, extra_files=metadata).module()
run = lambda clips: module(torch.from_numpy(clips)).detach().numpy()
"""
_ONNX = """
import onnxruntime
session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
metadata = dict(session.get_modelmeta().custom_metadata_map)
run = lambda clips: session.run(["logits"], {"clip": clips})[0]
"""


def make(which: str) -> tuple[nn.Module, Preprocessing]:
    torch.manual_seed(0)
    model = MODELS[which]().eval()
    crop_size = TINY_MODEL["DATA.TEST_CROP_SIZE"] if which == "tiny" else FED.crop_size
    return model, replace(FED, num_frames=model.spec.num_frames, crop_size=crop_size)


def clips_for(fed: Preprocessing, number: int = 3) -> torch.Tensor:
    size = (number, 3, fed.num_frames, fed.crop_size, fed.crop_size)
    return torch.randn(size, generator=torch.Generator().manual_seed(1))


def run_alone(path, clips: torch.Tensor, folder) -> tuple[dict[str, str], dict[int, np.ndarray]]:
    """What a program without this package gets out of the file: its metadata, and logits by batch size."""
    np.save(folder / "clips.npy", clips.numpy())
    hidden, load = (
        ({"mvit_video"}, _PT2) if path.suffix == ".pt2" else ({"mvit_video", "torch"}, _ONNX)
    )
    words = [str(path), str(folder / "clips.npy"), str(folder / "logits.npz")]
    program = _ALONE.format(hidden=hidden, load=load)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    subprocess.run([sys.executable, "-c", program, *words], cwd=folder, check=True, env=environment)
    with np.load(folder / "logits.npz", allow_pickle=True) as found:
        return found["metadata"].item(), {n: found[str(n)] for n in (1, 2, 3)}


def check_export(which: str, to: str, folder) -> None:
    model, fed = make(which)
    clips = clips_for(fed)
    done = export_model(model, fed, folder / f"model.{to}", to, clips)
    assert done.difference <= TOLERANCE
    metadata, logits = run_alone(done.path, clips, folder)
    with torch.no_grad():
        wanted = model(clips).numpy()
    for number, found in logits.items():
        assert np.abs(found - wanted[:number]).max() <= TOLERANCE * np.abs(wanted).max()
    beside = json.loads(done.description.read_text())
    assert beside == describe(model, fed)
    for key in ("steps", "preprocessing", "class_names"):
        assert json.loads(metadata[key]) == beside[key]


@pytest.mark.parametrize("to", ["pt2", "onnx"])
def test_a_file_needs_nothing_of_this_package(to, tmp_path):
    check_export("tiny", to, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("which", "to"),
    [
        ("MViT v1", "pt2"),
        ("MViT v1", "onnx"),
        ("MViT v2", "pt2"),
        ("DualViT", "pt2"),
        ("DualViT", "onnx"),
        ("MPViT", "pt2"),
        ("MPViT", "onnx"),
        ("CloFormer", "pt2"),
        ("CloFormer", "onnx"),
    ],
)
def test_every_family_is_exported(which, to, tmp_path):
    check_export(which, to, tmp_path)


@pytest.mark.slow
def test_a_published_model_is_exported_at_its_own_size(tmp_path):
    torch.manual_seed(0)
    model = build_model("MVITv2_S_16x4").eval()
    fed = replace(FED, num_frames=16, short_side=256, crop_size=224, class_names=())
    done = export_model(model, fed, tmp_path / "s.onnx", "onnx", clips_for(fed, 1))
    assert done.difference <= TOLERANCE


@pytest.mark.slow
def test_int8_is_smaller_and_close(tmp_path):
    model, fed = make("MViT v2")
    clips = clips_for(fed)
    done = export_model(model, fed, tmp_path / "int8.onnx", "onnx", clips, int8=True)
    assert done.difference <= TOLERANCE < done.int8_difference < 0.05
    metadata, logits = run_alone(done.path, clips, tmp_path)
    assert json.loads(metadata["class_names"]) == list(fed.class_names)
    assert json.loads(metadata["linear_layers"]) == "int8"
    with torch.no_grad():
        wanted = model(clips).numpy()
    assert np.abs(logits[3] - wanted).max() < 0.05 * np.abs(wanted).max()
    graph = onnx.load(done.path).graph
    weights = [tensor for tensor in graph.initializer if len(tensor.dims) == 2]
    assert all(tensor.data_type == onnx.TensorProto.UINT8 for tensor in weights)


class Liar(nn.Module):
    """Computes one thing when it runs and another when it is traced."""

    def __init__(self, lie: float) -> None:
        super().__init__()
        self.spec, self.lie = V1, lie

    def forward(self, clip):
        logits = clip.mean(dim=(2, 3, 4))
        return logits + self.lie if torch.compiler.is_compiling() else logits


@pytest.mark.parametrize("lie", [1e-3, float("nan")])
def test_a_graph_that_computes_something_else_is_not_written(lie, tmp_path):
    (tmp_path / "model.pt2").write_text("what was there before")
    with pytest.raises(ExportMismatch, match="differ"):
        export_model(Liar(lie), FED, tmp_path / "model.pt2", "pt2", clips_for(FED))
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt2"]
    assert (tmp_path / "model.pt2").read_text() == "what was there before"
    assert export_model(Liar(0.0), FED, tmp_path / "m.pt2", "pt2", clips_for(FED)).difference == 0


def test_what_cannot_be_written_is_refused_before_any_work(tmp_path, monkeypatch):
    model, clips = Liar(0.0), clips_for(FED)
    with torch.device("meta"):
        huge = build_model("VIT_H_16x4")
    for arguments, message in (
        ((model, FED, tmp_path / "m", "tflite", clips), "choose one of pt2, onnx"),
        ((model, FED, tmp_path / "m", "pt2", clips, True), "int8 is for ONNX alone"),
        ((model, FED, tmp_path, "pt2", clips), "is a folder"),
        ((huge, FED, tmp_path / "m", "onnx", clips), "2.4 GiB, and an ONNX file holds 2"),
    ):
        with pytest.raises(InputError, match=message):
            export_model(*arguments)
    monkeypatch.setattr(export, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'mvit-video\[export\]'"):
        export_model(model, FED, tmp_path / "m", "onnx", clips)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        export_model(model, FED, tmp_path / "file" / "m.pt2", "pt2", clips)


def test_a_stranger_who_follows_the_steps_gets_the_clip():
    model, fed = make("MViT v1")
    fed = replace(fed, reverse_channels=True)
    recognizer = Recognizer(model, fed)
    frames = demo.render("a stranger's video", 3)
    told = describe(model, fed)
    assert Preprocessing.from_dict(told["preprocessing"] | {"class_names": fed.class_names}) == fed
    assert [step.split()[0] for step in told["steps"]] == [
        *("Take", "Scale", "Reverse", "Divide", "Order", "The"),
    ]
    assert "8 frames evenly, both ends included, over 1.067 s in the middle" in told["steps"][0]
    span = 32  # 1.067 s at 30 frames per second
    first = (len(frames) - span) // 2
    taken = torch.from_numpy(frames[[first + i * (span - 1) // 7 for i in range(8)]])
    scaled = F.interpolate(taken.permute(0, 3, 1, 2), (72, 90), mode="bilinear").float()
    cut = scaled[:, :, 4:68, 13:77].flip(1) / 255
    clip = (cut - torch.tensor(fed.mean)[:, None, None]) / torch.tensor(fed.std)[:, None, None]
    wanted = fed.normalise(recognizer.read(frames, views=(1, 1), fps=30).views())
    torch.testing.assert_close(clip.permute(1, 0, 2, 3)[None], wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("sampling", "words"),
    [("stride", "8 frames, one in every 4"), ("segments", "into 8 equal parts")],
)
def test_the_steps_say_which_frames_make_a_clip(sampling, words):
    model, fed = make("MViT v1")
    steps = describe(model, replace(fed, sampling=sampling))["steps"]
    assert words in steps[0] and not any("Reverse" in step for step in steps)


def test_without_videos_the_check_takes_clips_of_the_demo():
    model, fed = make("MViT v1")
    clips = check_clips(Recognizer(model, fed))
    assert clips.shape == (3, 3, 8, 64, 64)
    assert not torch.equal(clips[0], clips[1])


def test_a_comparison_counts_the_right_answers_and_names_what_it_left_out(tmp_path):
    model, fed = make("MViT v1")
    recognizer = Recognizer(model, fed)
    for label in (0, 1):
        demo.write_video(tmp_path / f"{label}.mp4", f"video {label}", label)
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    listing = tmp_path / "list.csv"
    listing.write_text("0.mp4 9\nbroken.mp4 1\n1.mp4 9\n")
    videos = read_list(listing, str(tmp_path))
    same = compare_on_list(recognizer, model, videos)
    assert (same.num_videos, same.model_top1, same.agreement) == (2, 0.0, 100.0)
    assert [video.video_id for video in same.undecodable] == ["broken.mp4"]
    other = compare_on_list(recognizer, lambda clips: -model(clips), videos)
    assert other.agreement == 0.0


def test_a_list_that_holds_nothing_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="there is no list"):
        read_list(tmp_path / "none.csv")
    (tmp_path / "empty.csv").write_text("\n")
    with pytest.raises(InputError, match="is empty"):
        read_list(tmp_path / "empty.csv")
    (tmp_path / "lost.csv").write_text("lost.mp4 0\n")
    with pytest.raises(InputError, match=r"none of the 1 videos .* lost.mp4"):
        compare_on_list(
            Recognizer(*make("MViT v1")), lambda clips: clips, read_list(tmp_path / "lost.csv")
        )
