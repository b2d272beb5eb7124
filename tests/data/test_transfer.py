"""Copies to the device beside its work."""

from __future__ import annotations

import pytest
import torch

from mvit_video.data.transfer import to_device


def test_on_the_cpu_nothing_is_copied() -> None:
    tensor = torch.arange(5, dtype=torch.uint8)
    assert to_device(tensor, "cpu").data_ptr() == tensor.data_ptr()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="copies beside work take a GPU")
def test_a_gpu_is_given_every_batch_whole_and_works_on_meanwhile() -> None:
    device = torch.device("cuda", torch.cuda.current_device())
    batches = [torch.full((1 << 24,), k, dtype=torch.uint8).pin_memory() for k in range(8)]
    work = torch.randn(4096, 4096, device=device)
    results = []
    for batch in batches:
        moved = to_device(batch, device)
        results.append(moved.float().mean())  # the memory of `moved` is free again at once
        for _ in range(4):
            work @ work
    assert [int(result) for result in results] == list(range(8))

    busy, copied = torch.cuda.Event(), torch.cuda.Event()
    for _ in range(200):
        work @ work
    busy.record()
    with torch.cuda.stream(torch.cuda.Stream(device)):  # one that does not wait for the work
        to_device(batches[0], device)
        copied.record()
    copied.synchronize()
    assert not busy.query()
