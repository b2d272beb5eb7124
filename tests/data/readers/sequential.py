"""The truth that readers are held to: a sequential decode, written as plainly as can be."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import av
import numpy as np


def sequential(path: Path, only: Collection[int] | None = None) -> list[np.ndarray | None]:
    """All frames of a video, decoded from the first to the last; packets that give errors are passed over.

    With `only`, the others are decoded but given as None, which spares memory.
    """
    frames, turns, size = [], 0, None
    try:
        container = av.open(str(path), metadata_errors="ignore")
    except TypeError:
        container = av.open(str(path))
    reformatter = av.video.reformatter.VideoReformatter()
    with container:
        stream = container.streams.best("video")
        stream.codec_context.thread_count = 1
        packets = [p for p in container.demux(stream) if p.size]
        for packet in [*packets, None]:
            try:
                decoded = stream.codec_context.decode(packet)
            except av.error.InvalidDataError:
                continue
            for frame in decoded:
                if only is not None and len(frames) not in only:
                    frames.append(None)
                    continue
                size = size or (frame.width, frame.height)
                turns = round(frame.rotation / 90)
                rgb = reformatter.reformat(
                    frame, *size, format="rgb24", interpolation="BILINEAR", threads=1
                )
                frames.append(np.rot90(rgb.to_ndarray(), turns))
    return frames
