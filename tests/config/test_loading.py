"""A config is read strictly, and every refusal says what to do."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvit_video.config import get_cfg, load_config
from mvit_video.config.loading import all_keys
from mvit_video.config.strict_yaml import parse_yaml
from mvit_video.errors import InputError
from mvit_video.resources import configs_dir


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_a_file_inherits_from_its_bases_and_the_command_line_wins(tmp_path):
    write(
        tmp_path, "grandparent.yaml", "SOLVER: {BASE_LR: 1, MAX_EPOCH: 7}\nDATA: {NUM_FRAMES: 4}\n"
    )
    write(tmp_path, "parent.yaml", "_BASE_: grandparent.yaml\nSOLVER: {BASE_LR: 2}\n")
    write(tmp_path, "other.yaml", "DATA: {NUM_FRAMES: 8}\n")
    child = write(tmp_path, "child.yaml", "_BASE_: [parent.yaml, other.yaml]\nRNG_SEED: 3\n")
    cfg = load_config(child, ["SOLVER.MAX_EPOCH", "9"])
    assert (cfg.SOLVER.BASE_LR, cfg.DATA.NUM_FRAMES, cfg.RNG_SEED, cfg.SOLVER.MAX_EPOCH) == (
        2.0,
        8,
        3,
        9,
    )


def test_a_resolved_config_can_be_fed_back(tmp_path):
    cfg = load_config("configs/K400/MVITv2_S_16x4.yaml", ["SOLVER.BASE_LR", "3e-5"])
    again = load_config(write(tmp_path, "config.yaml", cfg.dump()))
    assert again == cfg


def test_shipped_configs_are_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_config("configs/K400/MVIT_B_16x4.yaml").MVIT.DEPTH == 16


@pytest.mark.parametrize("path", sorted(configs_dir().rglob("*.yaml")), ids=lambda p: p.stem)
def test_every_shipped_config_loads(path):
    load_config(path)


def test_an_int_is_accepted_where_a_float_is_meant(tmp_path):
    path = write(tmp_path, "a.yaml", "SOLVER: {WARMUP_EPOCHS: 34, BASE_LR: 1e-4}\n")
    cfg = load_config(path)
    assert cfg.SOLVER.WARMUP_EPOCHS == 34.0 and isinstance(cfg.SOLVER.WARMUP_EPOCHS, float)
    assert cfg.SOLVER.BASE_LR == 1e-4  # YAML 1.1 reads 1e-4 as text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("DATA: {NUM_FRAME: 4}", ["DATA.NUM_FRAME", "did you mean", "DATA.NUM_FRAMES"]),
        ("NUM_FRAMES: 4", ["unknown key NUM_FRAMES", "DATA.NUM_FRAMES"]),
        ("DATA: {NUM_FRAMES: four}", ["DATA.NUM_FRAMES", "four", "int"]),
        ("DATA: 4", ["DATA is a section"]),
        ("DATA: {READER: cv2}", ["DATA.READER", "decord, pyav, auto"]),
        (
            "TRAIN:\n  BATCH_SIZE: 4\n  ENABLE: True\n  BATCH_SIZE: 8\n",
            ["BATCH_SIZE", "line 2", "line 4"],
        ),
        ("OUTPUT_DIR: !!python/object/apply:os.system ['touch executed']", ["line 1"]),
        ("DATA: [", ["not valid YAML"]),
        ("- 1", ["list"]),
        ("_BASE_: nowhere.yaml", ["nowhere.yaml", "does not exist"]),
        ("TRAIN: {BATCH_SIZE: 0}", ["TRAIN.BATCH_SIZE", "above 0"]),
        ("DATA: {TEST_CROP_SIZE: 320}", ["320", "224", "TRAIN_CROP_SIZE"]),
        ("DATA: {TRAIN_JITTER_SCALES: [200, 320]}", ["200", "224"]),
        ("SOLVER: {WARMUP_EPOCHS: 300}", ["WARMUP_EPOCHS", "MAX_EPOCH"]),
        (
            "TRAIN: {BATCH_SIZE: 6}\nSOLVER: {ACCUMULATE_STEPS: 4}",
            ["6 videos per update", "over all ranks"],
        ),
        ("TRAIN: {ENABLE: False}\nTEST: {ENABLE: False}", ["nothing to do"]),
    ],
)
def test_a_wrong_config_is_refused_in_words(tmp_path, monkeypatch, text, words):
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path, "wrong.yaml", text)
    with pytest.raises(InputError) as error:
        load_config(path)
    for word in words:
        assert word in str(error.value)
    assert not (tmp_path / "executed").exists()


def test_bases_in_a_circle_are_refused(tmp_path):
    write(tmp_path, "a.yaml", "_BASE_: b.yaml")
    write(tmp_path, "b.yaml", "_BASE_: a.yaml")
    with pytest.raises(InputError, match="circle"):
        load_config(tmp_path / "a.yaml")


@pytest.mark.parametrize(
    "overrides", [["DATA.NUM_FRAMES"], ["DATA.NUM_FRAME", "4"], ["TRAIN.ENABLE", "4"]]
)
def test_wrong_overrides_are_refused(overrides):
    with pytest.raises(InputError):
        load_config(None, overrides)


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        load_config(tmp_path / "no.yaml")
    with pytest.raises(InputError, match="folder"):
        load_config(tmp_path)


def test_the_config_of_a_run_cannot_be_changed():
    with pytest.raises(AttributeError):
        load_config().RNG_SEED = 4


def test_two_configs_share_no_lists():
    first, second = get_cfg(), get_cfg()
    first.DATA.MEAN.append(1.0)
    assert len(second.DATA.MEAN) == 3


_values = {
    int: st.integers(1, 10**6),
    float: st.floats(-1e6, 1e6),
    bool: st.booleans(),
    str: st.text("abc/_.", max_size=8),
}


@given(st.data())
def test_any_value_of_a_keys_type_survives_dump_and_parse(data):
    name = data.draw(
        st.sampled_from(sorted(k for k, v in all_keys().items() if type(v.default) in _values))
    )
    cfg = get_cfg()
    node, _, leaf = name.rpartition(".")
    (cfg[node] if node else cfg)[leaf] = value = data.draw(_values[type(all_keys()[name].default)])
    tree = parse_yaml(cfg.dump(), "dump")
    assert (tree[node] if node else tree)[leaf] == value
