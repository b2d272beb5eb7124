"""Makes the batch of an update that was not finite again, and looks for the clip and the layer that go wrong first.

The samples, their augmentation, mixing and dropout are drawn from the seed and the place, so the report's numbers are
enough to make every micro-batch again, on one device, whatever number of ranks there was.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from fvcore.common.config import CfgNode
from torch import Tensor, nn

from mvit_video.build import build_model
from mvit_video.data.loader import TrainLoader, train_loader
from mvit_video.data.preprocessing import Preprocessing
from mvit_video.evaluate.scoring import autocast
from mvit_video.train.inputs import TrainInputs
from mvit_video.train.nonfinite import plain
from mvit_video.train.probe import TrainedParts
from mvit_video.train.update import forward_seed
from mvit_video.weights import load_weights
from mvit_video.world import World


@dataclass(frozen=True)
class Replayed:
    """A micro-batch that was computed again.

    Attributes:
        rank, part: which one.
        video_ids: of its clips, in order.
        losses: of its clips.
        same_choices: whether the augmentation came out as it was recorded.
        first: where a number was not finite first, None if all were; see FirstNonfinite.
    """

    rank: int
    part: int
    video_ids: list[str]
    losses: list[float]
    same_choices: bool
    first: Place | None


@dataclass(frozen=True)
class Place:
    """Where a number is not finite: "output of blocks.0.mlp", in the forward or backward pass.

    Attributes:
        what: the tensor.
        clips: numbers of the clips in the micro-batch whose share of the tensor it is; empty where it is nobody's.
    """

    what: str
    clips: list[int]


def replay(
    report: dict[str, Any], cfg: CfgNode, weights: str, device: torch.device
) -> Iterator[Replayed]:
    """Computes the micro-batches whose loss was not finite again; all of them where only the gradient was not.

    Args:
        report: of train/nonfinite.py.
        cfg: the report's config, maybe with videos elsewhere.
        weights: a checkpoint to take the weights from; "" for those in the report.

    Raises:
        InputError: the videos or the weights cannot be read.
    """
    model = build_model(cfg).to(device)
    if weights:
        load_weights(model, weights)
    else:
        model.load_state_dict(report["model"])
    TrainedParts(model, cfg).train()
    one_process = cfg.clone()
    one_process.defrost()
    one_process.DATA_LOADER.NUM_WORKERS = 0
    loader = train_loader(one_process, World())
    every = [(r, p) for r, parts in enumerate(report["ranks"]) for p in range(len(parts))]
    bad = [(r, p) for r, p in every if not _is_finite(report["ranks"][r][p]["loss"])]
    for rank, part in bad or every:
        yield _replay_part(report, cfg, (rank, part), model, loader, device)


def _replay_part(
    report: dict[str, Any],
    cfg: CfgNode,
    place: tuple[int, int],
    model: nn.Module,
    loader: TrainLoader,
    device: torch.device,
) -> Replayed:
    rank, part = place
    recorded, step = report["ranks"][rank][part], report["step"]
    batch = loader.load(report["epoch"], recorded["index"])
    world = World(rank, report["world_size"], device=device)
    inputs = TrainInputs(cfg, Preprocessing.from_config(cfg), world)
    clips, target = inputs.prepare(batch, step, part, len(report["ranks"][rank]))
    model.zero_grad()
    with FirstNonfinite(model, len(clips)) as watch:
        watch.look("the clips, once augmented and mixed", clips)
        torch.manual_seed(forward_seed(cfg.RNG_SEED, step, part, rank))
        with autocast(device, cfg.TRAIN.PRECISION):
            logits = model(clips)
            smoothing = cfg.MIXUP.LABEL_SMOOTH_VALUE
            losses = F.cross_entropy(logits, target, label_smoothing=smoothing, reduction="none")
        watch.look("the loss", losses)
        losses.mean().backward()
        for name, parameter in reversed(list(model.named_parameters())):
            if parameter.grad is not None:
                watch.look(f"gradient of {name}", parameter.grad, of_clips=False)
    return Replayed(
        rank,
        part,
        [loader.videos.video_id(i) for i in batch["used"].repeat_interleave(cfg.AUG.NUM_SAMPLE)],
        losses.tolist(),
        [plain(choices) for choices in batch["choices"]] == recorded["choices"],
        watch.first,
    )


class FirstNonfinite:
    """Looks at what goes into and comes out of every module, and at its gradients, in the order of computing.

    Attributes:
        first: the first tensor with a number that is not finite, or None.
    """

    def __init__(self, model: nn.Module, batch: int) -> None:
        self._model, self._batch = model, batch
        self._hooks: list[Any] = []
        self.first: Place | None = None
        for name, parameter in model.named_parameters():
            self.look(f"weights of {name}", parameter, of_clips=False)

    def __enter__(self) -> FirstNonfinite:
        for name, module in self._model.named_modules():
            self._hooks += (
                module.register_forward_pre_hook(self._before(name or "the model")),
                module.register_forward_hook(self._after(name or "the model")),
            )
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def look(self, what: str, tensor: Tensor, of_clips: bool = True) -> None:
        """Notes the tensor if it is the first that is not finite."""
        if self.first is not None or not tensor.is_floating_point() or tensor.isfinite().all():
            return
        clips: list[int] = []
        if (
            of_clips and tensor.ndim and len(tensor) % self._batch == 0
        ):  # heads lie beside their clip
            rows = tensor.detach().reshape(self._batch, -1)
            clips = (~rows.isfinite().all(dim=1)).nonzero().flatten().tolist()
        self.first = Place(what, clips)

    def _before(self, name: str) -> Any:
        def hook(_: nn.Module, arguments: tuple[Any, ...]) -> None:
            for tensor in (a for a in arguments if isinstance(a, Tensor)):
                self.look(f"input of {name}", tensor)

        return hook

    def _after(self, name: str) -> Any:
        def hook(_: nn.Module, __: Any, result: Any) -> None:
            results = result if isinstance(result, tuple) else (result,)
            for tensor in (r for r in results if isinstance(r, Tensor)):
                self.look(f"output of {name}", tensor)
                if tensor.requires_grad:
                    tensor.register_hook(
                        lambda grad: self.look(f"gradient at the output of {name}", grad)
                    )

        return hook


def _is_finite(number: float) -> bool:
    return bool(torch.tensor(number).isfinite())
