"""The official annotation formats, from small files in their form."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mvit_video.data.preparation.annotations import (
    Entry,
    read_hmdb51,
    read_kinetics,
    read_ssv2,
    read_ucf101,
)
from mvit_video.errors import InputError
from mvit_video.resources import read_class_names


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return folder


def test_kinetics_csv_in_its_several_forms(tmp_path: Path) -> None:
    folder = write(tmp_path, {
        "train.csv": "label,youtube_id,time_start,time_end,split,is_cc\n"
                     '"air drumming",-1IlTIWPNs4,68,78,train,0\n'
                     "passing American football (in game),abc_DEF-123,0.0,10.0,train,0\n",
        "validate.csv": "label,youtube_id,time_start,time_end,split\nabseiling,0wR5jVB-WPk,417,427,val\n"
                        "air_drumming,0000000000a,12,22,validate\n",
        "test.csv": "youtube_id,time_start,time_end,split\n--6bJUbfpnQ,17,27,test\n",
        "notes.csv": "a,b\n1,2\n",
    })  # fmt: skip
    annotations = read_kinetics(folder, "kinetics400")
    names = read_class_names("kinetics400")
    assert annotations.class_names == names and len(names) == 400
    assert annotations.entries == (
        Entry("train", 1, ("-1IlTIWPNs4_000068_000078", "-1IlTIWPNs4")),
        Entry("train", names.index("passing American football (in game)"),
              ("abc_DEF-123_000000_000010", "abc_DEF-123")),
        Entry("val", 0, ("0wR5jVB-WPk_000417_000427", "0wR5jVB-WPk")),
        Entry("val", 1, ("0000000000a_000012_000022", "0000000000a")),
    )  # fmt: skip


def test_kinetics_split_is_taken_from_the_file_name_where_there_is_no_column(
    tmp_path: Path,
) -> None:
    row = "label,youtube_id,time_start,time_end\nabseiling,a,1,11\n"
    folder = write(
        tmp_path, {"kinetics_train.csv": row, "kinetics_val.csv": row, "kinetics_test.csv": row}
    )
    assert [entry.split for entry in read_kinetics(folder, "kinetics600").entries] == [
        "train",
        "val",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "label,youtube_id,time_start,time_end,split\nflying,a,1,11,train\n",
            ":2: 'flying' is no class of kinetics700",
        ),
        (
            "label,youtube_id,time_start,time_end,split\nabseiling,a,x,11,train\n",
            ":2: no time_start",
        ),
        (
            "label,youtube_id,time_start,time_end,split\nabseiling,a,1,11,train\n",
            "nothing about val",
        ),
        ("a,b\n", "nothing about train or val"),
    ],
)
def test_wrong_kinetics_annotations_are_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InputError) as error:
        read_kinetics(write(tmp_path, {"train.csv": text}), "kinetics700")
    assert said in str(error.value)
    with pytest.raises(InputError, match="no file or folder"):
        read_kinetics(tmp_path / "nowhere", "kinetics700")


@pytest.mark.parametrize("style", ["something-something-v2-", "labels/"])
def test_ssv2_json(tmp_path: Path, style: str) -> None:
    folder = write(tmp_path, {
        f"{style}labels.json": json.dumps({"Holding something": "1", "Dropping something": "0"}),
        f"{style}train.json": json.dumps(
            [{"id": "78687", "label": "holding potato", "template": "Holding [something]", "placeholders": ["p"]}]),
        f"{style}validation.json": json.dumps(
            [{"id": "74225", "label": "dropping a pen", "template": "Dropping [something]", "placeholders": []}]),
    })  # fmt: skip
    annotations = read_ssv2(folder)
    assert annotations.class_names == ("Dropping something", "Holding something")
    assert annotations.entries == (Entry("train", 1, ("78687",)), Entry("val", 0, ("74225",)))


def test_ucf101_lists(tmp_path: Path) -> None:
    folder = write(tmp_path, {
        "ucfTrainTestlist/classInd.txt": "1 ApplyEyeMakeup\n2 ApplyLipstick\n",
        "ucfTrainTestlist/trainlist02.txt": "ApplyLipstick/v_ApplyLipstick_g01_c01.avi 2\n"
                                            "HandstandPushups/v_HandStandPushups_g08_c01.avi 37\n",
        "ucfTrainTestlist/testlist02.txt": "ApplyEyeMakeup/v_ApplyEyeMakeup_g09_c02.avi\n",
    })  # fmt: skip
    annotations = read_ucf101(folder, 2)
    assert len(annotations.class_names) == 101
    assert annotations.entries == (
        Entry("train", 1, ("ApplyLipstick/v_ApplyLipstick_g01_c01.avi",)),
        Entry("train", 36, ("HandstandPushups/v_HandStandPushups_g08_c01.avi",)),
        Entry("val", 0, ("ApplyEyeMakeup/v_ApplyEyeMakeup_g09_c02.avi",)),
    )
    with pytest.raises(InputError, match="trainlist01"):
        read_ucf101(folder, 1)
    write(tmp_path, {"ucfTrainTestlist/testlist02.txt": "Flying/v_a.avi\n"})
    with pytest.raises(InputError, match="Flying"):
        read_ucf101(folder, 2)


def test_hmdb51_split_files_and_their_strange_names(tmp_path: Path) -> None:
    files = {f"{name}_test_split3.txt": "a.avi 0 \n" for name in read_class_names("hmdb51")}
    files["wave_test_split3.txt"] = (
        "#20_Rhythm_clap_u_nm_np1_fr_goo_0.avi 1 \nA&B_(x)!_wave.avi 2 \ntwo words.avi 1\nunused.avi 0 \n"
    )
    annotations = read_hmdb51(write(tmp_path, files), 3)
    wave = annotations.class_names.index("wave")
    assert annotations.entries == (
        Entry("train", wave, ("wave/#20_Rhythm_clap_u_nm_np1_fr_goo_0.avi",)),
        Entry("val", wave, ("wave/A&B_(x)!_wave.avi",)),
        Entry("train", wave, ("wave/two words.avi",)),
    )
    write(tmp_path, {"wave_test_split3.txt": "a.avi 7\n"})
    with pytest.raises(InputError, match=r"wave_test_split3.txt:1"):
        read_hmdb51(tmp_path, 3)
