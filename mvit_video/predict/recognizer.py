"""`Recognizer`: from a weight file to answers about any video.

recognizer = Recognizer.from_checkpoint("output/demo/checkpoints/best.pt")
print(recognizer("video.mp4"))
"""

from __future__ import annotations

import math
import os
import re
from array import array
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import overload

import numpy as np
import torch
from torch import Tensor, nn

from mvit_video.data.preprocessing import Preprocessing
from mvit_video.data.readers import make_reader
from mvit_video.data.readers.stream import LiveSource, open_stream
from mvit_video.data.views import VideoViews
from mvit_video.errors import InputError
from mvit_video.evaluate.metrics import fuse_views
from mvit_video.evaluate.scoring import autocast, score_views
from mvit_video.models.cuda_graph import CudaGraphs
from mvit_video.predict.checkpoint import TestSettings, load_recognition
from mvit_video.predict.reading import Seconds, Video, local_path, video_name, video_views
from mvit_video.predict.results import Prediction, best_classes
from mvit_video.predict.segments import Segment, SegmentMerger
from mvit_video.predict.timeline import ScoredWindow, Timeline, merge_windows, score_windows
from mvit_video.predict.windows import Window, Windows, slide
from mvit_video.progress import progress

Views = str | tuple[int, int]
"""Clips x crops: "5x3", or (5, 3)."""

_WINDOWS_PER_PASS = 8


