"""From a video to a picture: the right frames, the right crop, the heat where it belongs."""

from __future__ import annotations

from dataclasses import replace

import av
import numpy as np
import pytest
import torch
from PIL import Image

from mvit_video.data.preprocessing import Preprocessing
from mvit_video.errors import InputError, VideoError
from mvit_video.models.mvit import MViT
from mvit_video.predict.explain.clip import ShownClip, heat_on_frames, read_clip
from mvit_video.predict.explain.explanation import Explanation, HeatMap, explain
from mvit_video.predict.explain.pictures import overlay, write_strip, write_video
from mvit_video.predict.recognizer import Recognizer
from tests.models.test_all_models import make
from tests.tiny_run import write_video as write_test_video
from tests.weights.small_models import IMAGE_V2

FED = Preprocessing(
    8, 2, "stride", 30.0, 72, 64, (0.45, 0.45, 0.45), (0.225, 0.225, 0.225), False, tuple("abcde")
)


@pytest.fixture
def video(tmp_path):
    path = tmp_path / "it's a video.mp4"
    write_test_video(path, 1, seed=0, frames=40, size=(96, 120))
    return str(path)


def recognizer_of(model, **changes) -> Recognizer:
    return Recognizer(model.eval(), replace(FED, **changes))


def made(moments, num_fed=8, side=32) -> ShownClip:
    frames = np.full((len(moments), side, side, 3), 128, np.uint8)
    moments = np.array(moments, dtype=float)
    return ShownClip(torch.zeros(1, 3, num_fed, 8, 8), frames, moments, moments / 10, 10.0)


def test_the_clip_is_the_recognizers_and_the_frames_are_its_crop(video):
    recognizer = recognizer_of(make("MViT v1"), crop_size=240, short_side=256)
    clip = read_clip(recognizer, video, columns=8)
    views = recognizer.read(video, views=(1, 1)).views()
    torch.testing.assert_close(clip.fed, FED.normalise(views), rtol=0, atol=0)
    np.testing.assert_array_equal(clip.frames, views[0].permute(1, 2, 3, 0).numpy())
    np.testing.assert_array_equal(clip.moments, np.arange(8))
    np.testing.assert_allclose(clip.seconds, (12 + 2 * np.arange(8)) / 30)


def test_a_small_crop_is_shown_larger_and_the_same(video):
    recognizer = recognizer_of(make("MViT v1"))
    clip = read_clip(recognizer, video, columns=3)
    assert clip.frames.shape == (3, 256, 256, 3)
    small = torch.nn.functional.interpolate(
        torch.from_numpy(clip.frames).permute(0, 3, 1, 2).float(), (64, 64), mode="area"
    )
    view = recognizer.read(video, views=(1, 1)).views()[0].permute(1, 0, 2, 3)[[0, 4, 7]].float()
    assert (small - view).abs().mean() < 6


def test_a_video_shows_every_frame_of_the_clip_at_its_speed(video):
    clip = read_clip(recognizer_of(make("MViT v1")), video)
    np.testing.assert_allclose(clip.moments, np.arange(15) / 2)
    assert clip.fps == pytest.approx(30)
    part = read_clip(recognizer_of(make("MViT v1")), video, part=(0.8, None))
    assert part.seconds[0] == pytest.approx(0.8) and len(part.frames) == 15
    with pytest.raises(VideoError, match="no frame is shown"):
        read_clip(recognizer_of(make("MViT v1")), video, part=(5.0, 6.0))


def test_short_videos_and_single_frames_are_explained_too(tmp_path):
    short = tmp_path / "short.mp4"
    write_test_video(short, 0, seed=0, frames=3)
    for columns in (0, 8):
        clip = read_clip(recognizer_of(make("MViT v1")), str(short), columns=columns)
        assert clip.moments.max() <= 2 and np.isfinite(clip.fps)
    still = recognizer_of(MViT(IMAGE_V2), num_frames=1)
    clip = read_clip(still, str(short))
    assert len(clip.frames) == 1
    told = explain(still, clip)
    write_video(tmp_path / "still.mp4", clip, told, "still")
    write_strip(tmp_path / "still.png", clip, told, "still")


def test_heat_lies_on_the_frames_and_places_of_its_tokens():
    heat = torch.zeros(4, 4, 4)
    heat[1, 0, 3] = 1.0  # the second of four time steps: frames 2 and 3 of 8; top right
    spread = heat_on_frames(heat, made([0, 2, 2.5, 3, 5, 7]))
    assert spread.shape == (6, 32, 32)
    assert spread[0].max() == spread[4].max() == spread[5].max() == 0
    assert spread[2].max() > spread[1].max() > 0 and spread[1].max() == pytest.approx(
        spread[3].max().item()
    )
    row, column = np.unravel_index(spread[2].argmax(), (32, 32))
    assert row < 8 and column >= 24


