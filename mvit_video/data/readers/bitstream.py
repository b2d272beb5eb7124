"""Glances at coded packets: does a packet show exactly one picture, and may a decoder begin there?

Containers say when a packet is shown and which ones are key frames, but not whether that is so: a packet may show no
picture (alternate references, placeholders) or two (fields), and "key frame" may be a wish. Each codec here reads the
few header bits that decide it, and answers *no* wherever the bits are not understood. No picture is decoded.

Sources: ITU-T H.264 7.3-7.4 and D.2.8 (recovery point), ITU-T H.265 7.3.1, RFC 6386 9.1 (VP8), VP9 bitstream 6.2 and
annex B (superframes), AV1 bitstream 5.3-5.9, ISO/IEC 14496-2 6.2.5 (MPEG-4 visual), ISO/IEC 14496-15 (avcC, hvcC).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple


class Glance(NamedTuple):
    """What one packet is.

    Attributes:
        one_picture: it certainly shows one picture, no more and no fewer.
        entry: a decoder that begins here gives this picture and all shown after it exactly.
        reference: other pictures may be predicted from it.
        geometry: the bytes that fix the size of the pictures, where the packet holds them.
    """

    one_picture: bool
    entry: bool
    reference: bool = True
    geometry: bytes = b""


UNKNOWN = Glance(False, False)

Inspector = Callable[[bytes], Glance]


def inspector(codec: str, container: str, extradata: bytes) -> Inspector:
    """The function that glances at packets of this codec; it recognises nothing where there is none for the codec."""
    inspect: Inspector | None = {"vp8": _vp8, "vp9": _vp9, "av1": _av1}.get(codec)
    if codec == "h264" and extradata[:1] == b"\1" and len(extradata) > 4:
        inspect = partial(_h264, length_bytes=(extradata[4] & 3) + 1)
    if codec == "hevc" and extradata[:1] == b"\1" and len(extradata) > 21:
        inspect = partial(_hevc, length_bytes=(extradata[21] & 3) + 1)
    if codec == "mpeg4":
        # AVI has decoding order only, so with B pictures it does not say which picture is shown when.
        inspect = partial(_mpeg4, reordering=container != "avi")

    def glance(data: bytes) -> Glance:
        try:
            return inspect(data) if inspect else UNKNOWN
        except IndexError:  # the packet ends within its own header
            return UNKNOWN

    return glance


def stated_geometry(codec: str, extradata: bytes) -> bytes:
    """The size-fixing bytes that the container itself holds (H.264's first sequence parameter set)."""
    if codec != "h264" or len(extradata) < 8:
        return b""
    return extradata[8 : 8 + int.from_bytes(extradata[6:8], "big")]


def _nal_units(data: bytes, length_bytes: int) -> Iterator[bytes]:
    at = 0
    while at + length_bytes < len(data):
        end = at + length_bytes + int.from_bytes(data[at : at + length_bytes], "big")
        yield data[at + length_bytes : end]
        at = end


def _h264(data: bytes, length_bytes: int) -> Glance:
    pictures, entry, reference, geometry = 0, False, False, b""
    for unit in _nal_units(data, length_bytes):
        if len(unit) < 2:
            continue
        kind = unit[0] & 31
        if kind in (1, 5):  # a slice; first_mb_in_slice is 0 where the leading bit is set
            pictures += unit[1] >> 7
            entry = entry or kind == 5
            reference = reference or unit[0] >> 5 != 0  # nal_ref_idc
        elif kind == 6:
            entry = entry or _exact_recovery_point(unit)
        elif kind == 7:
            geometry += unit
    return Glance(pictures == 1, entry, reference, geometry)


def _exact_recovery_point(unit: bytes) -> bool:
    """Whether a message says: recovery_frame_cnt = 0 ("1" in Exp-Golomb) and exact_match_flag = 1."""
    at = 1
    while at + 2 < len(unit):
        kind = size = 0
        while at < len(unit) and unit[at] == 255:
            kind, at = kind + 255, at + 1
        kind, at = kind + unit[at], at + 1
        while at < len(unit) and unit[at] == 255:
            size, at = size + 255, at + 1
        if at + 1 >= len(unit):
            return False
        size, at = size + unit[at], at + 1
        if kind == 6:
            return unit[at] >> 6 == 0b11
        at += size
    return False


def _hevc(data: bytes, length_bytes: int) -> Glance:
    pictures, entry, broken = 0, False, False
    for unit in _nal_units(data, length_bytes):
        if len(unit) < 3:
            continue
        kind, layer = unit[0] >> 1 & 63, (unit[0] & 1) << 5 | unit[1] >> 3
        if kind < 32 and layer == 0:  # a slice; the leading bit marks the first one of a picture
            pictures += unit[2] >> 7
            entry = entry or 19 <= kind <= 21
        # After a broken link or an end of sequence, leading pictures are dropped and not shown.
        broken = broken or kind in (16, 17, 18, 36, 37)
    return Glance(pictures == 1 and not broken, entry)


def _mpeg4(data: bytes, reordering: bool) -> Glance:
    at = data.find(b"\0\0\1\xb6")
    # A picture of 19 bytes or fewer may be a "not coded" placeholder, which shows nothing.
    if at < 0 or len(data) - at <= 19 or data.find(b"\0\0\1\xb6", at + 4) >= 0:
        return UNKNOWN
    kind = data[at + 4] >> 6  # 0 intra, 1 predicted, 2 bidirectional, 3 sprite
    return Glance(reordering or kind != 2, entry=kind == 0, reference=kind != 2)


def _vp8(data: bytes) -> Glance:
    if len(data) < 10:
        return Glance(len(data) > 0 and bool(data[0] & 0x10), False)
    entry = not data[0] & 1
    return Glance(bool(data[0] & 0x10), entry, geometry=data[6:10] if entry else b"")


def _vp9(data: bytes) -> Glance:
    frames = _vp9_frames(data)
    shown, entry, geometry = 0, False, b""
    for frame in frames:
        bits = frame[0] << 1 if frame[0] & 0x30 == 0x30 else frame[0]  # profile 3 has one bit more
        if frame[0] >> 6 != 0b10 or (len(frame) < 2 and not bits & 8):
            return UNKNOWN
        if bits & 8:  # show_existing_frame
            shown += 1
            continue
        shown += bits >> 1 & 1
        if not bits & 4:
            entry = frame is frames[0] and bool(bits & 2)
            geometry += frame[4:8] + bytes(b & 0xF0 for b in frame[8:9])
    return Glance(shown == 1, entry, geometry=geometry)


def _vp9_frames(data: bytes) -> list[bytes]:
    """The frames of a packet: one, or those that the index at the end of a superframe lists."""
    marker = data[-1] if data else 0
    count, width = (marker & 7) + 1, (marker >> 3 & 3) + 1
    index = data[-(2 + count * width) :]
    if marker >> 5 != 0b110 or index[:1] != data[-1:]:
        return [data] if data else []
    sizes = [int.from_bytes(index[1 + k * width :][:width], "little") for k in range(count)]
    starts = [sum(sizes[:k]) for k in range(count)]
    return [data[at : at + size] for at, size in zip(starts, sizes, strict=True) if size]


def _av1(data: bytes) -> Glance:
    shown, entry, sequence_header, at = 0, False, False, 0
    while at < len(data):
        header = data[at]
        kind, at = header >> 3 & 15, at + (2 if header & 4 else 1)
        size = len(data) - at
        if header & 2:
            size, at = _leb128(data, at)
        sequence_header = sequence_header or kind == 1
        if kind in (3, 6) and at < len(data):  # frame header, frame
            existing, frame_type, show = data[at] >> 7, data[at] >> 5 & 3, data[at] >> 4 & 1
            entry = entry or (not existing and frame_type == 0 and bool(show) and sequence_header)
            shown += existing or show
        at += size
    return Glance(shown == 1, entry)


def _leb128(data: bytes, at: int) -> tuple[int, int]:
    """A little-endian base-128 number and the position behind it."""
    value = 0
    for k, byte in enumerate(data[at : at + 8]):
        value |= (byte & 127) << 7 * k
        if not byte & 128:
            return value, at + k + 1
    return len(data), len(data)