class Recognizer:
    """A model, what it wants to be fed, and the names of what it tells apart.

    Args:
        model: any model of ours.
        preprocessing: the model's own.
        settings: how videos are looked at where a call does not say it.
        device: where to compute.

    Attributes:
        model, preprocessing, settings, device: as given; the model is in eval mode.
    """

    def __init__(
        self,
        model: nn.Module,
        preprocessing: Preprocessing,
        settings: TestSettings | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.device = torch.device(device)
        self.model = model.to(self.device).eval()
        self.preprocessing = preprocessing
        self.settings = settings or TestSettings()
        self._graphs = CudaGraphs(self.model) if self.settings.cuda_graphs else None
        self._reader = make_reader(self.settings.reader)

    @classmethod
    def from_checkpoint(
        cls,
        source: str | os.PathLike[str],
        device: torch.device | str = "auto",
        *,
        config: str = "",
        class_names: str = "",
    ) -> Recognizer:
        """A recognizer from one weight file, which holds everything else; official files of the zoo are known.

        Args:
            source: a path, a URL, or the name of a preset whose weights are public, such as "MVITv2_S_16x4".
            device: "auto" is the first GPU, else the CPU.
            config: the model's config, for files that do not say how their model is fed.
            class_names: the name of a shipped list, or a file with one name a line, for files that have none.

        Raises:
            InputError: the file cannot be read or wants to run code, or nothing says how its model is fed.
        """
        found = load_recognition(source, config, class_names)
        return cls(found.model, found.preprocessing, found.settings, choose_device(device))

    @property
    def class_names(self) -> tuple[str, ...]:
        """By class number; empty where they are not known."""
        return self.preprocessing.class_names

    @overload
    def __call__(
        self,
        video: Video,
        *,
        topk: int = 5,
        views: Views | None = None,
        clip: Seconds | None = None,
        fps: float | None = None,
    ) -> Prediction: ...

    @overload
    def __call__(
        self,
        video: Iterable[Video],
        *,
        topk: int = 5,
        views: Views | None = None,
        clip: Seconds | None = None,
        fps: float | None = None,
    ) -> list[Prediction]: ...

    def __call__(self, video, *, topk=5, views=None, clip=None, fps=None):
        """What is to be seen in a video, or in each of several.

        The scores are bit for bit those of the multi-view test on the same video with the same views, on the same
        kind of device with the same number of threads; a video of several gets those that it would get alone.

        Args:
            video: a path, a URL, frames (T, H, W, 3) uint8 RGB; or several of these.
            topk: how many classes to name.
            views: clips x crops such as "5x3"; by default those that the model was tested with.
            clip: (begin, end) in seconds, to look at this part only.
            fps: frames per second of frames.

        Raises:
            VideoError: a video cannot be decoded.
            InputError: views, a clip or frames that cannot be.
        """
        if not isinstance(video, (str, os.PathLike, np.ndarray, Tensor)):
            return [self(one, topk=topk, views=views, clip=clip, fps=fps) for one in video]
        found = self.read(video, views=views, clip=clip, fps=fps)
        return self.predict(found, topk, video_name(video))

    def read(
        self,
        video: Video,
        *,
        views: Views | None = None,
        clip: Seconds | None = None,
        fps: float | None = None,
    ) -> VideoViews:
        """The views of a video as the model will see them; arguments and errors as for a call."""
        return self.reading(views)(video, part=clip, fps=fps)

    def reading(self, views: Views | None = None) -> Callable[[Video], VideoViews]:
        """`read` with these views, as a function for loader processes: it holds no model."""
        return partial(
            video_views,
            preprocessing=self.preprocessing,
            reader=self._reader,
            num_views=self.num_views(views),
        )

    def predict(self, video: VideoViews, topk: int = 5, name: str = "") -> Prediction:
        """The prediction for what `read` gave."""
        if topk < 1:
            raise InputError(f"topk is {topk}; it takes a number of classes from 1 on")
        scores = self._score(video.views(self.device)).numpy()
        fused = fuse_views(scores[None], self.settings.ensemble)[0]
        return Prediction(name, best_classes(fused, self.class_names, topk), fused, scores)

    def embed(
        self,
        video: Video,
        *,
        views: Views | None = None,
        clip: Seconds | None = None,
        fps: float | None = None,
    ) -> Tensor:
        """(D,) float32 features of a video on the CPU: what the last linear layer reads, the mean over views.

        Arguments and errors as for a call.
        """
        clips = self.read(video, views=views, clip=clip, fps=fps).views(self.device)
        seen: list[Tensor] = []
        head = self.model.head
        classifier = getattr(head, "projection", head)
        hook = classifier.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        try:
            with torch.inference_mode(), autocast(self.device, self.settings.precision):
                self.model(self.preprocessing.normalise(clips))
        finally:
            hook.remove()
        return seen[0].float().mean(dim=0).cpu()

    def timeline(
        self,
        video: str | os.PathLike[str],
        window: float = 2.0,
        stride: float = 0.5,
        *,
        enter: float = 0.5,
        leave: float = 0.3,
        longest: float = math.inf,
        show_progress: bool = False,
    ) -> Timeline:
        """What is on when in a video of any length, which is decoded once, as a stream.

        A window slides over the video; its score is that of a centre crop of the model's clip in its middle, or of
        several clips where it is longer than one. A moment has the scores of the window whose centre is nearest.
        Memory does not grow with the length but for the scores, 4 bytes per class and window.

        Args:
            video: a path or URL.
            window, stride: seconds.
            enter, leave: thresholds of a segment (mvit_video/predict/segments.py).
            longest: seconds; a video that goes on beyond them, whatever its header says, is refused there.
            show_progress: on stderr.

        Raises:
            VideoError: not a frame of the video can be decoded.
            InputError: a window or thresholds that cannot be; a video beyond `longest`.
        """
        with open_stream(local_path(video)) as stream:
            windows = slide(stream, self.preprocessing, window, stride)
            total = max(int(((stream.duration or 0) - window) / stride) + 1, 1)
            shown = progress(windows, total, video_name(video), "windows", show_progress)
            # What stays grows in one piece. An array a window, each between the tensors of two passes, would keep the
            # allocator from using their room again: a hundred times the memory of the scores.
            times, scores, segments = array("d"), array("f"), []
            for item in self._merged(windows, shown, enter, leave):
                if windows.duration > longest:
                    raise InputError(f"{video_name(video)} is longer than {longest:g} seconds")
                if isinstance(item, Segment):
                    segments.append(item)
                    continue
                times.extend((item.begin, item.end))
                scores.frombytes(item.scores.tobytes())
            return Timeline(
                video_name(video),
                windows.duration,
                np.array(times).reshape(-1, 2),
                np.array(scores).reshape(len(times) // 2, -1),
                tuple(segments),
                stream.damaged,
            )

    def watch(
        self,
        source: LiveSource | str | os.PathLike[str],
        window: float = 2.0,
        stride: float = 0.5,
        *,
        enter: float = 0.5,
        leave: float = 0.3,
    ) -> Iterator[ScoredWindow | Segment]:
        """As `timeline` while it comes, without an end if need be: the windows, and each segment when it has ended.

        Args:
            source: a camera, a network stream, or a file.
        """
        with open_stream(source) as stream:
            windows = slide(stream, self.preprocessing, window, stride)
            yield from self._merged(windows, windows, enter, leave, batch_size=1)

    def _merged(
        self,
        windows: Windows,
        shown: Iterable[Window],
        enter: float,
        leave: float,
        batch_size: int = _WINDOWS_PER_PASS,
    ) -> Iterator[ScoredWindow | Segment]:
        merger = SegmentMerger(self.class_names, enter, leave)
        scored = score_windows(shown, self._score_clips, batch_size)
        return merge_windows(scored, windows, merger)

    def _score_clips(self, clips: Tensor) -> np.ndarray:
        """(N, V, 3, T, H, W) uint8 -> (N, C)."""
        views = clips.flatten(0, 1).to(self.device)
        scores = self._score(views)
        fused = fuse_views(scores.unflatten(0, clips.shape[:2]).numpy(), self.settings.ensemble)
        return fused.astype(np.float32)

    def _score(self, views: Tensor) -> Tensor:
        """(V, 3, T, H, W) uint8 -> (V, C)."""
        forward = self._graphs or self.model
        return score_views(forward, views, self.preprocessing, self.settings.precision)

    def num_views(self, views: Views | None = None) -> tuple[int, int]:
        """Clips and crops. Raises InputError for what is neither "5x3" nor (5, 3)."""
        if views is None:
            return self.settings.clips, self.settings.crops
        return parse_views(views)


def parse_views(views: Views) -> tuple[int, int]:
    """(5, 3) of "5x3" or (5, 3)."""
    if isinstance(views, str):
        match = re.fullmatch(r"(\d{1,4})x(\d)", views.strip())
        clips, crops = (int(match[1]), int(match[2])) if match else (0, 0)
    else:
        clips, crops = views
    if clips < 1 or crops not in (1, 3):
        raise InputError(
            f"views {views!r}: it takes clips x crops such as 5x3, one clip or more and 1 or 3 crops"
        )
    return clips, crops


def choose_device(device: torch.device | str) -> torch.device:
    """The device of this name; "auto" is the first GPU, else the CPU."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"device {device}: {reason}; use auto or cpu") from None
    return chosen
