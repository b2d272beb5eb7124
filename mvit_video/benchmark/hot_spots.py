"""MViT's two hot spots alone, block by block: pooling of queries, keys and values, and the attention after it.

Each is timed in the form the models use, on tensors laid out as a model's are, and in the forms one would write
instead.
"""

from __future__ import annotations

import copy
import importlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from fvcore.common.config import CfgNode
from torch import Tensor, nn

from mvit_video.benchmark.measure import alternate, begin, median_and_spread, ratio, speed
from mvit_video.build import build_model
from mvit_video.errors import InputError
from mvit_video.evaluate.scoring import autocast
from mvit_video.layers.attention import attention
from mvit_video.layers.pieces import takes_pieces
from mvit_video.models.mvit import MultiScaleAttention, fuse_pooling
from mvit_video.models.mvit_spec import BlockSpec, MViTSpec

OURS = "mvit_video"
POOLING_AGAINST = ("materialised", "triton")
ATTENTION_AGAINST = ("materialised", "masked", "flex")

Made = tuple[Callable[[], Any], list[Tensor]]  # a pass, and what gets a gradient in it
Make = Callable[[str, MultiScaleAttention, MViTSpec, BlockSpec, int, torch.dtype], Made]


def benchmark_attention(
    cfg: CfgNode,
    against: Sequence[str] = (),
    batch: int = 1,
    rounds: int = 7,
    training: bool = False,
) -> dict[str, Any]:
    """Times the attention of pooled q, k and v, relative positions included.

    materialised: the textbook's matrix of logits; masked: torch's fused attention with the relative positions as a
    full mask; flex: torch's FlexAttention, compiled, which adds them entry by entry.

    Args:
        cfg: of an MViT; precision and threads as in `benchmark_model`.
        against: names of ATTENTION_AGAINST (POOLING_AGAINST for the pools).
        batch: clips per pass.
        rounds: timed passes of each candidate.
        training: forward and backward, instead of forward in inference mode.

    Returns:
        Plain values: `candidates` and `ratios` of all blocks together as in `benchmark_model`, and `blocks`, a row
        for each kind of block: how many there are, the grid, width and heads, ms and ratios.

    Raises:
        InputError: the config's model is not an MViT.
    """
    return _benchmark(cfg, _attention, against, batch, rounds, training)


def benchmark_pooling(
    cfg: CfgNode,
    against: Sequence[str] = (),
    batch: int = 1,
    rounds: int = 7,
    training: bool = False,
) -> dict[str, Any]:
    """Times the pools of q, k and v with their norms, from the fused projection's output to the attention's input.

    materialised: heads moved into the batch, channels first, torch's own convolution, and back; triton: one kernel
    for each pool and its norm, on a GPU (MVIT.POOL_BACKEND).

    Arguments, results and errors as of `benchmark_attention`.
    """
    return _benchmark(cfg, _pooling, against, batch, rounds, training)


def _benchmark(
    cfg: CfgNode,
    make: Make,
    against: Sequence[str],
    batch: int,
    rounds: int,
    training: bool,
) -> dict[str, Any]:
    device, described = begin(cfg, training)
    with torch.device("meta"):
        spec = build_model(cfg).spec
    if not isinstance(spec, MViTSpec):
        raise InputError(f"this is for MViT; MODEL.MODEL_NAME is {cfg.MODEL.MODEL_NAME}")
    if "flex" in against and training and device.type == "cpu":
        raise InputError("FlexAttention has no backward pass on a CPU; leave out --training")
    names, kinds = (OURS, *against), _kinds_of_blocks(spec)
    dtype = getattr(torch, described["precision"])  # of what a model's linear layers give
    jobs = {}
    for block in kinds:
        module = MultiScaleAttention(spec, block).to(device).train(training)
        for name in names:
            made = make(name, module, spec, block, batch, dtype)
            jobs[name, block] = partial(_pass, *made, described["precision"], training)
    seconds = alternate(jobs, rounds, device)
    totals = {name: _total(seconds, name, kinds) for name in names}
    return {
        **described,
        "batch": batch,
        "rounds": rounds,
        "candidates": {name: speed(totals[name], batch) for name in names},
        "ratios": {name: ratio(totals[name], totals[OURS]) for name in against},
        "blocks": [_row(seconds, block, number, names) for block, number in kinds.items()],
    }


def _kinds_of_blocks(spec: MViTSpec) -> Counter[BlockSpec]:
    """The model's blocks as their attention sees them, and how many there are of each."""
    return Counter(replace(b, dim_out=b.attention_dim, drop_path_rate=0.0) for b in spec.blocks)


def _total(
    seconds: dict[tuple[str, BlockSpec], list[float]], name: str, kinds: Counter[BlockSpec]
) -> list[float]:
    """Seconds of all blocks together, round by round."""
    each = ([number * taken for taken in seconds[name, block]] for block, number in kinds.items())
    return [sum(values) for values in zip(*each, strict=True)]


def _row(
    seconds: dict[tuple[str, BlockSpec], list[float]],
    block: BlockSpec,
    number: int,
    names: Sequence[str],
) -> dict[str, Any]:
    ours = seconds[OURS, block]
    return {
        "blocks": number,
        "grid": block.thw,
        "q stride": block.pool_q.stride if block.pool_q else (1, 1, 1),
        "kv stride": block.pool_kv.stride if block.pool_kv else (1, 1, 1),
        "heads": block.num_heads,
        "width": block.attention_dim,
        "ms": 1000 * median_and_spread(ours)[0],
        **{name: ratio(seconds[name, block], ours)["time"] for name in names[1:]},
    }


