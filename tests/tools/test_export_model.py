"""tools/export_model.py as a process."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from mvit_video.build import build_model
from mvit_video.data import demo
from mvit_video.data.preprocessing import Preprocessing
from mvit_video.weights.native import save_native
from tests.conftest import REPOSITORY

pytestmark = pytest.mark.slow

FED = Preprocessing(
    8, 4, "slowfast", 30.0, 64, 48, (0.45, 0.45, 0.45), (0.225, 0.225, 0.225), False
)


@pytest.fixture
def checkpoint(tmp_path):
    model = build_model("CLOFORMER_TINY", num_classes=12, num_frames=8, crop_size=48)
    path = tmp_path / "tiny.safetensors"
    save_native(model, path, family="CloFormer", preprocessing=FED.to_dict())
    return path


def test_it_exports_checks_and_measures(run_tool, checkpoint, tmp_path):
    for label in (0, 4):
        demo.write_video(tmp_path / f"it's {label}.mp4", f"video {label}", label)
    (tmp_path / "list.csv").write_text("it's 0.mp4 0\nit's 4.mp4 4\n")
    clips = [tmp_path / f"it's {label}.mp4" for label in (0, 4)]
    done = run_tool(
        "export_model.py", "--checkpoint", checkpoint, "--to", "onnx", "--int8", "--clips", *clips,
        "--measure", tmp_path / "list.csv", "--path-prefix", tmp_path, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr and "Warning" not in done.stderr
    for words in (
        "tiny.onnx: ",
        "described in tiny.onnx.json",
        "checked on 2 given clips",
        "in int8 they differ by ",
        "onnxruntime takes ",
        "top-1 on 2 videos",
    ):
        assert words in done.stdout
    assert (tmp_path / "tiny.onnx").exists() and (tmp_path / "tiny.onnx.json").exists()


def test_a_config_alone_is_a_model_that_is_not_trained(run_tool, tmp_path):
    done = run_tool(
        "export_model.py",
        "--cfg",
        "configs/demo/CLOFORMER_TINY_8x4.yaml",
        "--to",
        "pt2",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "drawn at random" in done.stdout
    assert (tmp_path / "CLOFORMER_TINY_8x4.pt2").exists()


def test_a_wrong_graph_is_exit_code_1_and_no_file(checkpoint, tmp_path):
    tool = REPOSITORY / "tools" / "export_model.py"
    words = ["--checkpoint", str(checkpoint), "--to", "pt2", "--out", str(tmp_path / "x.pt2")]
    program = (
        "import runpy, sys; import mvit_video.predict.export as export; export.TOLERANCE = -1.0; "
        f"sys.argv[1:] = {words!r}; runpy.run_path({str(tool)!r}, run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "logits differ" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "x.pt2").exists()


def test_wrong_input_is_exit_code_2(run_tool, checkpoint, tmp_path):
    words = ("export_model.py", "--checkpoint", checkpoint, "--to", "pt2")
    for more, message in (
        (("--measure", tmp_path / "none.csv"), "there is no list"),
        (("--clips", tmp_path / "none.mp4"), "--clips: "),
        (("--int8",), "int8 is for ONNX alone"),
    ):
        done = run_tool(*words, *more)
        assert done.returncode == 2, done.stdout
        assert message in done.stderr and "Traceback" not in done.stderr
