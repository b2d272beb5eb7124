"""A copy of a video that is fast to read at random: small, with a key frame every 32 frames.

A clip in the middle of a common web video needs up to ten seconds of frames decoded before it. Copies at a short side
of 320 pixels with closed groups of 32 pictures, coded for fast decoding, are read several times as fast. Frame i of the
copy is frame i of the original, upright; sound, edit lists and uneven times are gone, and the average frame rate stays.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from mvit_video.data.readers.pyav_reader import Video, open_video
from mvit_video.errors import VideoError

SHORT_SIDE = 320
GROUP = 32
_X264 = {
    "preset": "veryfast",
    "tune": "fastdecode",
    "crf": "20",
    "g": str(GROUP),
    "keyint_min": str(GROUP),
    "sc_threshold": "0",
    "x264-params": "open-gop=0",
}


def reencode(source: str, target: str) -> None:
    """Writes the copy of `source` to `target`, an .mp4, which appears when it is whole.

    Raises:
        VideoError: `source` cannot be decoded to its last frame; there is then no copy.
        OSError: `target` cannot be written.
    """
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(target)
    try:
        with open_video(source) as video:
            _encode(video, temporary)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except av.error.FFmpegError as error:
        if isinstance(error, OSError):  # no room, no permission: nothing is wrong with the source
            raise OSError(error.errno, error.strerror, target) from error
        raise VideoError(source, f"cannot be encoded: {error}") from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def temporary_name(target: str) -> str:
    """What a copy is called until it is whole."""
    folder, name = os.path.split(target)
    return os.path.join(folder, f".{name}.tmp")


def copy_size(height: int, width: int) -> tuple[int, int]:
    """Size of the copy of a video: short side 320 if it is longer, both sides even, as H.264 wants them."""
    scale = min(1.0, SHORT_SIDE / min(height, width))
    return max(round(height * scale / 2) * 2, 2), max(round(width * scale / 2) * 2, 2)


def _encode(video: Video, target: str) -> None:
    rate = Fraction(video.info.fps).limit_denominator(1001)
    height, width = copy_size(video.info.height, video.info.width)
    pixel_format = "yuvj420p" if video.pixel_format.startswith("yuvj") else "yuv420p"
    with av.open(target, "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=rate, options=_X264)
        stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
        stream.codec_context.thread_count = (
            1  # the workers are parallel; and so the copy has the same bytes always
        )
        for number, frame in enumerate(_prepared(video, width, height, pixel_format)):
            if number == 0:
                copy_color(frame, stream.codec_context)
            frame.pts, frame.time_base = number, 1 / rate
            frame.pict_type = 0  # the encoder chooses anew
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _prepared(video: Video, width: int, height: int, pixel_format: str) -> Iterator[VideoFrame]:
    """The frames of a video, upright and scaled."""
    reformatter = VideoReformatter()
    settings = {"format": pixel_format, "interpolation": "BICUBIC", "threads": 1}
    for frame in video.frames():
        if video.rotation:
            upright = np.rot90(frame.to_ndarray(format="rgb24"), video.rotation)
            frame = VideoFrame.from_ndarray(np.ascontiguousarray(upright), format="rgb24")
        yield reformatter.reformat(frame, width, height, **settings)


def copy_color(frame: VideoFrame, context: av.VideoCodecContext) -> None:
    """How the numbers mean colours: readers then see those of the original."""
    context.color_range, context.colorspace = frame.color_range, frame.colorspace
