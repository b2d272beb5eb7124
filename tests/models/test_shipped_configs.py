"""Every shipped config builds the model it names, down to the last parameter."""

from __future__ import annotations

import pytest
import torch

from mvit_video import build_model, load_config

# Measured on the public implementations (SlowFast; pytorchvideo for MVIT_B_32x3).
PARAMETERS = {
    "K400/MVIT_B_16x4": 36_610_672,
    "K400/MVIT_B_32x3": 36_611_440,
    "K400/MVIT_B_64x3": 36_612_976,
    "K400/MVIT_B24_32x3": 53_115_280,
    "K400/MVITv2_S_16x4": 34_537_744,
    "K400/MVITv2_B_32x3": 51_230_128,
    "K400/MVITv2_L_40x3": 213_390_112,
    "SSv2/MVITv2_S_16x4": 34_363_950,
    "SSv2/MVITv2_B_32x3": 51_056_334,
    "SSv2/MVITv2_L_40x3": 213_129_534,
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_shipped_config_has_the_published_number_of_parameters(name):
    with torch.device("meta"):
        model = build_model(load_config(f"configs/{name}.yaml"))
    assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETERS[name]
