"""Packaging.

Configs and data lists live at the top level and are installed inside the package
(mvit_video/resources.py).
"""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent


def shipped(folder: str) -> list[str]:
    """Files of a top-level data folder, relative to it: text only, never videos."""
    root = HERE / folder
    return [
        str(path.relative_to(root))
        for path in sorted(root.rglob("*"))
        if path.suffix in {".yaml", ".txt", ".csv", ".tsv", ".json", ".md"}
    ]


EXPORT = ["onnx", "onnxscript", "onnxruntime"]
DEMO = ["gradio>=6,<7"]

setup(
    name="mvit-video",
    version="0.1.0",
    description="Video recognition with multiscale vision transformers",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=[
        *find_packages(include=["mvit_video", "mvit_video.*"]),
        "mvit_video.configs",
        "mvit_video.data_lists",
    ],
    package_dir={"mvit_video.configs": "configs", "mvit_video.data_lists": "data_lists"},
    package_data={
        "mvit_video.evaluate.report": ["templates/*"],
        "mvit_video.predict.page": ["templates/*"],
        "mvit_video.configs": shipped("configs"),
        "mvit_video.data_lists": shipped("data_lists"),
    },
    install_requires=[
        "torch>=2.6,<2.14",  # the tested range: an install never wanders to a torch nobody here has run
        "numpy",
        "pytorchvideo>=0.1.5",
        # decord has wheels for x86-64 Linux only; decord2 is the same reader under the same import name elsewhere.
        "decord>=0.6.0; sys_platform == 'linux' and platform_machine == 'x86_64'",
        "decord2; sys_platform != 'linux' or platform_machine != 'x86_64'",
        "av>=17",
        "pillow>=10.1",
        "fvcore",
        "iopath",
        "submitit>=1.5.4,<1.6",  # its sbatch text and teardown are held to an expected file
        "jinja2>=3.1",
        "safetensors",
        "tqdm",
    ],
    extras_require={
        "test": [
            "pytest",
            "pytest-xdist",
            "hypothesis",
            "ruff",
            "import-linter",
            "tensorboard",
            "playwright",  # drives the system's Chromium; it needs none of its own
            *EXPORT,
            *DEMO,
        ],
        "tensorboard": ["tensorboard"],
        "demo": DEMO,  # the page of tools/demo.py
        "export": EXPORT,  # ONNX; torch's own format needs nothing more
    },
)
