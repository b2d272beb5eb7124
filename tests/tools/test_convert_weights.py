"""tools/convert_weights.py as a process."""

from __future__ import annotations

import torch

from mvit_video.weights import model_from_checkpoint, read_checkpoint
from tests.weights.small_models import IMAGE_V2, V1, weights_of


def test_an_image_model_is_inflated_into_a_file_that_says_so(run_tool, tmp_path):
    source, target = tmp_path / "image.pyth", tmp_path / "video.safetensors"
    torch.save({"model_state": weights_of(IMAGE_V2)}, source)
    names = tmp_path / "names.txt"
    names.write_text("\n".join("abcde"))
    done = run_tool(
        "convert_weights.py", source, target, "--num-frames", 8, "--init", "mean",
        "--time-padding", "replicate", "--class-names", names,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "8 frames, 5 classes, written as native from slowfast" in done.stdout
    checkpoint = read_checkpoint(target)
    assert checkpoint.record["converted"]["inflation"]["init"] == "mean"
    assert checkpoint.class_names == tuple("abcde")
    assert model_from_checkpoint(checkpoint).spec.num_frames == 8


def test_wrong_input_ends_with_one_message_and_writes_nothing(run_tool, tmp_path):
    target = tmp_path / "out.pth"
    missing = run_tool("convert_weights.py", tmp_path / "nothing.pyth", target)
    assert missing.returncode == 2 and "no such file" in missing.stderr
    source = tmp_path / "v1.pyth"
    weights = weights_of(V1)
    del weights["blocks.2.norm2.bias"]
    torch.save(weights, source)
    damaged = run_tool("convert_weights.py", source, target, "--to", "torchvision")
    assert damaged.returncode == 2 and "missing from the checkpoint" in damaged.stderr
    assert "Traceback" not in damaged.stderr + missing.stderr
    assert not target.exists()
