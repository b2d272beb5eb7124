"""From the loader to the device, while the device computes."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device | str) -> Tensor:
    """The tensor on `device`.

    A GPU gets it on a stream of its own: what was asked of the GPU before goes on meanwhile, what is asked of it
    afterwards waits. It takes page-locked memory (DATA_LOADER.PIN_MEMORY) for the copy to run beside the rest.
    """
    device = torch.device(device)
    if device.type != "cuda" or tensor.is_cuda:
        return tensor.to(device)
    copies, now = _copy_stream(device), torch.cuda.current_stream(device)
    with torch.cuda.stream(copies):
        moved = tensor.to(device, non_blocking=True)
    now.wait_stream(copies)
    moved.record_stream(now)  # its memory was taken on the other stream, and is in use on this one
    return moved


@cache
def _copy_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)
