"""RandAugment's operations frame by frame with Pillow, as timm and SlowFast apply them."""

from __future__ import annotations

from PIL import Image, ImageEnhance, ImageOps

GREY = (128, 128, 128)
RESAMPLING = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


def pillow(frame: Image.Image, name: str, value: float, interpolation: str) -> Image.Image:
    """One operation on one frame, as timm's RandAugment has it."""
    width, height = frame.size
    if name == "Rotate":
        return frame.rotate(value, resample=RESAMPLING[interpolation], fillcolor=GREY)
    matrices = {
        "ShearX": (1, value, 0, 0, 1, 0),
        "ShearY": (1, 0, 0, value, 1, 0),
        "TranslateX": (1, 0, value * width, 0, 1, 0),
        "TranslateY": (1, 0, 0, 0, 1, value * height),
    }
    if name in matrices:
        affine = Image.Transform.AFFINE
        return frame.transform(
            frame.size, affine, matrices[name], RESAMPLING[interpolation], fillcolor=GREY
        )
    if name == "SolarizeAdd":
        return frame.point([min(i + int(value), 255) if i < 128 else i for i in range(256)] * 3)
    functions = {
        "AutoContrast": lambda: ImageOps.autocontrast(frame),
        "Equalize": lambda: ImageOps.equalize(frame),
        "Invert": lambda: ImageOps.invert(frame),
        "Posterize": lambda: ImageOps.posterize(frame, int(value)),
        "Solarize": lambda: ImageOps.solarize(frame, int(value)),
    }
    if name in functions:
        return functions[name]()
    return getattr(ImageEnhance, name)(frame).enhance(value)
