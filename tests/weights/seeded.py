"""Deterministic weights for a state dict, so that a parity fixture needs no weight file.

Every tensor is drawn from its own numpy PCG64 stream, seeded by the CRC-32 of its key, so the
weights depend on nothing but the keys and shapes listed in the fixture.
"""

import zlib

import numpy as np
import torch


def seeded_tensor(key: str, shape, seed: int = 0) -> torch.Tensor:
    """float32 tensor of `shape` drawn for `key`; norm scales near 1, variances positive."""
    rng = np.random.Generator(np.random.PCG64(zlib.crc32(key.encode()) + seed))
    x = rng.standard_normal(tuple(shape)).astype(np.float32)
    leaf = key.rsplit(".", 1)[-1]
    if leaf == "running_var":
        x = 0.5 + np.abs(x)
    elif leaf in ("running_mean", "bias"):
        x = 0.1 * x
    elif "rel_pos" in key:
        x = 0.3 * x
    elif key.endswith("cpe.proj.weight"):  # x + conv(x) in every layer: keep MPViT from exploding
        x = 0.05 * x
    elif len(shape) >= 2 and leaf == "weight":
        x = x / np.sqrt(np.prod(shape[1:]))
    elif len(shape) == 1 and leaf == "weight":
        x = 1 + 0.2 * x
    else:  # tokens, queries, position embeddings, layer scales
        x = 0.2 * x
    return torch.from_numpy(np.asarray(x, dtype=np.float32))


def seeded_state_dict(spec, seed: int = 0) -> dict:
    """`spec` is a list of [key, shape]; integer buffers (num_batches_tracked) become zeros."""
    out = {}
    for key, shape in spec:
        if key.endswith("num_batches_tracked"):
            out[key] = torch.zeros(tuple(shape), dtype=torch.int64)
        else:
            out[key] = seeded_tensor(key, shape, seed)
    return out


def seeded_input(shape, seed: int = 0) -> torch.Tensor:
    rng = np.random.Generator(np.random.PCG64(seed + 12345))
    return torch.from_numpy(rng.standard_normal(tuple(shape)).astype(np.float32))