def test_an_overlay_colours_the_heat_and_greys_the_rest():
    frames = np.zeros((2, 8, 8, 3), np.uint8)
    frames[..., 2] = 200  # blue
    heat = torch.zeros(2, 8, 8)
    heat[1, 4, 4] = 3.0
    drawn = overlay(frames, heat).astype(int)
    assert np.ptp(drawn[0], axis=-1).max() <= 1 and drawn[0].max() < 60
    red, _, blue = drawn[1, 4, 4]
    assert red > 120 and red > drawn[1, 0, 0, 0] + 100 and blue > 60
    np.testing.assert_array_equal(overlay(frames, torch.zeros(2, 8, 8))[0], drawn[0])


def test_a_strip_holds_a_row_per_map_and_a_column_per_frame(tmp_path):
    clip = made([0, 3, 7], side=224)
    maps = tuple(HeatMap(f"map {i}", torch.rand(4, 4, 4)) for i in range(2))
    hostile = "a\nname <script> ‮" + "very long " * 200
    write_strip(tmp_path / "strip.png", clip, Explanation(hostile, maps), hostile)
    picture = Image.open(tmp_path / "strip.png")
    assert picture.size == (504, 592)
    pixels = np.asarray(picture).astype(int)
    assert (np.asarray(picture)[-3:] == 255).all()  # a margin, and no text over it
    assert np.ptp(pixels[50:200, 10:160], axis=-1).max() == 0
    assert np.ptp(pixels[250:400, 10:160], axis=-1).max() > 50


@pytest.mark.parametrize("num_maps", [1, 3])
def test_a_video_holds_every_frame_beside_every_map(num_maps, tmp_path):
    clip = made(np.arange(15) / 2, side=225)
    maps = tuple(HeatMap(f"map {i}", torch.rand(4, 4, 4)) for i in range(num_maps))
    write_video(tmp_path / "heat.mp4", clip, Explanation("answer", maps), "name")
    with av.open(str(tmp_path / "heat.mp4")) as container:
        stream = container.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        assert len(frames) == 15 and stream.average_rate == 10
    height, width, _ = frames[0].shape
    assert (height, width) == (260, {1: 468, 3: 930}[num_maps])


@pytest.mark.parametrize(
    ("which", "method", "titles"),
    [
        ("MViT v1", "", ["attention rollout"]),
        ("MViT v2", "cam", ["for "]),
        ("DualViT", "", ["semantic token "] * 3),
        ("MPViT", "", ["for "]),
        ("CloFormer", "cam", ["for "]),
    ],
)
def test_every_family_explains_itself(which, method, titles, video):
    recognizer = recognizer_of(make(which))
    clip = read_clip(recognizer, video, columns=4)
    told = explain(recognizer, clip, method)
    best = recognizer(video, views=(1, 1)).top[0]
    assert told.answer == f"{best.name} {best.score:.0%}"
    assert len(told.maps) == len(titles)
    for each, title in zip(told.maps, titles, strict=True):
        assert title in each.title
        assert each.heat.ndim == 3 and (each.heat >= 0).all() and each.heat.isfinite().all()


def test_cam_explains_the_class_and_level_asked_for(video):
    recognizer = recognizer_of(make("CloFormer"))
    clip = read_clip(recognizer, video, columns=4)
    told = [explain(recognizer, clip, "cam", label, 1) for label in (0, 4)]
    assert "for a (" in told[0].maps[0].title and "for e (" in told[1].maps[0].title
    assert told[0].maps[0].heat.shape == (4, 8, 8)
    assert not torch.equal(told[0].maps[0].heat, told[1].maps[0].heat)


@pytest.mark.parametrize(
    ("which", "arguments", "message"),
    [
        ("MPViT", ("rollout",), "rollout is for MViT, and this model's family is MPViT; its methods are cam"),
        ("MViT v1", ("semantic",), "its methods are rollout, cam"),
        ("MViT v1", ("guess",), "choose one of rollout, semantic, cam"),
        ("MViT v1", ("rollout", 3), "are for cam"),
        ("MViT v1", ("cam", 5), "classes 0 ... 4"),
        ("MViT v1", ("cam", 0, 9), "levels 0 ... 2"),
    ],
)  # fmt: skip
def test_what_a_model_cannot_explain_is_an_input_error(which, arguments, message, video):
    recognizer = recognizer_of(make(which))
    clip = read_clip(recognizer, video, columns=2)
    with pytest.raises(InputError, match=message):
        explain(recognizer, clip, *arguments)
