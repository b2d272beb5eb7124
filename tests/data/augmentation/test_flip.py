"""Labels of mirrored clips."""

from __future__ import annotations

from pathlib import Path

from mvit_video.data.augmentation.flip import mirrored_labels


def test_left_and_right_change_places_and_other_words_stay() -> None:
    names = ("Pulling something from left to right", "Pulling something from right to left",
             "Holding something", "Putting something upright", "turn_left", "turn_right", "brightly")  # fmt: skip
    assert mirrored_labels(names) == (1, 0, 2, 3, 5, 4, 6)


def test_a_class_without_its_mirror_image_is_never_flipped() -> None:
    assert mirrored_labels(("Pulling it right out", "Opening")) == (-1, 1)


def test_mirroring_twice_gives_the_label_back(shared: Path) -> None:
    names = (shared / "classes" / "sthv2.txt").read_text().splitlines()
    mirrored = mirrored_labels(names)
    assert all(mirrored[m] == label for label, m in enumerate(mirrored) if m >= 0)
    assert sum(m not in (label, -1) for label, m in enumerate(mirrored)) == 6
    assert mirrored.count(-1) == 1  # "... pulling it right out ...", where right is no direction
