"""The training that the tests disturb, and what must be true of it in the end."""

from __future__ import annotations

from pathlib import Path

from tests.run_processes import last_step, log_lines
from tests.slurm.cluster import Cluster
from tests.train.test_resume import differences, final_state

EPOCHS, STEPS = 10, 60
STEPS_PER_EPOCH = STEPS // EPOCHS
TWO_BY_TWO = ("--nodes=2", "--tasks-per-node=2", "--cpus-per-task=2", "--signal-delay=60")
ONE_BY_TWO = ("--nodes=1", *TWO_BY_TWO[1:])
TRAINING = {
    "SOLVER__MAX_EPOCH": EPOCHS,
    "TRAIN__BATCH_SIZE": 4,
    "TRAIN__EVAL_PERIOD": EPOCHS // 2,
    "NUM_THREADS": 1,
}


def assert_same_bits(output: Path, undisturbed: Path) -> None:
    """Weights, optimiser, the best validation, and the loss of each step, which was taken once."""
    assert not differences(final_state(undisturbed), final_state(output))
    steps = [[(x["step"], x["loss"]) for x in log_lines(o, "step")] for o in (output, undisturbed)]
    assert steps[0] == steps[1]
    assert [step for step, _ in steps[0]] == list(range(1, STEPS + 1))


def wait_for_start(cluster: Cluster, output: Path, number: int, steps: int = 4) -> None:
    """Until the run has started `number` times and done a few steps more than before."""

    def under_way() -> bool:
        starts = log_lines(output, "start", "resume")
        return len(starts) >= number and last_step(output) >= starts[-1]["step"] + steps

    cluster.wait_until(under_way, f"start {number} of {output}", poll=0.05)


def between_epochs(output: Path) -> bool:
    """An epoch is over, and the next has not had its first step."""
    steps, epochs = last_step(output), len(log_lines(output, "epoch"))
    return 0 < epochs < EPOCHS and steps == epochs * STEPS_PER_EPOCH


def within_an_epoch(output: Path, steps: int) -> bool:
    """So many of its steps are done."""
    return last_step(output) % STEPS_PER_EPOCH == steps


def validating(output: Path, log: str) -> bool:
    """A validation has begun, and is not over."""
    begun = {line for line in log.splitlines() if "validating after" in line}
    done = [line for line in log_lines(output, "epoch") if "val_top1" in line]
    return len(begun) > len(done)
