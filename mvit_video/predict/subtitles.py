"""The segments of a timeline as subtitles, SubRip (.srt) or WebVTT (.vtt)."""

from __future__ import annotations

from collections.abc import Sequence

from mvit_video.predict.segments import Segment
from mvit_video.predict.text import srt_text, vtt_text


def srt(segments: Sequence[Segment]) -> str:
    """SubRip: numbered cues."""
    cues = (
        f"{number}\n{_time(s.begin, ',')} --> {_time(s.end, ',')}\n{srt_text(s.name)} ({s.score:.0%})\n"
        for number, s in enumerate(segments, 1)
    )
    return "\n".join(cues)


def vtt(segments: Sequence[Segment]) -> str:
    """WebVTT (W3C)."""
    cues = (
        f"{_time(s.begin, '.')} --> {_time(s.end, '.')}\n{vtt_text(s.name)} ({s.score:.0%})\n"
        for s in segments
    )
    return "\n".join(["WEBVTT\n", *cues])


def _time(seconds: float, point: str) -> str:
    milliseconds = round(seconds * 1000)
    hours, rest = divmod(milliseconds, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    return f"{hours:02d}:{minutes:02d}:{rest // 1000:02d}{point}{rest % 1000:03d}"
