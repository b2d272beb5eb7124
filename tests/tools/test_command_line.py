"""The handling of arguments and of errors that all tools share."""

from __future__ import annotations

import pytest

from mvit_video.errors import InputError
from mvit_video.launch.cli import (
    Parser,
    add_config_arguments,
    parse_with_config,
    positive_int,
    run_tool,
)


def parse(*words: str):
    parser = Parser("A tool.\n\n    tool --cfg FILE")
    add_config_arguments(parser)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=positive_int)
    return parse_with_config(parser, words)


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("SOLVER:\n  MAX_EPOCH: 3\n")
    return str(path)


@pytest.mark.parametrize(
    "words",
    [
        ("NUM_GPUS", "2", "SOLVER.BASE_LR", "1e-3"),
        ("--opts", "NUM_GPUS", "2", "SOLVER.BASE_LR", "1e-3"),
        ("NUM_GPUS", "2", "--opts", "SOLVER.BASE_LR", "1e-3"),
    ],
)
def test_keys_and_values_come_with_or_without_opts(config, words):
    _, cfg = parse("--cfg", config, *words)
    assert (cfg.NUM_GPUS, cfg.SOLVER.BASE_LR, cfg.SOLVER.MAX_EPOCH) == (2, 1e-3, 3)


def test_options_stand_before_between_and_after_the_keys(config):
    for words in (
        ("--json", "--cfg", config, "RNG_SEED", "7"),
        ("RNG_SEED", "7", "--cfg", config, "--json"),
        ("--cfg", config, "RNG_SEED", "7", "--json"),
    ):
        options, cfg = parse(*words)
        assert options.json
        assert cfg.RNG_SEED == 7


@pytest.mark.parametrize("number", ["-1", "-0.5", "-1e-4", "-.5"])
def test_values_may_begin_with_a_minus(config, number):
    _, cfg = parse("--cfg", config, "SOLVER.COSINE_END_LR", number, "RNG_SEED", "1")
    found = cfg.SOLVER.COSINE_END_LR
    assert found == pytest.approx(float(number))


def test_a_later_word_wins(config):
    assert parse("--cfg", config, "RNG_SEED", "1", "RNG_SEED", "2")[1].RNG_SEED == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "--cfg"),
        (("--cfg",), "expected one argument"),
        (("--cfg", "nowhere.yaml"), "nowhere.yaml"),
        (("--cfg", "CONFIG", "RNG_SEED"), "no partner"),
        (("--cfg", "CONFIG", "--jsn", "RNG_SEED", "1"), "unknown option --jsn"),
        (("--cfg", "CONFIG", "--rounds", "0"), "'0' is no whole number above 0"),
        (("--cfg", "CONFIG", "RNG_SED", "1"), "did you mean RNG_SEED"),
        (("--cfg", "CONFIG", "RNG_SEED", "many"), "RNG_SEED"),
    ],
)
def test_wrong_words_are_input_errors(config, words, message):
    with pytest.raises(InputError, match=message):
        parse(*(config if word == "CONFIG" else word for word in words))


def test_exit_codes(capsys):
    def wrong() -> int:
        raise InputError("labels.csv:3: no label")

    def interrupted() -> int:
        raise KeyboardInterrupt

    assert run_tool(lambda: 75) == 75
    assert run_tool(interrupted) == 130
    assert run_tool(wrong) == 2
    assert capsys.readouterr().err == "error: labels.csv:3: no label\n"


def test_a_bug_keeps_its_traceback():
    def broken() -> int:
        return 1 // 0

    with pytest.raises(ZeroDivisionError):
        run_tool(broken)
