"""pytorchvideo's way of reading a clip, as a reader: `EncodedVideo.get_clip` by time, then every n-th of its frames.

`pytorchvideo.data` imports torchvision, which neither it nor we declare and reading does not use: stubs stand in when
it is not installed.
"""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType

import numpy as np

from mvit_video.data.readers import Frames, SizeRequest, VideoInfo
from mvit_video.data.readers.base import settle


class EncodedVideoReader:
    """Frames near those that were asked for, by pytorchvideo's clock; for its speed, not for its frames."""

    name = "encoded_video"

    def __init__(self) -> None:
        _stub_torchvision()
        from pytorchvideo.data.encoded_video import EncodedVideo

        self._open = EncodedVideo.from_path

    def read(
        self, path: str, frames: Frames, size: SizeRequest = None
    ) -> tuple[np.ndarray, VideoInfo]:
        """See `Reader.read`; the size is the video's own."""
        video = self._open(path, decode_audio=False, decoder="pyav")
        try:
            stream = video._container.streams.video[0]
            fps = float(stream.average_rate)
            count = max(int(float(video.duration) * fps), 1)
            info = VideoInfo(count, fps, stream.width, stream.height)
            numbers, _ = settle(info, frames, None)
            first, last = min(numbers), max(numbers)
            clip = video.get_clip(first / fps, (last + 1) / fps)["video"]  # (3, T, H, W) float32
            places = [min(number - first, clip.shape[1] - 1) for number in numbers]
            return clip[:, places].byte().permute(1, 2, 3, 0).numpy(), info
        finally:
            video.close()


def _stub_torchvision() -> None:
    if "torchvision" in sys.modules or importlib.util.find_spec("torchvision"):
        return
    wanted = {
        "torchvision": (),
        "torchvision.datasets": (),
        "torchvision.datasets.folder": ("make_dataset",),
        "torchvision.transforms": ("Compose",),
        "torchvision.transforms._functional_video": (),
        "torchvision.io": (),
    }
    for name, members in wanted.items():
        module = sys.modules[name] = ModuleType(name)
        for member in members:
            setattr(module, member, object)
        parent, _, leaf = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], leaf, module)
