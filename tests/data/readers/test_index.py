"""What packets prove, and how wanted frames are split into runs."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvit_video.data.readers.bitstream import Glance, inspector
from mvit_video.data.readers.index import Index, Packet, _doubt, _keys_are_clean, _reordering

KEY, OTHER = Glance(True, entry=True), Glance(True, entry=False)


def stream(times: str, keys: str, glances: dict[int, Glance] | None = None) -> list[Packet]:
    """Packets in decoding order: presentation times, and which of these are key frames."""
    packets = []
    for dts, time in enumerate(int(t) for t in times.split()):
        key = str(time) in keys.split()
        glance = (glances or {}).get(time, KEY if key else OTHER)
        packets.append(Packet(time, dts - 1, key, False, glance))
    return packets


CLOSED = stream("0 2 1 3 6 5 7", keys="0 3")
OPEN = stream("0 2 1 5 3 4 6", keys="0 5")


def test_ordinary_packets_prove_their_frames():
    assert _doubt("mp4", "h264", CLOSED) is None
    assert _doubt("matroska", "vp9", OPEN) is None


@pytest.mark.parametrize(
    "packets, word",
    [
        ([], "begin"),
        (stream("0 1 2", keys=""), "begin"),
        (stream("0 1 2", keys="0", glances={0: OTHER}), "begin"),
        (stream("0 1 2", keys="0", glances={2: Glance(False, False)}), "one h264 picture"),
        (stream("0 1 1", keys="0"), "not unique"),
        ([*CLOSED, CLOSED[-1]._replace(pts=None)], "missing"),
        (stream("2 0 1 3", keys="2"), "before the first"),
    ],
)
def test_packets_that_prove_nothing_are_doubted(packets, word):
    assert word in _doubt("mp4", "h264", packets)


def test_other_containers_are_doubted():
    assert "mpegts" in _doubt("mpegts", "h264", CLOSED)


def test_keys_are_clean_only_in_closed_groups_of_pictures_that_are_not_too_short():
    assert _keys_are_clean(CLOSED)
    assert not _keys_are_clean(OPEN)
    assert not _keys_are_clean(stream("0 1 2 3", keys="0 2", glances={2: OTHER}))
    late = [
        p._replace(dts=p.dts - 3) for p in CLOSED
    ]  # the second key is decoded at -1, the first shown at 0
    assert not _keys_are_clean(late)


def test_reordering_counts_the_pictures_that_are_held_back():
    assert _reordering(stream("0 1 2 3", keys="0")) == 0
    assert _reordering(stream("0 3 1 2", keys="0")) == 1
    assert _reordering(stream("0 4 2 1 3", keys="0")) == 2


def index(num_frames: int, entries: list[int]) -> Index:
    return Index("mp4", "h264", None, list(range(num_frames)), entries, *[None] * 5)


@pytest.mark.parametrize(
    "wanted, runs",
    [
        ([0, 5, 11], [(0, [0, 5, 11])]),
        ([11, 12], [(0, [11, 12])]),  # the entry is so near that decoding on is cheaper
        ([3, 12, 30], [(0, [3]), (1, [12]), (2, [30])]),
        ([50], [(2, [50])]),
        ([], []),
    ],
)
def test_frames_far_apart_are_reached_by_seeking(wanted, runs):
    assert index(60, [0, 12, 24]).runs(wanted) == runs


def test_entries_are_known_by_their_time():
    times = index(60, [0, 12, 24])
    assert [t for t in range(60) if times.is_entry(t)] == [0, 12, 24]
    assert not times.is_entry(None)
    assert not dataclasses.replace(times, entries=[]).is_entry(0)


@given(st.binary(max_size=64), st.sampled_from(["h264", "hevc", "mpeg4", "vp8", "vp9", "av1", "?"]))
def test_noise_is_no_trouble(data, codec):
    glance = inspector(codec, "mp4", b"\1" + bytes(5) + b"\xff" * 40)
    assert isinstance(glance(data), Glance)
    assert not glance(b"").one_picture


def test_a_recovery_point_is_an_entry_only_where_it_is_exact_at_once():
    inspect = inspector("h264", "mp4", b"\1" + bytes(3) + b"\3")

    def packet(message: bytes) -> bytes:
        units = (b"\x06" + message + b"\x80", b"\x41\x9a\0\0")
        return b"".join(len(unit).to_bytes(4, "big") + unit for unit in units)

    assert inspect(packet(b"\x06\x01\xc4")).entry  # recovery_frame_cnt 0, exact_match_flag 1
    assert inspect(packet(b"\x05\x02ab\x06\x01\xc4")).entry  # behind another message
    assert not inspect(packet(b"\x06\x01\x84")).entry  # not exact
    assert not inspect(packet(b"\x06\x01\x44")).entry  # only some frames later
    assert not inspect(packet(b"\x05\x01\xc4")).entry  # another message
