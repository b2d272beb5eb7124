"""The published models: what they are built from, how they were tested, where their weights are.

Dual-ViT, MPViT and CloFormer were published for images, and no script can fetch their weights; as video models they
are listed without accuracies. Accuracies are the publishers' own. Parameters and multiply-adds are not written down here: they are
computed from the models (`tools/zoo.py`), and a test holds them to the publishers' figures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

_SLOWFAST = "https://dl.fbaipublicfiles.com/pyslowfast/model_zoo"
_V2 = f"{_SLOWFAST}/mvitv2/pysf_video_models"
_PTV = "https://dl.fbaipublicfiles.com/pytorchvideo/model_zoo"
_TORCHVISION = "https://download.pytorch.org/models"
_MVIT = "https://dl.fbaipublicfiles.com/mvit/mvitv2_models"

_DUALVIT, _MPVIT, _CLOFORMER = "arXiv 2207.04976", "arXiv 2112.11010", "arXiv 2303.17803"
_INFLATED = "inflated here, not trained"

DataSet = Literal["K400", "K600", "SSv2", "IN1K"]


@dataclass(frozen=True)
class Published:
    """One published model.

    Attributes:
        name: for people.
        preset: its spec, in `mvit_video.models`.
        dataset: what it was trained on last, whose classes it tells.
        num_classes: of its head.
        source: who published it, with these accuracies.
        views: spatial crops x clips of its test, "" for images.
        top1, top5: per cent, None where it was not published.
        url: of its weights, "" where they cannot be fetched by a script.
        config: the shipped config that trains and tests it.
        published_parameters, published_multiply_adds: in 10^6 and 10^9 as the publisher prints them, None
            where nothing is printed.
    """

    name: str
    preset: str
    dataset: DataSet
    num_classes: int
    source: str
    views: str
    top1: float | None
    top5: float | None
    url: str = ""
    config: str = ""
    published_parameters: float | None = None
    published_multiply_adds: float | None = None


# fmt: off
ZOO: tuple[Published, ...] = (
    Published("MViTv1-B 16x4", "MVIT_B_16x4", "K400", 400, "SlowFast", "1x5", 78.4, 93.5, "", "configs/K400/MVIT_B_16x4.yaml"),
    Published("MViTv1-B 16x4", "MVIT_B_16x4", "K400", 400, "pytorchvideo", "1x5", 78.85, 93.85, f"{_PTV}/kinetics/MVIT_B_16x4.pyth", "configs/K400/MVIT_B_16x4.yaml", 36.61, 70.80),
    Published("MViTv1-B 16x4", "MVIT_B_16x4", "K400", 400, "torchvision", "1x5", 78.477, 93.582, f"{_TORCHVISION}/mvit_v1_b-dbeb1030.pth", "configs/K400/MVIT_B_16x4.yaml", 36.610672, 70.599),
    Published("MViTv1-B 32x3", "MVIT_B_32x3", "K400", 400, "pytorchvideo", "1x5", 80.30, 94.69, f"{_PTV}/kinetics/MVIT_B_32x3_f294077834.pyth", "configs/K400/MVIT_B_32x3.yaml", 36.61, 170.37),
    Published("MViTv1-B 32x3, 24 blocks", "MVIT_B24_32x3", "K400", 400, "SlowFast", "1x5", 80.4, 94.8, f"{_SLOWFAST}/mvit/k400.pyth", "configs/K400/MVIT_B24_32x3.yaml"),
    Published("MViTv1-B 32x3, 24 blocks", "MVIT_B24_32x3", "K600", 600, "SlowFast", "1x5", 83.9, 96.5, f"{_SLOWFAST}/mvit/k600.pyth", "configs/K600/MVIT_B24_32x3.yaml"),
    Published("MViTv1-B 64x3", "MVIT_B_64x3", "K400", 400, "arXiv 2104.11227", "3x3", 81.2, 95.1, "", "configs/K400/MVIT_B_64x3.yaml", 36.6, 455),
    Published("MViTv2-S 16x4", "MVITv2_S_16x4", "K400", 400, "SlowFast", "1x5", 81.0, 94.6, f"{_V2}/MViTv2_S_16x4_k400_f302660347.pyth", "configs/K400/MVITv2_S_16x4.yaml", 34.5, 64),
    Published("MViTv2-S 16x4", "MVITv2_S_16x4", "K400", 400, "torchvision", "1x5", 80.757, 94.665, f"{_TORCHVISION}/mvit_v2_s-ae3be167.pth", "configs/K400/MVITv2_S_16x4.yaml", 34.5, 64),
    Published("MViTv2-B 32x3", "MVITv2_B_32x3", "K400", 400, "SlowFast", "1x5", 82.9, 95.7, f"{_V2}/MViTv2_B_32x3_k400_f304025456.pyth", "configs/K400/MVITv2_B_32x3.yaml", 51.2, 225),
    # Its README says 217.6; the released config, which the multiply-adds agree with, builds 213.4.
    Published("MViTv2-L 40x3, 312 px", "MVITv2_L_40x3", "K400", 400, "SlowFast", "3x5", 86.1, 97.0, f"{_V2}/MViTv2_L_40x3_k400_f306903192.pyth", "configs/K400/MVITv2_L_40x3.yaml", None, 2828),
    Published("MViTv2-S 16x4", "MVITv2_S_16x4", "SSv2", 174, "SlowFast", "3x1", 68.2, 91.4, f"{_V2}/MViTv2_S_16x4_ssv2_f308341823.pyth", "configs/SSv2/MVITv2_S_16x4.yaml", 34.4, 64),
    Published("MViTv2-B 32x3", "MVITv2_B_32x3", "SSv2", 174, "SlowFast", "3x1", 70.5, 92.7, f"{_V2}/MViTv2_B_32x3_ssv2_f305803282.pyth", "configs/SSv2/MVITv2_B_32x3.yaml", 51.1, 225),
    Published("MViTv2-L 40x3, 312 px", "MVITv2_L_40x3", "SSv2", 174, "SlowFast", "3x1", 73.3, 94.1, f"{_V2}/MViTv2_L_40x3_ssv2_f309603968.pyth", "configs/SSv2/MVITv2_L_40x3.yaml", 213.1, 2828),
    Published("MaskFeat MViT-S 16x4", "MASKFEAT_S_16x4", "K400", 400, "SlowFast", "1x10", 82.2, None, "", "", 36, 71),
    Published("MaskFeat MViT-L 16x4", "MASKFEAT_L_16x4", "K400", 400, "SlowFast", "1x10", 84.3, None, "", "", 218, 377),
    Published("MAE ViT-B 16x4", "VIT_B_16x4", "K400", 400, "SlowFast", "3x7", 81.3, None, "", "", 87, 180),
    Published("MAE ViT-L 16x4", "VIT_L_16x4", "K400", 400, "SlowFast", "3x7", 84.8, None, "", "", 304, 598),
    Published("MAE ViT-H 16x4", "VIT_H_16x4", "K400", 400, "SlowFast", "3x7", 85.1, None, "", "", 632, 1193),
    Published("MViTv1-B", "IN1K_MVIT_B", "IN1K", 1000, "SlowFast", "", 82.9, 96.3, "", "configs/IN1K/MVIT_B.yaml"),
    Published("MViTv2-T", "IN1K_MVITv2_T", "IN1K", 1000, "facebookresearch/mvit", "", 82.3, None, f"{_MVIT}/MViTv2_T_in1k.pyth", "configs/IN1K/MVITv2_T.yaml", 24, 4.7),
    Published("MViTv2-S", "IN1K_MVITv2_S", "IN1K", 1000, "facebookresearch/mvit", "", 83.6, None, f"{_MVIT}/MViTv2_S_in1k.pyth", "configs/IN1K/MVITv2_S.yaml", 35, 7.0),
    Published("MViTv2-B", "IN1K_MVITv2_B", "IN1K", 1000, "facebookresearch/mvit", "", 84.4, None, f"{_MVIT}/MViTv2_B_in1k.pyth", "configs/IN1K/MVITv2_B.yaml", 52, 10.2),
    Published("MViTv2-L", "IN1K_MVITv2_L", "IN1K", 1000, "facebookresearch/mvit", "", 85.3, None, f"{_MVIT}/MViTv2_L_in1k.pyth", "configs/IN1K/MVITv2_L.yaml", 218, 42.1),
    Published("Dual-ViT-S", "IN1K_DUALVIT_S", "IN1K", 1000, _DUALVIT, "", 84.1, None, "", "configs/IN1K/DUALVIT_S.yaml", 25.1, 5.4),
    Published("Dual-ViT-B", "IN1K_DUALVIT_B", "IN1K", 1000, _DUALVIT, "", 85.2, None, "", "configs/IN1K/DUALVIT_B.yaml", 42.6, 9.3),
    Published("Dual-ViT-L", "IN1K_DUALVIT_L", "IN1K", 1000, _DUALVIT, "", 85.7, None, "", "configs/IN1K/DUALVIT_L.yaml", 73.0, 18.0),
    Published("MPViT-T", "IN1K_MPVIT_T", "IN1K", 1000, _MPVIT, "", 78.2, None, "", "configs/IN1K/MPVIT_T.yaml", 5.8, 1.6),
    Published("MPViT-XS", "IN1K_MPVIT_XS", "IN1K", 1000, _MPVIT, "", 80.9, None, "", "configs/IN1K/MPVIT_XS.yaml", 10.5, 2.9),
    Published("MPViT-S", "IN1K_MPVIT_S", "IN1K", 1000, _MPVIT, "", 83.0, None, "", "configs/IN1K/MPVIT_S.yaml", 22.8, 4.7),
    Published("MPViT-B", "IN1K_MPVIT_B", "IN1K", 1000, _MPVIT, "", 84.3, None, "", "configs/IN1K/MPVIT_B.yaml", 74.8, 16.4),
    # Its paper prints 0.6, 1.1 and 2.0 G; its code has a tenth more.
    Published("CloFormer-XXS", "IN1K_CLOFORMER_XXS", "IN1K", 1000, _CLOFORMER, "", 77.0, None, "", "configs/IN1K/CLOFORMER_XXS.yaml", 4.2),
    Published("CloFormer-XS", "IN1K_CLOFORMER_XS", "IN1K", 1000, _CLOFORMER, "", 79.8, None, "", "configs/IN1K/CLOFORMER_XS.yaml", 7.2),
    Published("CloFormer-S", "IN1K_CLOFORMER_S", "IN1K", 1000, _CLOFORMER, "", 81.6, None, "", "configs/IN1K/CLOFORMER_S.yaml", 12.3),
    Published("Dual-ViT-S 16x4", "DUALVIT_S", "K400", 400, _INFLATED, "1x5", None, None, "", "configs/K400/DUALVIT_S_16x4.yaml"),
    Published("Dual-ViT-B 16x4", "DUALVIT_B", "K400", 400, _INFLATED, "1x5", None, None, "", "configs/K400/DUALVIT_B_16x4.yaml"),
    Published("Dual-ViT-L 16x4", "DUALVIT_L", "K400", 400, _INFLATED, "1x5", None, None, "", "configs/K400/DUALVIT_L_16x4.yaml"),
    Published("MPViT-T 16x4", "MPVIT_T", "K400", 400, _INFLATED, "1x5", None, None, "", "configs/K400/MPVIT_T_16x4.yaml"),
    Published("MPViT-XS 16x4", "MPVIT_XS", "K400", 400, _INFLATED, "1x5", None, None, "", "configs/K400/MPVIT_XS_16x4.yaml"),
    Published("MPViT-S 16x4", "MPVIT_S", "K400", 400, _INFLATED, "1x5", None, None, "", "configs/K400/MPVIT_S_16x4.yaml"),
    Published("MPViT-B 16x4", "MPVIT_B", "K400", 400, _INFLATED, "1x5", None, None, "", "configs/K400/MPVIT_B_16x4.yaml"),
    Published("CloFormer-XXS 16x4", "CLOFORMER_XXS", "K400", 400, _INFLATED, "1x5", None, None, "", "configs/K400/CLOFORMER_XXS_16x4.yaml"),
    Published("CloFormer-XS 16x4", "CLOFORMER_XS", "K400", 400, _INFLATED, "1x5", None, None, "", "configs/K400/CLOFORMER_XS_16x4.yaml"),
    Published("CloFormer-S 16x4", "CLOFORMER_S", "K400", 400, _INFLATED, "1x5", None, None, "", "configs/K400/CLOFORMER_S_16x4.yaml"),
    Published("Dual-ViT-S 16x4", "DUALVIT_S", "SSv2", 174, _INFLATED, "3x1", None, None, "", "configs/SSv2/DUALVIT_S_16x4.yaml"),
    Published("MPViT-S 16x4", "MPVIT_S", "SSv2", 174, _INFLATED, "3x1", None, None, "", "configs/SSv2/MPVIT_S_16x4.yaml"),
    Published("CloFormer-S 16x4", "CLOFORMER_S", "SSv2", 174, _INFLATED, "3x1", None, None, "", "configs/SSv2/CLOFORMER_S_16x4.yaml"),
)
# fmt: on


def weights_url(preset: str) -> str:
    """Address of the first public weights of a preset, "" where there are none."""
    return next((entry.url for entry in ZOO if entry.preset == preset and entry.url), "")