def _pass(
    run: Callable[[], Tensor | Sequence[Tensor]],
    leaves: list[Tensor],
    precision: str,
    training: bool,
) -> None:
    for leaf in leaves:
        leaf.grad = None
    with torch.set_grad_enabled(training), autocast(leaves[0].device, precision):
        out = run()
    if training:
        out = [out] if isinstance(out, Tensor) else out
        torch.autograd.backward(out, [torch.ones_like(x) for x in out])


def _pooling(
    name: str,
    module: MultiScaleAttention,
    spec: MViTSpec,
    block: BlockSpec,
    batch: int,
    dtype: torch.dtype = torch.float32,
) -> Made:
    width = 3 * (block.dim if spec.pool_first else block.attention_dim)
    projected = _tokens(module, spec, block, batch, width).to(dtype)
    projected.requires_grad_(module.training)
    if name in (OURS, "triton"):
        if name == "triton":
            module = _fused(module)
        pools = [(getattr(module, f"pool_{x}"), getattr(module, f"norm_{x}")) for x in "qkv"]
        apart = None
        with torch.set_grad_enabled(module.training):
            if takes_pieces(projected):  # the parts of the projection are then made one by one
                apart = [part.contiguous() for part in projected.chunk(3, dim=-1)]

        def run() -> list[Tensor]:
            parts = zip(apart or projected.chunk(3, dim=-1), pools, strict=True)
            return [module._pool(x, block.thw, *pool)[0] for x, pool in parts]

        return run, [projected, *module.parameters()]
    theirs = _reference().Attention(spec, block).to(projected.device)
    theirs.load_state_dict(module.state_dict())

    def run_theirs() -> list[Tensor]:
        parts = zip(projected.chunk(3, dim=-1), "qkv", strict=True)
        return [
            theirs.pool(x.unflatten(-1, (theirs.shared, -1)).transpose(1, 2), block.thw, key)[0]
            for x, key in parts
        ]

    return run_theirs, [projected, *theirs.parameters()]


def _fused(module: MultiScaleAttention) -> MultiScaleAttention:
    if not torch.cuda.is_available():
        raise InputError("--against triton needs a GPU; there is none here")
    module = copy.deepcopy(module)
    fuse_pooling(module)
    return module


def _attention(
    name: str,
    module: MultiScaleAttention,
    spec: MViTSpec,
    block: BlockSpec,
    batch: int,
    dtype: torch.dtype = torch.float32,
) -> Made:
    pool = module._pool_project if spec.pool_first else module._project_pool
    with torch.no_grad():
        *tokens, q_thw, k_thw = pool(_tokens(module, spec, block, batch, block.dim), block.thw)
    q, k, v = (
        x.unflatten(-1, (block.num_heads, -1))
        .to(dtype)
        .contiguous()
        .requires_grad_(module.training)
        for x in tokens
    )
    extra, tables = module.num_extra, (module.rel_pos_t, module.rel_pos_h, module.rel_pos_w)
    leaves = [q, k, v, *(table for table in tables if table is not None)]

    def run() -> Tensor:
        qkv = (x.transpose(1, 2) for x in (q, k, v))
        return attention(*qkv, module._relative_bias(q, q_thw, k_thw))

    if name == OURS:
        return run, leaves
    reference = _reference()
    biased = any(table is not None for table in tables)

    def run_theirs() -> Tensor:
        query, key, value = (x.transpose(1, 2) for x in (q, k, v))
        if name == "flex":
            return _flex(query, key, value, module._relative_bias(q, q_thw, k_thw), k_thw, extra)
        bias = reference.relative_bias(query, q_thw, k_thw, tables, extra) if biased else None
        if name == "masked":
            return F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        return reference.attention(query, key, value, bias)

    return run_theirs, leaves


def _flex(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: tuple[Tensor, Tensor] | None,
    k_thw: tuple[int, int, int],
    num_extra: int,
) -> Tensor:
    """FlexAttention with each logit's relative positions looked up among the rows (q.Rt, q.Rh, q.Rw) of its query."""
    compiled = _compiled_flex()
    if bias is None:
        return compiled(q, k, v)
    rows = bias[0]
    t, h, w = k_thw
    with_time = rows.shape[-1] == t + h + w

    def add_relative(score: Tensor, b: Tensor, head: Tensor, i: Tensor, j: Tensor) -> Tensor:
        place = torch.clamp(j - num_extra, min=0)
        column, row, step = place % w, place // w % h, place // (w * h)
        start = t if with_time else 0
        added = rows[b, head, i, start + row] + rows[b, head, i, start + h + column]
        if with_time:
            added = added + rows[b, head, i, step]
        return torch.where(j < num_extra, score, score + added)

    return compiled(q, k, v, score_mod=add_relative)


@cache
def _compiled_flex() -> Callable[..., Tensor]:
    from torch.nn.attention.flex_attention import flex_attention

    # Every kind of block is compiled for itself; at torch's limit of eight it would stop, not fall back unseen.
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, 64)
    return torch.compile(flex_attention, dynamic=False, fullgraph=True)


def _tokens(module: nn.Module, spec: MViTSpec, block: BlockSpec, batch: int, width: int) -> Tensor:
    """Tokens (B, N, width) of a block's input grid."""
    t, h, w = block.thw
    device = next(module.parameters()).device
    return torch.randn(batch, t * h * w + int(spec.class_token), width, device=device)


def _reference() -> Any:
    try:
        return importlib.import_module("tests.reference.materialised")
    except ModuleNotFoundError as error:
        raise InputError(
            f"--against needs {error.name}, from a checkout with tests/reference"
        ) from error
