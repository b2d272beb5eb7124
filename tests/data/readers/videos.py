"""Writes small videos of every kind, the frame number drawn into each picture as a bar code.

`python videos.py FOLDER` writes them all, and `made.json`: the numbers that a sequential decode of each must show. It
is run in a process of its own (`conftest.py`): decord, once imported, breaks PyAV's VP8 and VP9 encoders.
"""

from __future__ import annotations

import json
import math
import struct
import sys
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import numpy as np

BITS = 8
SIZE = (96, 64)

Change = Callable[[list[av.Packet]], list[av.Packet]]


def picture(number: int, width: int, height: int) -> np.ndarray:
    """A moving texture, uint8 (height, width, 3), with the number as black and white bars in its upper half."""
    y, x = np.mgrid[0:height, 0:width]
    image = np.stack([x * 3 + number * 5, y * 4 + number * 3, (x + y) * 2 - number * 7], axis=-1)
    image = (image % 200 + 20).astype(np.uint8)
    for bit in range(BITS):
        bar = slice(bit * width // BITS, (bit + 1) * width // BITS)
        image[: height // 2, bar] = 235 if number >> bit & 1 else 20
    return image


def number_in(image: np.ndarray) -> int:
    """Read the bar code of a picture, whatever its size."""
    height, width, _ = image.shape
    columns = image[height // 8 : 3 * height // 8].mean(axis=(0, 2))
    bars = [columns[(2 * bit + 1) * width // (2 * BITS)] for bit in range(BITS)]
    return sum(int(level > 127) << bit for bit, level in enumerate(bars))


def write(
    path: Path,
    numbers: Sequence[int] = range(40),
    codec: str = "libx264",
    size: tuple[int, int] = SIZE,
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
    muxer: dict[str, str] | None = None,
    times: Sequence[int] | None = None,
    change: Change | None = None,
    streams: int = 1,
    turns: int = 0,
) -> list[int]:
    """Write one video of 25 frames per second.

    Args:
        options, muxer: FFmpeg's options for the encoder and the container.
        times: presentation times of the pictures, in frames.
        change: edits the packets before they go into the file.
        streams: how often the same pictures are in the file.
        turns: counter-clockwise quarter turns by which the pictures lie in the file.

    Returns:
        The numbers.
    """
    with av.open(str(path), "w", options=muxer or {}) as container:
        every = []
        for _ in range(streams):
            stream = container.add_stream(codec, rate=25, options=options or {})
            stream.width, stream.height = size
            stream.pix_fmt = pix_fmt
            stream.codec_context.thread_count = 1
            stream.codec_context.time_base = Fraction(1, 25)
            if options and "bf" in options:
                stream.codec_context.max_b_frames = int(options["bf"])
            every.append(stream)
        for stream in every:
            packets = []
            for k, number in enumerate(numbers):
                upright = picture(number, *size[:: -1 if turns % 2 else 1])
                lying = np.ascontiguousarray(np.rot90(upright, turns))
                frame = av.VideoFrame.from_ndarray(lying, format="rgb24")
                frame.pts = times[k] if times else k
                frame.time_base = Fraction(1, 25)
                packets += stream.encode(frame)
            packets += stream.encode()
            for packet in change(packets) if change else packets:
                packet.stream = stream
                container.mux(packet)
    return list(numbers)


def _like(packet: av.Packet, data: bytes, key: bool | None = None) -> av.Packet:
    """A packet with other bytes."""
    new = av.Packet(data)
    new.pts, new.dts, new.time_base = packet.pts, packet.dts, packet.time_base
    new.duration = packet.duration
    new.is_keyframe = packet.is_keyframe if key is None else key
    return new


def _h264(gop: int = 12, **extra: object) -> dict[str, str]:
    parameters = {"keyint": gop, "min-keyint": gop, "scenecut": 0, "bframes": 3, **extra}
    return {"x264-params": ":".join(f"{k}={v}" for k, v in parameters.items())}


def _vpx(**extra: object) -> dict[str, str]:
    options = {"g": 12, "keyint_min": 0, "deadline": "realtime", "b": 200000, **extra}
    return {k: str(v) for k, v in options.items()}


def _mpeg4(bf: int) -> dict[str, str]:
    return {"g": "12", "bf": str(bf), "sc_threshold": "1000000000"}


def two_sizes(path: Path, **how: object) -> list[int]:
    """Twenty pictures of one size, then twenty of another, in one stream."""
    halves = [path.with_name(f"{k}-{path.name}") for k in range(2)]
    write(halves[0], range(20), **how)
    write(halves[1], range(20, 40), size=(128, 96), **how)
    first, second = (av.open(str(half)) for half in halves)
    with first, second, av.open(str(path), "w") as out:
        stream = out.add_stream_from_template(first.streams.video[0])
        for source, shift in ((first, 0), (second, 20)):
            for packet in source.demux(video=0):
                if packet.size:
                    ticks = int(shift / 25 / packet.time_base)
                    packet.pts, packet.dts = packet.pts + ticks, packet.dts + ticks
                    packet.stream = stream
                    out.mux(packet)
    for half in halves:
        half.unlink()
    return list(range(40))


def shifted(path: Path, frames: int, **how: object) -> list[int]:
    """Moves the first frames before time 0, which the mp4 muxer hides with an edit list (as `ffmpeg -ss -c copy`)."""

    def earlier(packets: list[av.Packet]) -> list[av.Packet]:
        ticks = int(frames / 25 / packets[0].time_base)
        for packet in packets:
            packet.pts, packet.dts = packet.pts - ticks, packet.dts - ticks
        return packets

    return write(path, change=earlier, muxer={"avoid_negative_ts": "disabled"}, **how)[frames:]


def rotated(path: Path, quarter_turns: int) -> list[int]:
    """Pictures that lie in the file, and the matrix in the track header that turns them clockwise, upright."""
    numbers = write(path, options=_h264(), turns=quarter_turns)
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    angle = math.radians(90 * quarter_turns)
    cos, sin = round(math.cos(angle)), round(math.sin(angle))
    one = 1 << 16
    struct.pack_into(">5i", data, at, cos * one, sin * one, 0, -sin * one, cos * one)
    path.write_bytes(data)
    return numbers


def hidden_vp8(path: Path) -> list[int]:
    """Frame 17 is decoded and referred to, but not shown, as alternate reference frames are."""

    def hide(packets: list[av.Packet]) -> list[av.Packet]:
        data = bytes(packets[17])
        packets[17] = _like(packets[17], bytes([data[0] & ~0x10]) + data[1:])
        return packets

    return [n for n in write(path, codec="libvpx", options=_vpx(), change=hide) if n != 17]


def superframe_vp9(path: Path) -> list[int]:
    """Frames 20 and 21 travel in one packet, which shows both."""

    def join(packets: list[av.Packet]) -> list[av.Packet]:
        first, second = bytes(packets[20]), bytes(packets[21])
        index = struct.pack("<BHHB", 0xC9, len(first), len(second), 0xC9)
        packets[20] = _like(packets[20], first + second + index)
        return packets[:21] + packets[22:]

    return write(path, codec="libvpx-vp9", options=_vpx(**{"cpu-used": 8}), change=join)


PLACEHOLDER = b"\0\0\1\xb6" + bytes([0b01_0_1_0000, 0b0_1_0_01111])
"""A "not coded" MPEG-4 picture, which shows nothing."""


def placeholder_mpeg4(path: Path) -> list[int]:
    """A placeholder between frames 20 and 21."""

    def insert(packets: list[av.Packet]) -> list[av.Packet]:
        packets.insert(21, _like(packets[20], PLACEHOLDER, key=False))
        for when, packet in enumerate(packets):
            packet.pts = packet.dts = when
        return packets

    return write(path, codec="mpeg4", options=_mpeg4(0), change=insert)


def packed_mpeg4(path: Path) -> list[int]:
    """B pictures packed behind the one they were predicted from, a placeholder in their own place (DivX, HMDB51)."""

    def pack(packets: list[av.Packet]) -> list[av.Packet]:
        data = [bytes(p) for p in packets]
        at = data[0].index(b"\0\0\1\xb6")
        data[0] = data[0][:at] + b"\0\0\1\xb2DivX503b1393p\0" + data[0][at:]
        out = [_like(packets[0], data[0])]
        k = 1
        while k < len(data):
            if k + 1 < len(data) and data[k + 1][4] >> 6 == 2:  # the next one is a B picture
                out.append(_like(packets[k], data[k] + data[k + 1]))
                out.append(_like(packets[k + 1], PLACEHOLDER, key=False))
                k += 2
            else:
                out.append(_like(packets[k], data[k]))
                k += 1
        for when, packet in enumerate(out):
            packet.pts = packet.dts = when
        return out

    return write(path, codec="mpeg4", options=_mpeg4(1), change=pack)


def phantom_h264(path: Path) -> list[int]:
    """The last packet holds a message and no picture."""

    def append(packets: list[av.Packet]) -> list[av.Packet]:
        phantom = _like(packets[-1], b"\0\0\0\1\x06\x05\x01\x00\x80", key=False)
        last = max(p.pts for p in packets) + packets[0].duration
        phantom.pts = phantom.dts = last
        return [*packets, phantom]

    return write(path, options=_h264(), change=append)


def over_reported_avi(path: Path) -> list[int]:
    """The headers promise 400 frames."""
    numbers = write(path, codec="mpeg4", options=_mpeg4(0))
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, data.index(b"avih") + 8 + 16, 400)
    struct.pack_into("<I", data, data.index(b"strh") + 8 + 32, 400)
    path.write_bytes(data)
    return numbers


def latin1_tags(path: Path) -> list[int]:
    """Container tags that are not UTF-8, as in HMDB51."""
    numbers = write(path, codec="mpeg4", options=_mpeg4(2))
    data = path.read_bytes()
    at = data.index(b"Lavf")
    path.write_bytes(data[:at] + b"caf\xe9" + data[at + 4 :])
    return numbers


def false_key_frames(path: Path) -> list[int]:
    """Every packet claims to be a key frame, as in files of careless muxers."""

    def claim(packets: list[av.Packet]) -> list[av.Packet]:
        return [_like(p, bytes(p), key=True) for p in packets]

    return write(path, codec="mpeg4", options=_mpeg4(0), change=claim)


VARIABLE = [k + k * k // 7 for k in range(40)]

VIDEOS: dict[str, Callable[[Path], list[int]]] = {
    "closed.mp4": partial(write, options=_h264()),
    "closed.mkv": partial(write, options=_h264()),
    "closed.mov": partial(write, options=_h264()),
    "closed.flv": partial(write, options=_h264()),
    "closed.ts": partial(write, options=_h264()),
    "closed.avi": partial(write, options=_h264(bframes=0)),
    "closed.h264": partial(write, options=_h264()),
    "open.mp4": partial(write, options=_h264(**{"open-gop": 1, "b-adapt": 0})),
    "open.mkv": partial(write, options=_h264(**{"open-gop": 1, "b-adapt": 0})),
    "no_b.mp4": partial(write, options=_h264(bframes=0)),
    "intra.mp4": partial(write, options=_h264(1)),
    "short_gop.mp4": partial(write, options=_h264(2, **{"b-adapt": 0})),
    "scene_cuts.mp4": partial(write, options=_h264(30, **{"min-keyint": 1, "scenecut": 90})),
    "long_gop.mp4": partial(write, numbers=range(90), options=_h264(250)),
    "refresh.mp4": partial(write, options=_h264(**{"intra-refresh": 1})),
    "interlaced.mp4": partial(write, options=_h264(tff=1)),
    "fragments.mp4": partial(
        write, options=_h264(), muxer={"movflags": "frag_keyframe+empty_moov"}
    ),
    "index_first.mp4": partial(write, options=_h264(), muxer={"movflags": "faststart"}),
    "no_cues.mkv": partial(write, options=_h264(), muxer={"live": "1"}),
    "variable_rate.mp4": partial(write, options=_h264(), times=VARIABLE),
    "variable_rate.webm": partial(write, codec="libvpx", options=_vpx(), times=VARIABLE),
    "variable_rate.avi": partial(write, codec="mpeg4", options=_mpeg4(0), times=VARIABLE),
    "edited.mp4": partial(shifted, frames=5, options=_h264(bframes=0)),
    "edited_b.mp4": partial(shifted, frames=5, options=_h264()),
    "rotated_90.mp4": partial(rotated, quarter_turns=1),
    "rotated_180.mp4": partial(rotated, quarter_turns=2),
    "rotated_270.mp4": partial(rotated, quarter_turns=3),
    "ten_bit.mp4": partial(write, pix_fmt="yuv420p10le", options=_h264()),
    "full_colour.mp4": partial(write, pix_fmt="yuv444p", options=_h264()),
    "gray.mp4": partial(write, pix_fmt="gray", options=_h264()),
    "full_range.mp4": partial(write, pix_fmt="yuvj420p", options=_h264()),
    "narrow_16.mp4": partial(write, size=(16, 32), options=_h264()),
    "narrow_24.mp4": partial(write, size=(24, 32), options=_h264()),
    "narrow_48.mp4": partial(write, size=(48, 32), options=_h264()),
    "narrow_72.mp4": partial(write, size=(72, 32), options=_h264()),
    "odd_width.webm": partial(write, codec="libvpx", size=(97, 64), options=_vpx()),
    "odd_height.webm": partial(write, codec="libvpx", size=(96, 65), options=_vpx()),
    "one_frame.mp4": partial(write, numbers=[7], options=_h264()),
    "two_streams.mp4": partial(write, options=_h264(), streams=2),
    "two_sizes.mkv": partial(two_sizes, options=_h264(bframes=0, **{"repeat-headers": 1})),
    "two_sizes.webm": partial(two_sizes, codec="libvpx", options=_vpx()),
    "phantom.mp4": phantom_h264,
    "false_keys.mp4": false_key_frames,
    "vp8.webm": partial(write, codec="libvpx", options=_vpx()),
    "vp9.webm": partial(write, codec="libvpx-vp9", options=_vpx(**{"cpu-used": 8})),
    "hidden_vp8.webm": hidden_vp8,
    "superframe_vp9.webm": superframe_vp9,
    "mpeg4.avi": partial(write, codec="mpeg4", options=_mpeg4(0)),
    "mpeg4_b.avi": partial(write, codec="mpeg4", options=_mpeg4(2)),
    "mpeg4_b.mp4": partial(write, codec="mpeg4", options=_mpeg4(2)),
    "packed.avi": packed_mpeg4,
    "placeholder.avi": placeholder_mpeg4,
    "over_reported.avi": over_reported_avi,
    "latin1_tags.avi": latin1_tags,
    "hevc.mp4": partial(
        write, codec="libx265", options={"x265-params": "keyint=12:log-level=none"}
    ),
    "hevc.mkv": partial(
        write, codec="libx265", options={"x265-params": "keyint=12:log-level=none"}
    ),
    "mpeg2.mpg": partial(write, codec="mpeg2video", options=_mpeg4(2)),
    "mpeg2.ts": partial(write, codec="mpeg2video", options=_mpeg4(2)),
    "av1.mp4": partial(
        write, codec="libsvtav1", options={"preset": "12", "svtav1-params": "keyint=12:lp=1"}
    ),
    "av1.mkv": partial(
        write, codec="libsvtav1", options={"preset": "12", "svtav1-params": "keyint=12:lp=1"}
    ),
    "motion_jpeg.avi": partial(write, codec="mjpeg", pix_fmt="yuvj420p"),
    "lossless.mkv": partial(write, codec="ffv1"),
}


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    made = {name: make(folder / name) for name, make in VIDEOS.items()}
    (folder / "made.json").write_text(json.dumps(made))
