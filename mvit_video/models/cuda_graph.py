"""A forward pass launched as a whole: a short one waits for Python, which launches its kernels one by one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_SHAPES = 8  # recorded at most; what else comes runs as without
_WARM_UP = 3  # passes, in which libraries choose their kernels and caches are filled


class CudaGraphs:
    """A model's forward pass in inference, recorded as a CUDA graph for each shape of clips and then replayed.

    The kernels are those that the model launches itself, and so are the bits that come out. For one thread and one
    stream at a time, and for weights that stay as they are: a replay reads them where they were, and does not notice
    what else has changed. Elsewhere than on a GPU the model is called.

    https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs ("whole-network capture").

    Args:
        model: in eval mode, on its device, with a tensor for a result.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._recorded: dict[tuple, tuple[torch.cuda.CUDAGraph, Tensor, Tensor]] = {}
        # One after another they may use the same memory; only what goes in and comes out is each one's own.
        self._pool = None

    @torch.inference_mode()
    def __call__(self, clips: Tensor) -> Tensor:
        """model(clips)."""
        if not clips.is_cuda:
            return self._model(clips)
        precision = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else None
        key = (clips.shape, clips.dtype, precision)
        if key not in self._recorded:
            if len(self._recorded) == _SHAPES:
                return self._model(clips)
            with torch.cuda.device(clips.device):
                self._recorded[key] = self._record(clips, precision)
        graph, read, written = self._recorded[key]
        read.copy_(clips)
        graph.replay()
        return written.clone()

    def _record(
        self, clips: Tensor, precision: torch.dtype | None
    ) -> tuple[torch.cuda.CUDAGraph, Tensor, Tensor]:
        """The graph, the tensor that it reads and the one that it writes."""
        read, now, aside = clips.clone(), torch.cuda.current_stream(), torch.cuda.Stream()
        # Casts of weights that autocast keeps for its next use are gone when a replay looks for them.
        with torch.autocast("cuda", precision, precision is not None, cache_enabled=False):
            aside.wait_stream(now)
            with torch.cuda.stream(aside):
                for _ in range(_WARM_UP):
                    self._model(read)
            now.wait_stream(aside)
            graph = torch.cuda.CUDAGraph()
            # Other threads copy clips and lock memory meanwhile, which is none of this recording's business.
            with torch.cuda.graph(graph, self._pool, capture_error_mode="thread_local"):
                written = self._model(read)
        self._pool = graph.pool()
        return graph, read, written
