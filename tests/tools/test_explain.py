"""tools/explain.py as a process."""

from __future__ import annotations

import pytest
from PIL import Image

from mvit_video.build import build_model
from mvit_video.data import demo
from mvit_video.data.preprocessing import Preprocessing
from mvit_video.weights.native import save_native

NAMES = tuple(f"class {i}\x1b[31m" for i in range(12))
FED = Preprocessing(
    8, 4, "slowfast", 30.0, 64, 48, (0.45,) * 3, (0.225,) * 3, False, class_names=NAMES
)


@pytest.fixture
def words(tmp_path):
    """The command up to its options."""
    model = build_model("DUALVIT_TINY", num_classes=12, num_frames=8, crop_size=48)
    checkpoint, video = tmp_path / "tiny.safetensors", tmp_path / "it's; a 'video'.mp4"
    save_native(model, checkpoint, family="DualViT", preprocessing=FED.to_dict(), class_names=NAMES)
    demo.write_video(video, "explained", 3)
    return ("explain.py", video, "--checkpoint", checkpoint)


def test_it_draws_a_strip(run_tool, words, tmp_path):
    done = run_tool(*words, "--out", tmp_path / "new folder" / "strip.png")
    assert done.returncode == 0, done.stderr
    assert "semantic token" in done.stdout and "\x1b" not in done.stdout
    assert Image.open(tmp_path / "new folder" / "strip.png").width == 6 + 8 * 166


@pytest.mark.slow
def test_it_draws_a_video_for_a_class_by_name(run_tool, words, tmp_path):
    chosen = ("--method", "cam", "--class", NAMES[7], "--level", 1, "--clip", 0.2, 1.3)
    done = run_tool(*words, "--out", tmp_path / "heat.mp4", *chosen)
    assert done.returncode == 0, done.stderr
    assert "for class 7" in done.stdout and "level 1" in done.stdout
    assert (tmp_path / "heat.mp4").stat().st_size > 1000


@pytest.mark.slow
def test_wrong_input_is_told_and_writes_nothing(run_tool, words, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    out = tmp_path / "out.png"
    for command, code, message in (
        ((*words, "--out", tmp_path / "out.gif"), 2, "ends in .png or .mp4"),
        ((*words, "--out", out, "--method", "rollout"), 2, "rollout is for MViT"),
        ((*words, "--out", out, "--method", "cam", "--class", "yoga"), 2, "no class of this name"),
        ((*words, "--out", out, "--clip", "3", "2"), 2, "0 <= begin < end"),
        ((words[0], broken, *words[2:], "--out", out), 1, "broken.mp4"),
        ((*words, "--out", broken / "out.png"), 2, "cannot be written"),
    ):
        done = run_tool(*command)
        assert done.returncode == code, done.stderr
        assert message in done.stderr and "Traceback" not in done.stderr
    assert not out.exists()
