"""What a recognizer finds out about a video."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mvit_video.predict.text import plain


@dataclass(frozen=True)
class ClassScore:
    """A class and its score in 0 ... 1; `name` is the number of the class where the checkpoint knows no names."""

    label: int
    name: str
    score: float


@dataclass(frozen=True, eq=False)
class Prediction:
    """The scores of one video.

    Attributes:
        video: path or URL; "frames" for frames that were handed over.
        top: the best classes, best first; of equal scores the smaller class number comes first.
        scores: (C,) float64, the views combined as in the model's test.
        view_scores: (V, C) float32, softmax of each view, the bits of the multi-view test's predictions file.
    """

    video: str
    top: tuple[ClassScore, ...]
    scores: np.ndarray
    view_scores: np.ndarray

    def __str__(self) -> str:
        named = ", ".join(f"{best.name} {best.score:.1%}" for best in self.top)
        return plain(f"{self.video}: {named}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON: {"video", "top": [{"label", "name", "score"}, ...]}."""
        return {"video": self.video, "top": [asdict(best) for best in self.top]}


def best_classes(
    scores: np.ndarray, class_names: Sequence[str], topk: int
) -> tuple[ClassScore, ...]:
    """The `topk` best of (C,) scores."""
    order = np.argsort(-scores, kind="stable")[:topk].tolist()
    return tuple(ClassScore(c, class_name(class_names, c), float(scores[c])) for c in order)


def class_name(class_names: Sequence[str], label: int) -> str:
    """The name of a class, its number where names are not known."""
    return class_names[label] if class_names else str(label)
