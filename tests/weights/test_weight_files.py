"""Whatever lies under a name: it is read as data, or refused with one clear message."""

from __future__ import annotations

import argparse
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mvit_video.errors import InputError
from mvit_video.weights.files import read_file


class WantsToRun:
    """Runs a command when a careless reader unpickles it."""

    def __init__(self, witness: Path) -> None:
        self.witness = str(witness)

    def __reduce__(self) -> tuple:
        return os.mkdir, (self.witness,)


@pytest.mark.parametrize("zipped", [True, False])
def test_torch_files_are_read_with_the_plain_values_beside_the_weights(
    tmp_path: Path, zipped: bool
) -> None:
    path = tmp_path / "weights.pth"
    saved = {
        "model": {"w": torch.arange(6.0)},
        "args": argparse.Namespace(lr=0.1),
        "best": np.float64(81.0),
        "epoch": np.int64(3),
    }
    torch.save(saved, path, _use_new_zipfile_serialization=zipped)
    found, metadata = read_file(path)
    assert torch.equal(found["model"]["w"], torch.arange(6.0))
    assert found["best"] == 81.0 and found["args"].lr == 0.1 and metadata == {}


def test_safetensors_are_known_by_content_not_by_name(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    save_file({"w": torch.ones(3)}, path, metadata={"who": "me"})
    found, metadata = read_file(path)
    assert torch.equal(found["w"], torch.ones(3)) and metadata == {"who": "me"}


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_wants_to_run_code_is_refused_and_does_not_run(
    tmp_path: Path, zipped: bool
) -> None:
    path, witness = tmp_path / "evil.pyth", tmp_path / "it_ran"
    saved = {"model_state": {"w": torch.ones(3)}, "cfg": WantsToRun(witness)}
    torch.save(saved, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(InputError, match=r"wants to run \w+\.mkdir"):
        read_file(path)
    assert not witness.exists()


def test_a_bare_pickle_is_refused_and_does_not_run(tmp_path: Path) -> None:
    path, witness = tmp_path / "evil.pth", tmp_path / "it_ran"
    path.write_bytes(pickle.dumps(WantsToRun(witness)))
    with pytest.raises(InputError, match="could run code"):
        read_file(path)
    assert not witness.exists()


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.99])
def test_a_truncated_file_is_refused(tmp_path: Path, kind: str, share: float) -> None:
    path = tmp_path / "weights.pth"
    weights = {"w": torch.randn(10_000)}
    if kind == "safetensors":
        save_file(weights, path)
    else:
        torch.save(weights, path, _use_new_zipfile_serialization=kind == "zip")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(InputError, match="damaged or was cut off"):
        read_file(path)


def test_a_flipped_bit_is_found(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"w": torch.randn(10_000)}, path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="does not match its checksum"):
        read_file(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<!DOCTYPE html><html><body>Sign in</body></html>", "web page"),
        (b"\n <html>quota exceeded</html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
        (b"\x1f\x8b\x08\x00\x00", "compressed archive"),
        (b"", "empty"),
        (b"weights: 3\n", "starts with b'weights: 3"),
    ],
)
def test_what_is_no_weight_file_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_file(path)


def test_a_whole_pickled_model_and_a_program_are_refused(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "model.pth")
    with pytest.raises(InputError, match=r"wants to run torch\.nn\.modules\.linear\.Linear"):
        read_file(tmp_path / "model.pth")
    torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)).save(tmp_path / "program.pt")
    with pytest.raises(InputError, match="TorchScript"):
        read_file(tmp_path / "program.pt")


def test_no_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_file(tmp_path / "nothing.pth")
    with pytest.raises(InputError, match="is a folder"):
        read_file(tmp_path)
