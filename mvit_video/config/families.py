"""Sections of the families beside MViT: which published model, and how it sees time."""

from __future__ import annotations

from mvit_video.config.schema import Key, Section

FAMILY_NAMES: tuple[str, ...] = ("DualViT", "MPViT", "CloFormer")


def _section(meaning: str, variants: tuple[str, ...], own: dict[str, Key]) -> Section:
    """A family's section: its variants, what every inflated family has, and its own keys.

    An image model has STEM_KERNEL_T 1, STEM_STRIDE_T 1, DEPTHWISE_TIME none and DATA.NUM_FRAMES 1.
    """
    common = {
        "VARIANT": Key(variants[0], "Published sizes; TINY is for demos.", variants),
        "STEM_KERNEL_T": Key(
            3, "Kernel in time of the first convolution, the cube embedding.", (1, 2, 3)
        ),
        "STEM_STRIDE_T": Key(2, "Stride in time of the first convolution."),
        "TEMPORAL_PADDING": Key(
            "zero",
            "What convolutions along time read before the first and after the last frame: zeros, or that frame again.",
            ("zero", "replicate"),
        ),
        "DEPTHWISE_TIME": Key(
            "taps",
            "Depthwise convolutions along time: 3 taps after the spatial kernel, one full 3D kernel (more parameters, slower to train), or none.",
            ("taps", "full", "none"),
        ),
        "TEMPORAL_POSITION": Key(
            False, "Add a learned position per time step after the stem, zero at the start."
        ),
        "DROPPATH_RATE": Key(
            -1.0,
            "Stochastic depth of the last block; it grows linearly from 0 at the first. Below 0: the variant's published rate.",
        ),
    }
    return Section(meaning, common | own)


FAMILY_SECTIONS: dict[str, Section] = {
    "DUALVIT": _section(
        "Dual-ViT (arXiv 2207.04976).",
        ("DUALVIT_S", "DUALVIT_B", "DUALVIT_L", "DUALVIT_TINY"),
        {
            "SEMANTIC_POOL_T": Key(
                2, "Time steps that a semantic token is pooled over; 1 costs about a quarter more."
            ),
            "AUX_HEAD": Key(
                False,
                "A second head on every token, whose maximum counts half in the logits. The published image checkpoints have one; a model trained from scratch needs none.",
            ),
        },
    ),
    "MPVIT": _section(
        "MPViT (arXiv 2112.11010).",
        ("MPVIT_S", "MPVIT_T", "MPVIT_XS", "MPVIT_B", "MPVIT_TINY"),
        {
            "RELATIVE_TIME": Key(
                False,
                "The convolutional relative position encoding reads along time too, as DEPTHWISE_TIME says.",
            ),
        },
    ),
    "CLOFORMER": _section(
        "CloFormer (arXiv 2303.17803).",
        ("CLOFORMER_S", "CLOFORMER_XS", "CLOFORMER_XXS", "CLOFORMER_TINY"),
        {
            "POOL_T": Key(
                1, "Time steps that the keys and values of the pooled heads are averaged over."
            ),
            "NORM_SCOPE": Key(
                "frame",
                "Norms take their statistics over a frame, as in the image model and whatever the clip's length, or over the clip.",
                ("frame", "clip"),
            ),
        },
    ),
}
