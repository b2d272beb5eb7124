"""How ranks agree on what one of them does for all."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from mvit_video.errors import InputError
from mvit_video.world import World

T = TypeVar("T")


def on_main(world: World, action: Callable[[], T]) -> T:
    """What `action` returns on rank 0, on every rank; an InputError there is raised on every rank too."""
    outcome: T | InputError | None = None
    if world.is_main:
        try:
            outcome = action()
        except InputError as error:
            outcome = error
    outcome = world.broadcast_object(outcome)
    if isinstance(outcome, InputError):
        raise outcome
    return outcome
