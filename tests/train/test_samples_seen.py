"""Killed in mid-epoch and resumed by another number of ranks: which samples have the final weights seen?

Exactly those of the epochs, each once: told by the training itself, which notes each sample of each update.
"""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from mvit_video.data.seeding import epoch_order
from mvit_video.train.loop import Trainer
from tests.run_processes import Run, log_lines

VIDEOS, BROKEN, BATCH, EPOCHS = 18, 7, 4, 2
PER_EPOCH = (
    VIDEOS // BATCH
)  # updates; two samples are left out, the broken one is taken in both epochs


class Seen(NamedTuple):
    """A sample of an update: the one asked for, the one shown, and a checksum of its clips."""

    step: int
    epoch: int
    index: int
    used: int
    clips: int


def note_samples(folder: str) -> None:
    """Has each update of this process write down its samples, before it happens."""
    update = Trainer._update
    notes = open(Path(folder) / f"{os.getpid()}.jsonl", "a")  # noqa: SIM115  open for the process's life

    def noted(self: Trainer, parts: list[Any]) -> Any:
        where = (self.progress.step, self.progress.epoch)
        for part in parts:
            clips = part["clips"].unflatten(0, (len(part["index"]), -1))
            for index, used, clip in zip(part["index"], part["used"], clips, strict=True):
                seen = Seen(*where, int(index), int(used), zlib.crc32(clip.numpy()))
                notes.write(json.dumps(seen) + "\n")
        notes.flush()
        return update(self, parts)

    Trainer._update = noted


def noted(folder: Path) -> list[Seen]:
    lines = [line for file in folder.iterdir() for line in file.read_text().splitlines()]
    return sorted(Seen(*json.loads(line)) for line in lines)


@pytest.fixture(scope="module")
def broken_dataset(dataset, tmp_path_factory) -> dict[str, str]:
    """The data set with one broken video."""
    source = Path(dataset["DATA.PATH_TO_DATA_DIR"])
    folder = tmp_path_factory.mktemp("broken") / "videos"
    shutil.copytree(source, folder)
    (folder / f"train_{BROKEN}.mp4").write_text("no video")
    return {"DATA__PATH_TO_DATA_DIR": str(folder), "DATA__PATH_PREFIX": str(folder)}


def test_the_final_weights_have_seen_each_sample_of_the_epoch_once(words, broken_dataset, tmp_path):
    changes = {
        **broken_dataset,
        "SOLVER__MAX_EPOCH": EPOCHS,
        "TRAIN__BATCH_SIZE": BATCH,
        "TRAIN__CHECKPOINT_STEPS": 2,
        "TRAIN__EVAL_PERIOD": 0,
        "DATA_LOADER__NUM_WORKERS": 1,
        "AUG__NUM_SAMPLE": 2,
    }

    def run(name: str, ranks: int, notes: str) -> Run:
        (tmp_path / notes).mkdir()
        before = partial(note_samples, str(tmp_path / notes))
        return Run(words(name, **changes), ranks, before)

    killed = run("killed", 2, "before the kill")
    killed.kill_at_step(PER_EPOCH + 3)
    before = noted(tmp_path / "before the kill")
    for ranks in (1, 4):
        shutil.copytree(tmp_path / "killed", tmp_path / f"by {ranks}")
        resumed = run(f"by {ranks}", ranks, f"after, by {ranks}")
        assert set(resumed.wait()) == {0}, resumed.told()
        (resume,) = log_lines(resumed.output, "resume")
        assert PER_EPOCH < resume["step"] < PER_EPOCH + 3  # in the middle of the second epoch
        after = noted(tmp_path / f"after, by {ranks}")
        assert min(seen.step for seen in after) == resume["step"]
        told = [seen for seen in before if seen.step < resume["step"]] + after
        assert_exactly_the_epochs(told)
        repeated = {(s.epoch, s.index): s for s in before if s.step >= resume["step"]}
        assert repeated  # updates that the kill undid; what they have seen, the others see again
        assert all(repeated[s.epoch, s.index] == s for s in after if (s.epoch, s.index) in repeated)


def assert_exactly_the_epochs(told: list[Seen]) -> None:
    for epoch in range(EPOCHS):
        order = epoch_order(0, epoch, VIDEOS).tolist()
        kept, dropped = order[: PER_EPOCH * BATCH], order[PER_EPOCH * BATCH :]
        asked = Counter(seen.index for seen in told if seen.epoch == epoch)
        assert asked == Counter(kept) and not asked.keys() & set(dropped)
        shown = Counter(seen.used for seen in told if seen.epoch == epoch)
        (stand_in,) = (seen.used for seen in told if (seen.epoch, seen.index) == (epoch, BROKEN))
        assert shown == asked - Counter([BROKEN]) + Counter([stand_in])
        for step in range(PER_EPOCH):  # and each update is that of the epoch's order
            samples = {seen.index for seen in told if seen.step == epoch * PER_EPOCH + step}
            assert samples == set(order[step * BATCH : (step + 1) * BATCH])
