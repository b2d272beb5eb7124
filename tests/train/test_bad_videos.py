"""The list of training videos that cannot be decoded: each once, whoever met it; and too many of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mvit_video.data.dataset import UndecodableVideo
from mvit_video.data.lists import ListFile
from mvit_video.errors import InputError
from mvit_video.run_folder import BAD_VIDEOS_FILE
from mvit_video.train.bad_videos import BadVideos
from tests.run_processes import Run, log_lines

VIDEOS = ListFile.build([(f"{i}.mp4", 0) for i in range(10)], "/videos", "", "train.csv")


def bad(index: int) -> UndecodableVideo:
    return UndecodableVideo(f"{index}.mp4", 0, index, f"/videos/{index}.mp4: is empty")


def make(folder: Path, max_fraction: float = 0.5) -> BadVideos:
    return BadVideos(str(folder), VIDEOS, 10, max_fraction)


def read(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / BAD_VIDEOS_FILE).read_text().splitlines()]


def test_each_video_is_listed_once_whichever_ranks_meet_it(tmp_path, caplog):
    ranks = [make(tmp_path) for _ in range(2)]
    ranks[0].add([bad(3), bad(5)], epoch=0)
    ranks[1].add([bad(5), bad(4), bad(5)], epoch=0)
    ranks[0].write([rank.take() for rank in ranks], 2)
    ranks[1].add([bad(3), bad(4)], epoch=1)
    ranks[0].write([rank.take() for rank in ranks], 2)
    assert [(line["path"], line["index"]) for line in read(tmp_path)] == [
        (f"/videos/{i}.mp4", i) for i in (3, 5, 4)
    ]
    assert read(tmp_path)[0] == {
        "path": "/videos/3.mp4",
        "reason": "is empty",
        "epoch": 0,
        "index": 3,
    }
    assert len(ranks[0]) == 3
    assert caplog.text.count("/videos/3.mp4: is empty") == 1


def test_the_list_outlives_a_kill_in_the_middle_of_a_line(tmp_path):
    first = make(tmp_path)
    first.add([bad(1), bad(2)], epoch=0)
    first.write([first.take()], 2)
    content = (tmp_path / BAD_VIDEOS_FILE).read_text()
    (tmp_path / BAD_VIDEOS_FILE).write_text(content[:-20])
    again = make(tmp_path)
    again.add([bad(1), bad(2)], epoch=1)
    again.write([again.take()], 2)
    assert [(line["index"], line["epoch"]) for line in read(tmp_path)] == [(1, 0), (2, 1)]


def test_more_than_the_share_stops_with_what_to_do(tmp_path):
    videos = make(tmp_path, max_fraction=0.2)
    videos.add([bad(1), bad(2), bad(3)], epoch=0)
    taken = videos.take()
    videos.write([taken[:2]], 2)  # 2 of 10 are 20 %
    with pytest.raises(InputError) as error:
        videos.write([taken[2:]], 3)
    message = str(error.value)
    assert "3 of the 10 samples of this epoch (30.0 %)" in message
    assert "DATA.MAX_BAD_FRACTION 0.2" in message
    assert "/videos/2.mp4: is empty" in message and str(tmp_path / BAD_VIDEOS_FILE) in message
    assert len(read(tmp_path)) == 3


@pytest.fixture
def lists(dataset, tmp_path) -> Path:
    """The training list with four videos more that are none."""
    folder = tmp_path / "lists"
    folder.mkdir()
    good = Path(dataset["DATA.PATH_TO_DATA_DIR"]) / "train.csv"
    names = [f"{folder}/broken_{i}.mp4" for i in range(4)]
    for name in names:
        Path(name).write_bytes(b"no video")
    (folder / "train.csv").write_text(good.read_text() + "".join(f"{name} 1\n" for name in names))
    return folder


def test_a_killed_run_over_two_ranks_lists_them_all_once(words, lists):
    keys = {
        "DATA__PATH_TO_DATA_DIR": lists,
        "DATA__MAX_BAD_FRACTION": 0.3,
        "TRAIN__BATCH_SIZE": 2,
        "TRAIN__EVAL_PERIOD": 0,
        "SOLVER__MAX_EPOCH": 2,
        "LOG_PERIOD": 4,
    }
    Run(words(**keys), 2).kill_at_step(8)
    run = Run(words(**keys), 2)
    assert set(run.wait()) == {0}, run.told()
    listed = read(run.output)
    assert sorted(line["path"] for line in listed) == [f"{lists}/broken_{i}.mp4" for i in range(4)]
    epochs = log_lines(run.output, "epoch")
    assert [line["substituted"] for line in epochs] == [4, 4]
    assert epochs[-1]["bad_videos"] == 4


def test_too_many_stop_every_rank(words, lists):
    keys = {"DATA__PATH_TO_DATA_DIR": lists, "TRAIN__BATCH_SIZE": 2, "TRAIN__EVAL_PERIOD": 0}
    run = Run(words(**keys), 2)
    assert set(run.wait()) == {2}, run.told()
    assert "DATA.MAX_BAD_FRACTION 0.1 allows" in run.told()
    assert (run.output / BAD_VIDEOS_FILE).exists()
