"""What the packets of a file prove about its frames, from one pass over them without decoding.

To give frame i without decoding all frames before it, three things must hold: packets and frames are one to one, so
that the packets sorted by presentation time *are* the frame numbers; a decoder may begin at some packet at or before
frame i; and the container can seek to it. `build_index` looks for proof of each and is content with nothing less:
where one is missing, `Index.doubt` says which, and the frames have to be decoded and counted from the first.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from mvit_video.data.readers.bitstream import Glance, inspector, stated_geometry

SEEKABLE = {"mov,mp4,m4a,3gp,3g2,mj2": "mp4", "matroska,webm": "matroska", "avi": "avi"}
"""Containers with an index and, but for reordered pictures in AVI, presentation times: FFmpeg's name, ours."""

WORTH_A_SEEK = 8
"""Frames between one wanted frame and the entry before the next, from which on seeking beats decoding on."""


class Packet(NamedTuple):
    """One packet, in decoding order. Times are in the stream's units; `hidden`: outside of the edit list."""

    pts: int | None
    dts: int | None
    key: bool
    hidden: bool
    glance: Glance


@dataclass(frozen=True)
class Index:
    """The frames of a stream, as its packets tell them.

    Attributes:
        container, codec: short names, such as "mp4", "h264".
        doubt: why packets do not prove the frame numbers; None where they do, and only then are there `pts`.
        pts: presentation time of frame i, ascending.
        entries: presentation times of the packets at which decoding may begin, ascending.
        unreferenced: presentation times of pictures that no other is predicted from.
        clean_keys: each key frame is what it claims, splits decoding order as it splits presentation order (closed
            groups of pictures), and lies further from the next one than the decoder's delay.
        edited: an edit list hides packets.
        resized: the picture size changes on the way.
        cut: packets are missing at the end.
    """

    container: str
    codec: str
    doubt: str | None
    pts: list[int]
    entries: list[int]
    unreferenced: frozenset[int]
    clean_keys: bool
    edited: bool
    resized: bool
    cut: bool

    def is_entry(self, pts: int | None) -> bool:
        """Whether decoding may begin at the packet with this presentation time."""
        k = -1 if pts is None else bisect_left(self.entries, pts)
        return 0 <= k < len(self.entries) and self.entries[k] == pts

    def runs(self, wanted: list[int]) -> list[tuple[int, list[int]]]:
        """Split ascending frame numbers into runs that are decoded in one go.

        Returns:
            For each run, which entry to begin at (its position in `entries`), and its frame numbers.
        """
        runs: list[tuple[int, list[int]]] = []
        for i in wanted:
            k = bisect_right(self.entries, self.pts[i]) - 1
            entry_frame = bisect_left(self.pts, self.entries[k])
            if runs and entry_frame - runs[-1][1][-1] < WORTH_A_SEEK:
                runs[-1][1].append(i)
            else:
                runs.append((k, [i]))
        return runs


def packets_of(container: InputContainer, stream: VideoStream) -> Iterator[av.Packet]:
    """The packets of a stream, from where the container stands to its end."""
    while True:
        try:
            yield from (packet for packet in container.demux(stream) if packet.size)
            return
        except IndexError:
            # A packet of a stream that begins in the middle of the file, which PyAV does not know: pass over it.
            continue


def build_index(container: InputContainer, stream: VideoStream) -> tuple[Index, list[av.Packet]]:
    """Read all packets of a stream, decode none.

    Returns:
        The index; and the packets up to the first that is shown, for a look at one picture.
    """
    name = SEEKABLE.get(container.format.name, container.format.name)
    codec = stream.codec_context.codec.canonical_name
    extradata = bytes(stream.codec_context.extradata or b"")
    inspect = inspector(codec, name, extradata)
    packets: list[Packet] = []
    lead: list[av.Packet] = []
    cut = False
    try:
        for packet in packets_of(container, stream):
            if packet.is_corrupt:
                cut = True
                break
            if not packets or (packets[-1].hidden and len(lead) == len(packets)):
                lead.append(packet)
            glance = inspect(bytes(packet))
            packets.append(
                Packet(packet.pts, packet.dts, packet.is_keyframe, packet.is_discard, glance)
            )
    except av.error.InvalidDataError:
        cut = True

    doubt = _doubt(name, codec, packets)
    if doubt is None and codec == "h264" and _reordering(packets) > _delay(stream):
        doubt = "pictures are reordered further than the stream declares"
    proven = packets if doubt is None else []
    geometries = {stated_geometry(codec, extradata), *(p.glance.geometry for p in packets)}
    index = Index(
        container=name,
        codec=codec,
        doubt=doubt,
        pts=sorted(p.pts for p in proven if not p.hidden),
        entries=sorted(p.pts for p in proven if p.key and p.glance.entry),
        unreferenced=frozenset(p.pts for p in proven if not p.glance.reference),
        clean_keys=_keys_are_clean(proven),
        edited=any(p.hidden for p in packets),
        resized=len(geometries - {b""}) > 1,
        cut=cut or stream.frames > len(packets),
    )
    return index, lead


def _doubt(container: str, codec: str, packets: list[Packet]) -> str | None:
    """Why these packets do not prove which frame is which; None where they do."""
    if container not in SEEKABLE.values():
        return f"{container} does not prove when each picture is shown"
    if not packets or not packets[0].key or not packets[0].glance.entry:
        return f"{codec} is not seen to begin with a picture that stands alone"
    if not all(p.glance.one_picture for p in packets):
        return f"not every packet is seen to show one {codec} picture"
    times = {p.pts for p in packets}
    if None in times or len(times) < len(packets):
        return "presentation times are missing or not unique"
    if min(times) < packets[0].pts:
        return "pictures are shown before the first one that stands alone"
    return None


def _reordering(packets: list[Packet]) -> int:
    """The largest number of pictures that are decoded before some picture, but shown after it."""
    times: list[int] = []
    deepest = 0
    for packet in packets:
        deepest = max(deepest, len(times) - bisect_right(times, packet.pts))
        insort(times, packet.pts)
    return deepest


def _delay(stream: VideoStream) -> int:
    """How many pictures an H.264 decoder holds back; where it holds too few, it drops those that come late."""
    context = stream.codec_context
    return getattr(context, "reorder_depth", 16 if context.has_b_frames else 0)


def _keys_are_clean(packets: list[Packet]) -> bool:
    """See `Index.clean_keys`."""
    key, latest = None, None
    for packet in packets:
        if packet.key:
            if not packet.glance.entry or (latest is not None and latest > packet.pts):
                return False
            if key is not None and (packet.dts is None or packet.dts <= key.pts):
                return False
            key = packet
        if packet.pts < key.pts:
            return False
        latest = packet.pts if latest is None else max(latest, packet.pts)
    return True
