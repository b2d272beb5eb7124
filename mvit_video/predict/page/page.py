"""The page, built with Gradio (the extra `demo`), and the server that shows it.

It is for one's own machine: the server listens on the loopback address unless it is told otherwise, sends nothing
anywhere, takes files up to a size and videos up to a length, and removes what was uploaded.
"""

from __future__ import annotations

import base64
import errno
import html
import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mvit_video.data.preprocessing import Preprocessing
from mvit_video.errors import InputError, VideoError
from mvit_video.predict.explain.clip import read_clip
from mvit_video.predict.explain.explanation import explain
from mvit_video.predict.explain.pictures import write_video
from mvit_video.predict.page.chart import timeline_chart
from mvit_video.predict.recognizer import Recognizer
from mvit_video.predict.text import plain

if TYPE_CHECKING:
    import fastapi
    import gradio

_KEPT_SECONDS = 900  # an upload, for its player
_PORTS = range(7860, 7960)
_NAMED = 12  # classes
_MOST_WAITING = 8  # visitors; videos are looked at one after the other


@dataclass(frozen=True)
class Limits:
    """What a visitor may hand in: MiB of a file, minutes of video."""

    mib: int = 200
    minutes: float = 10.0


class Answer(NamedTuple):
    """What the page shows of a video.

    Attributes:
        scores: the best classes and their scores.
        timeline: HTML of the chart.
        looks: HTML of the clip with the heat of the model's attention.
    """

    scores: dict[str, float]
    timeline: str
    looks: str


def answer(recognizer: Recognizer, video: str, limits: Limits) -> Answer:
    """Looks at a video.

    Raises:
        VideoError: it cannot be decoded.
        InputError: it is too long.
    """
    window = clip_seconds(recognizer.preprocessing)
    # First, as it alone is bounded.
    timeline = recognizer.timeline(video, window, window / 4, longest=60 * limits.minutes)
    prediction = recognizer(video)
    scores = {plain(best.name): best.score for best in prediction.top}
    chart = timeline_chart(timeline, recognizer.class_names)
    return Answer(scores, chart, _looks(recognizer, video))


def clip_seconds(preprocessing: Preprocessing) -> float:
    """The length of a model's clip; 2 where a clip is as long as its video."""
    if preprocessing.sampling == "segments":
        return 2.0
    return preprocessing.num_frames * preprocessing.sampling_rate / preprocessing.target_fps


def about(recognizer: Recognizer, limits: Limits) -> str:
    """HTML of what the model knows, and what a visitor may hand in."""
    model, names = recognizer.model, recognizer.class_names
    known = ", ".join(names[:_NAMED]) + ", ..." * (len(names) > _NAMED)
    facts = (
        f"{type(model).__name__}, {model.spec.num_classes} classes{': ' * bool(names)}{known}.",
        f"Videos up to {limits.mib} MiB and {limits.minutes:g} minutes.",
    )
    return "".join(f'<p class="about">{html.escape(plain(fact))}</p>' for fact in facts)


def _looks(recognizer: Recognizer, video: str) -> str:
    """The middle clip with its heat, as a video inside the page: no file is left behind."""
    clip = read_clip(recognizer, video)
    told = explain(recognizer, clip)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "looks.mp4"
        write_video(path, clip, told, Path(video).name)
        data = base64.b64encode(path.read_bytes()).decode()
    caption = html.escape(plain("; ".join(each.title for each in told.maps)))
    return (
        '<h2>Where the model looks</h2><figure class="looks"><video controls autoplay loop muted playsinline '
        f'src="data:video/mp4;base64,{data}"></video>'
        f"<figcaption>The clip in the middle of the video: {caption}. docs/explain.md says how to read it."
        "</figcaption></figure>"
    )


def build_page(recognizer: Recognizer, title: str, limits: Limits) -> gradio.Blocks:
    """The page, not yet served.

    Raises:
        InputError: Gradio is not installed.
    """
    gr = _gradio()

    def look(video: str | None) -> tuple[dict[str, float] | None, str, str]:
        if video is None:
            return None, "", ""
        try:
            return answer(recognizer, video, limits)
        except (VideoError, InputError) as error:
            reason = error.reason if isinstance(error, VideoError) else str(error)
            # Where this machine keeps it is its own affair.
            reason = html.escape(plain(reason.replace(video, Path(video).name)))
            raise gr.Error(reason, duration=None, print_exception=False) from None

    with gr.Blocks(
        title=plain(title), analytics_enabled=False, delete_cache=(60, _KEPT_SECONDS)
    ) as page:
        gr.HTML(f"<h1>{html.escape(plain(title))}</h1>{about(recognizer, limits)}")
        with gr.Row():
            film = gr.Video(label="Video", sources=["upload"], elem_id="film", height=360)
            scores = gr.Label(label="What is to be seen", num_top_classes=5, elem_id="scores")
        timeline = gr.HTML(elem_id="timeline", js_on_load=_template("seek.js"))
        looks = gr.HTML(elem_id="looks")
        film.change(look, film, [scores, timeline, looks], api_visibility="private")
    return page.queue(max_size=_MOST_WAITING, default_concurrency_limit=1)


@contextmanager
def served(
    page: gradio.Blocks, limits: Limits, host: str = "127.0.0.1", port: int | None = None
) -> Iterator[str]:
    """Serves the page for the length of a `with` block; its address. What was uploaded goes when it ends.

    Args:
        host: the address to listen on; others than loopback ones let other machines in.
        port: None for a free one from 7860 on.

    Raises:
        InputError: the port is taken, or the address is not this machine's.
    """
    import uvicorn

    with (
        tempfile.TemporaryDirectory(prefix="mvit_video_page_") as folder,
        _listening(host, port) as listener,
    ):
        os.environ["GRADIO_TEMP_DIR"] = page.GRADIO_CACHE = folder
        config = uvicorn.Config(_app(page, limits), log_level="error", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],), name="page")
        thread.start()
        shown = f"[{host}]" if ":" in host else host
        try:
            yield f"http://{shown}:{listener.getsockname()[1]}/"
        finally:
            server.should_exit = True
            thread.join()


def _app(page: gradio.Blocks, limits: Limits) -> fastapi.FastAPI:
    """The page as an application of its own."""
    import fastapi

    gr = _gradio()
    return gr.mount_gradio_app(
        fastapi.FastAPI(),
        page,
        path="/",
        max_file_size=f"{limits.mib}mb",
        ssr_mode=False,
        footer_links=[],
        css=_template("page.css"),
        # The machine's own fonts: the theme's would come from elsewhere.
        theme=gr.themes.Default(
            font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
        ),
    )


def _listening(host: str, port: int | None) -> socket.socket:
    """A socket that listens, so nothing can take its port before the server is up."""
    for number in _PORTS if port is None else (port,):
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            return socket.create_server((host, number), family=family)
        except OSError as error:
            taken = error.errno == errno.EADDRINUSE
            if port is not None or not taken:
                raise InputError(
                    f"cannot listen on {host}, port {number}: {error.strerror}"
                ) from None
    raise InputError(
        f"the ports {_PORTS.start} ... {_PORTS.stop - 1} of {host} are all taken; free one, or name another (--port)"
    )


def _template(name: str) -> str:
    folder = resources.files("mvit_video.predict.page") / "templates"
    return (folder / name).read_text(encoding="utf-8")


def _gradio():
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # before it is imported
    try:
        import gradio
    except ImportError:
        raise InputError(
            "the page needs Gradio, which is not installed: pip install 'mvit-video[demo]'"
        ) from None
    return gradio
