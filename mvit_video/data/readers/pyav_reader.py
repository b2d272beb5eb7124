"""The exact reader: PyAV, one thread, one seek per run of frames, unwanted pictures not decoded.

The idea: one pass over the packets builds an index (`index.py`). Where it proves the frame numbers, a read seeks to
the last entry before the wanted frames, hands the decoder the packets up to the last wanted one, and drains it. Packets
whose picture is neither wanted nor referred to are left out, which saves a third of the work on common files. Where the
index proves nothing, all frames are decoded and counted. Either way a frame is recognised, never assumed: by its
presentation time, or by its count. Whatever else comes out of the decoder on the way is looked at for damage, and
each picture that went in must come out: all that a wanted frame was predicted from is among them.

Scaling, where a size is asked for, is swscale's bilinear filter (it averages over the source pixels that a target
pixel covers when it makes a picture smaller). Pictures after a change of size on the way are scaled to the first.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain

import av
import numpy as np
from av.video.frame import PictureType, VideoFrame
from av.video.reformatter import VideoReformatter

from mvit_video.data.readers.base import Frames, Size, SizeRequest, VideoInfo, settle
from mvit_video.data.readers.container import best_video_stream, open_file, told_as_video_error
from mvit_video.data.readers.index import build_index, packets_of
from mvit_video.errors import VideoError


class PyAVReader:
    """Reads any video that FFmpeg decodes. See `base.Reader`."""

    name = "pyav"

    def probe(self, path: str) -> VideoInfo:
        """See `base.Reader.probe`."""
        with open_video(path) as video:
            return video.info

    def read(
        self, path: str, frames: Frames, size: SizeRequest = None
    ) -> tuple[np.ndarray, VideoInfo]:
        """See `base.Reader.read`."""
        with open_video(path) as video:
            numbers, size = settle(video.info, frames, size)
            return video.read(numbers, size), video.info


@contextmanager
def open_video(path: str | os.PathLike[str]) -> Iterator[Video]:
    """Open a video for the length of a `with` block. Raises `VideoError`."""
    video = Video(path)
    try:
        video.look()
        yield video
    finally:
        video.close()


def _is_damage(frame: VideoFrame | None) -> bool:
    """Whether a packet could not be decoded, or its picture was patched up from its neighbours."""
    return frame is None or frame.is_corrupt


class Video:
    """An open video file; `open_video` makes one.

    Attributes:
        info: the stream's facts.
        index: what its packets prove.
        rotation: counter-clockwise quarter turns that make its pictures upright.
        pixel_format, interlaced: of its first picture; the format by FFmpeg's name, such as "yuv420p".
        num_streams: how many video streams the file has; the one that FFmpeg finds best is read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self._container = None
        self._reformatter = VideoReformatter()  # making one costs more than using it: one for all

    def close(self) -> None:
        if self._container is not None:
            self._container.close()
            self._container = None

    def look(self) -> None:
        """Open the file, index its packets, decode one picture; or, where packets prove too little, all of them."""
        with told_as_video_error(self.path):
            self._open()
            self.index, lead = build_index(self._container, self._stream)
            num_frames, self._num_intact = len(self.index.pts), None
            first = None
            if self.index.doubt is None:
                first = next((f for f in self._decode(lead) if not _is_damage(f)), None)
            if first is None:
                self.index = replace(self.index, doubt=self.index.doubt or "it begins with damage")
                num_frames, self._num_intact, first = self._count()
            if first is None or num_frames == 0:
                raise VideoError(self.path, "no frame can be decoded")
            self.pixel_format, self.interlaced = first.format.name, bool(first.interlaced_frame)
            self.rotation = round(first.rotation / 90) % 4
            width, height = (first.width, first.height)[:: -1 if self.rotation % 2 else 1]
            self.info = VideoInfo(num_frames, self._fps(), width, height)

    def times(self) -> np.ndarray:
        """(num_frames,) ascending seconds at which the frames are shown, the first at 0.

        From the packets; where those prove nothing, evenly at the average rate.
        """
        if self.index.doubt is not None:
            return np.arange(self.info.num_frames) / self.info.fps
        pts = np.array(self.index.pts)
        return (pts - pts[0]) * float(self._stream.time_base)

    def read(self, numbers: list[int], size: Size | None = None) -> np.ndarray:
        """Frames by number, as `base.Reader.read` returns them."""
        size = size or (self.info.height, self.info.width)
        out = np.empty((len(numbers), *size, 3), np.uint8)
        places: dict[int, list[int]] = {}
        for place, i in enumerate(numbers):
            places.setdefault(i, []).append(place)
        with told_as_video_error(self.path):
            if self.index.doubt is None:
                for i, frame in self._by_time(sorted(places)):
                    out[places.pop(i)] = self._rgb(frame, size)
            if places:
                for i, frame in self._by_count(sorted(places)):
                    out[places.pop(i)] = self._rgb(frame, size)
        if places:
            raise VideoError(self.path, f"frame {min(places)} cannot be decoded")
        return out

    def frames(self) -> Iterator[VideoFrame]:
        """All frames in order as they are decoded, neither turned upright nor scaled. Raises `VideoError` at damage."""
        with told_as_video_error(self.path):
            self._open()
            count = 0
            for frame in self._decode(self._packets()):
                if count == self.info.num_frames:
                    return
                if _is_damage(frame):
                    raise VideoError(self.path, f"is damaged at or before frame {count}")
                yield frame
                count += 1
        if count < self.info.num_frames:
            reason = f"lists {self.info.num_frames} frames, but {count} can be decoded"
            raise VideoError(self.path, reason)

    def _open(self) -> None:
        self.close()
        self._container = open_file(self.path)
        self.num_streams = len(self._container.streams.video)
        self._stream = best_video_stream(self._container, self.path)
        self._decoder = self._stream.codec_context
        self._decoder.thread_count = (
            1  # more only helps where no other process is waiting for a core
        )

    def _fps(self) -> float:
        """The average rate that the header states, unless the packets' times say otherwise."""
        # 25 is what FFmpeg itself assumes of streams that state no rate.
        stated = float(self._stream.average_rate or self._stream.guessed_rate or 25)
        times = self.index.pts
        if len(times) < 2:
            return stated
        measured = float((len(times) - 1) / ((times[-1] - times[0]) * self._stream.time_base))
        return stated if abs(measured / stated - 1) < 0.2 else measured

    def _rgb(self, frame: VideoFrame, size: Size) -> np.ndarray:
        height, width = size[:: -1 if self.rotation % 2 else 1]
        rgb = self._reformatter.reformat(
            frame, width, height, format="rgb24", interpolation="BILINEAR", threads=1
        )
        return np.rot90(rgb.to_ndarray(), self.rotation)

    def _packets(self) -> Iterator[av.Packet]:
        """The packets from here to the end, or to where the container cannot be read on."""
        try:
            yield from packets_of(self._container, self._stream)
        except av.error.InvalidDataError:
            return

    def _decode(self, packets: Iterable[av.Packet]) -> Iterator[VideoFrame | None]:
        """Decode packets, then drain the decoder. None stands for a packet that gave an error."""
        self._decoder.flush_buffers()
        for packet in chain(packets, [None]):
            try:
                frames = self._decoder.decode(packet)
            except av.error.InvalidDataError:
                yield None
                continue
            yield from frames
        self._decoder.flush_buffers()

    def _by_time(self, wanted: list[int]) -> Iterator[tuple[int, VideoFrame]]:
        """Ascending frame numbers, recognised by presentation time. Leaves out what it does not find."""
        for entry, numbers in self.index.runs(wanted):
            number_at = {self.index.pts[i]: i for i in numbers}
            due: set[int] = set()
            latest = None
            for frame in self._decode(self._packets_for(entry, number_at, due)):
                if _is_damage(frame):
                    raise VideoError(self.path, f"is damaged at or before frame {numbers[-1]}")
                if frame.pts is None or (latest is not None and frame.pts <= latest):
                    return  # not in the order that the packets promised
                latest = frame.pts
                due.discard(latest)
                if latest in number_at:
                    yield number_at[latest], frame
            if due:
                raise VideoError(self.path, f"loses a picture at or before frame {numbers[-1]}")

    def _packets_for(
        self, entry: int, times: Collection[int], due: set[int]
    ) -> Iterator[av.Packet]:
        """Packets from an entry up to the last that is shown at one of `times`, without those that none of them needs.

        The times at which the others are shown are put into `due`.
        """
        waiting = set(times)
        begin = None
        for packet in self._packets_from(entry):
            begin = packet.pts if begin is None else begin
            if packet.pts not in times and packet.pts in self.index.unreferenced:
                continue
            # Pictures shown before the entry are not: they may be predicted from others before it.
            if packet.pts >= begin and not packet.is_discard:
                due.add(packet.pts)
            yield packet
            waiting.discard(packet.pts)
            if not waiting:
                return

    def _packets_from(self, entry: int) -> Iterator[av.Packet]:
        """Packets from an entry, or from one before it where the container seeks to a wrong place."""
        index = self.index
        for k in range(entry, max(entry - 2, -1), -1):
            try:
                self._container.seek(index.entries[k], stream=self._stream)
            except av.error.FFmpegError:
                continue
            packets = self._packets()
            first = next(packets, None)
            if first and index.is_entry(first.pts) and first.pts <= index.entries[entry]:
                return chain([first], packets)
        self._open()
        return self._packets()

    def _by_count(self, wanted: list[int]) -> Iterator[tuple[int, VideoFrame]]:
        """Ascending frame numbers, by decoding and counting from the first frame."""
        if self._num_intact is None:
            num_frames, self._num_intact, _ = self._count()
            if num_frames != self.info.num_frames:
                reason = f"lists {self.info.num_frames} frames, but {num_frames} can be decoded"
                raise VideoError(self.path, reason)
        if wanted[-1] >= self._num_intact:
            reason = f"is damaged at or before frame {wanted[-1]}"
            raise VideoError(self.path, reason)
        self._open()
        unseen = set(wanted)
        frames = (f for f in self._decode(self._packets()) if f is not None)
        for i, frame in enumerate(frames):
            if i in unseen:
                yield i, frame
            if i == wanted[-1]:
                break

    def _count(self) -> tuple[int, int, VideoFrame | None]:
        """Decode everything.

        Returns:
            The number of frames, without those that are damaged because the file ends too early; the number of
            those before the first damage; the first frame.
        """
        self._open()
        num_packets = count = sure = 0
        first, damage = None, None

        def counted() -> Iterator[av.Packet]:
            nonlocal num_packets
            for packet in self._packets():
                num_packets += 1
                yield packet

        for frame in self._decode(counted()):
            if _is_damage(frame) and damage is None:
                damage = (num_packets, count if frame is None else sure, frame is None)
            if frame is None:
                continue
            first = first or frame
            count += 1
            if frame.pict_type != PictureType.B:
                sure = count  # later B pictures may be predicted from a damaged one that is shown after them
        if damage is None:
            return count, count, first
        at_packet, intact, is_lost = damage
        if at_packet == num_packets:  # the end of a file that was cut off, or a placeholder there
            count = intact = count if is_lost else intact
        return count, intact, first
