"""Which parts of a clip an answer rests on, by one of three methods.

rollout   MViT: how attention hands the picture on to the head, block by block (rollout.py)
semantic  Dual-ViT: where the semantic tokens look that the answer listens to (semantic.py)
cam       every family: which places speak for a class (activation.py)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mvit_video.errors import InputError
from mvit_video.models.dual_vit import DualViT
from mvit_video.models.mvit import MViT
from mvit_video.predict.explain.activation import activation_map
from mvit_video.predict.explain.clip import ShownClip
from mvit_video.predict.explain.rollout import rollout
from mvit_video.predict.explain.semantic import semantic_maps
from mvit_video.predict.recognizer import Recognizer
from mvit_video.predict.results import class_name

METHODS = ("rollout", "semantic", "cam")


@dataclass(frozen=True, eq=False)
class HeatMap:
    """A map of a clip: `heat` (T', H', W') on a grid of tokens, 0 or more, and what it shows."""

    title: str
    heat: Tensor


@dataclass(frozen=True, eq=False)
class Explanation:
    """The model's answer for a clip, such as "yoga 92 %", and the maps that explain it."""

    answer: str
    maps: tuple[HeatMap, ...]


def explain(
    recognizer: Recognizer,
    clip: ShownClip,
    method: str = "",
    label: int | None = None,
    level: int | None = None,
) -> Explanation:
    """Explains the model's answer for a clip.

    Args:
        recognizer: the model.
        clip: as `read_clip` gave it.
        method: one of METHODS; by default the family's own: rollout for MViT, semantic for Dual-ViT, cam for others.
        label: for cam, the class to explain; by default the best.
        level: for cam, of the feature pyramid, 0 the finest; by default the coarsest with 7 tokens a side.

    Raises:
        InputError: the method is of another family, or there is no such class or level.
    """
    model = recognizer.model
    method = method or default_method(model)
    _check(model, method, label, level)
    with torch.no_grad():
        scores = model(clip.fed)[0].softmax(dim=-1)
    best = int(scores.argmax())
    answer = f"{class_name(recognizer.class_names, best)} {scores[best]:.0%}"
    if method == "rollout":
        maps = [HeatMap("attention rollout", rollout(model, clip.fed))]
    elif method == "semantic":
        maps = [
            HeatMap(
                f"semantic token {token}: {share:.0%} of the answer's attention to semantic tokens",
                heat,
            )
            for heat, token, share in semantic_maps(model, clip.fed)
        ]
    else:
        label = best if label is None else label
        heat, level = activation_map(model, clip.fed, label, level)
        name = class_name(recognizer.class_names, label)
        speaks = "speaks" if heat.max() > 0 else "nothing speaks"
        title = f"{speaks} for {name} ({scores[label]:.0%}), pyramid level {level}"
        maps = [HeatMap(title, heat)]
    return Explanation(answer, tuple(HeatMap(m.title, m.heat.cpu()) for m in maps))


def default_method(model: nn.Module) -> str:
    """The method that is a family's own."""
    if isinstance(model, MViT):
        return "rollout"
    return "semantic" if isinstance(model, DualViT) else "cam"


def _check(model: nn.Module, method: str, label: int | None, level: int | None) -> None:
    if method not in METHODS:
        raise InputError(f"there is no method {method!r}; choose one of {', '.join(METHODS)}")
    family = {"rollout": MViT, "semantic": DualViT}.get(method)
    if family and not isinstance(model, family):
        raise InputError(
            f"{method} is for {family.__name__}, and this model's family is {type(model).__name__}; "
            f"its methods are {', '.join(dict.fromkeys((default_method(model), 'cam')))}"
        )
    if method != "cam" and (label is not None or level is not None):
        raise InputError(
            f"a class and a level are for cam, and the method is {method}; take cam, or leave them out"
        )
    classes = model.spec.num_classes
    if label is not None and not 0 <= label < classes:
        raise InputError(f"class {label}: the model tells classes 0 ... {classes - 1} apart")
