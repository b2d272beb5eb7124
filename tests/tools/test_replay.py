"""A training that diverges, and the one command that says where."""

from __future__ import annotations


def test_the_command_that_a_diverged_run_names_finds_clip_and_layer(
    run_tool, tiny_config, tmp_path
):
    changes = ["SOLVER.BASE_LR", "1e30", "OUTPUT_DIR", tmp_path / "run", "TEST.ENABLE", "False"]
    run = run_tool("run_net.py", "--cfg", tiny_config, *changes)
    assert run.returncode == 2
    command = run.stderr[run.stderr.index("python tools/replay.py ") :].split()[2].rstrip(".")
    replayed = run_tool("replay.py", command)
    assert replayed.returncode == 0, replayed.stderr
    assert "first not finite: " in replayed.stdout
    assert ".mp4" in replayed.stdout
    wrong = run_tool("replay.py", tiny_config)
    assert wrong.returncode == 2 and "Traceback" not in wrong.stderr
