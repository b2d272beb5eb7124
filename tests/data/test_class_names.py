"""Shipped class names: official order, and used where nobody gives others."""

from __future__ import annotations

from pathlib import Path

import pytest

from mvit_video import load_config
from mvit_video.data.lists import load_class_names
from mvit_video.errors import InputError
from mvit_video.resources import read_class_names

OFFICIAL = {
    "kinetics400": ("kinetics_k400", 400),
    "kinetics600": ("kinetics_k600", 600),
    "kinetics700": ("kinetics_k700", 700),
    "something_something_v2": ("sthv2", 174),
    "imagenet1k": ("imagenet1k", 1000),
    "ucf101": ("ucf101", 101),
    "hmdb51": ("hmdb51", 51),
}


@pytest.mark.parametrize("name", OFFICIAL)
def test_the_shipped_names_are_the_official_ones_in_order(name: str, shared: Path) -> None:
    file, count = OFFICIAL[name]
    official = (shared / "classes" / f"{file}.txt").read_text(encoding="utf-8").splitlines()
    names = read_class_names(name)
    assert names == tuple(line.split("\t")[-1] for line in official)
    assert len(names) == count


def test_known_classes_stand_where_the_published_heads_have_them() -> None:
    kinetics = read_class_names("kinetics400")
    assert (kinetics[0], kinetics[5], kinetics[399]) == ("abseiling", "archery", "zumba")
    assert read_class_names("ucf101")[0] == "ApplyEyeMakeup"
    assert read_class_names("imagenet1k")[0].startswith("tench")


def test_a_shipped_config_names_its_classes_unless_the_head_is_for_others(tmp_path: Path) -> None:
    path = "configs/K400/MVIT_B_16x4.yaml"
    assert load_class_names(load_config(path))[0] == "abseiling"
    assert load_class_names(load_config(path, ["MODEL.NUM_CLASSES", "12"])) == ()
    (tmp_path / "classes.txt").write_text("walk\nrun\n")
    keys = ["MODEL.NUM_CLASSES", "2", "DATA.PATH_TO_DATA_DIR", str(tmp_path)]
    assert load_class_names(load_config(path, keys)) == ("walk", "run")


def test_a_file_of_names_must_fit_the_head(tmp_path: Path) -> None:
    file = tmp_path / "mine.txt"
    file.write_text("walk\nrun\n")
    keys = ["DATA.CLASS_NAMES", str(file), "MODEL.NUM_CLASSES", "2"]
    path = "configs/K400/MVIT_B_16x4.yaml"
    assert load_class_names(load_config(path, keys)) == ("walk", "run")
    with pytest.raises(InputError, match=r"2 class names, but MODEL\.NUM_CLASSES is 3"):
        load_class_names(load_config(path, [*keys[:3], "3"]))
    with pytest.raises(InputError, match="neither a file nor one of the shipped lists, hmdb51"):
        read_class_names("kinetics800")
