"""Test the comparison of two precisions: which slices and voxels are compared, and that values
equal inference.
"""

import numpy as np
import pytest
import torch
from torch import nn

from bids_sr.io.nifti import SeriesReader, SeriesWriter
from bids_sr.sr.inference import precision_pairs, upsamplers
from bids_sr.sr.inference.upsampler_inputs import UpsamplerInputs
from bids_sr.sr.method import get_method
from bids_sr.sr.models.card import ModelCard
from bids_sr.sr.models.model import LoadedModel

TWO = (2.0, 2.0, 1.0)


def test_slices_are_spread_over_the_head() -> None:
    mask = np.zeros((10, 10, 20))
    for z in range(3, 17):
        mask[: 10 - abs(z - 10), :, z] = 1
    assert precision_pairs.select_slices(mask, 3) == (5, 10, 15)
    assert precision_pairs.select_slices(mask, 1) == (5,)
    assert precision_pairs.select_slices(mask, 50) == tuple(range(5, 16))
    with pytest.raises(ValueError, match="empty"):
        precision_pairs.select_slices(mask * 0, 2)


def test_the_high_resolution_mask_repeats_the_low_resolution_voxels() -> None:
    mask = np.random.default_rng(0).random((5, 7, 4)) > 0.5
    high_res_mask = precision_pairs.highres_mask(mask, (1, 3), TWO)
    np.testing.assert_array_equal(high_res_mask, mask[:, :, [1, 3]].repeat(2, 0).repeat(2, 1))


def test_compared_values_equal_inference(tmp_path) -> None:
    torch.manual_seed(0)
    recipe = get_method("dcnet").recipes["fast"]
    net = recipe.build_generator(1, TWO)
    nn.init.normal_(net.tail.weight, std=0.1)
    model = LoadedModel(generator=net.eval(), recipe=recipe, card=ModelCard())
    volumes = np.random.default_rng(0).random((12, 10, 5, 4), dtype=np.float32) * 900
    path = tmp_path / "in.nii"
    with SeriesWriter(path, volumes.shape, np.eye(4), 2.0) as writer:
        for t in range(4):
            writer.append(volumes[..., t])
    by_precision = {
        precision: upsamplers.make_upsampler(
            "dcnet", UpsamplerInputs(factor=TWO, scale=900.0, precision=precision), model
        )
        for precision in ("fp32", "bf16")
    }
    inside = precision_pairs.highres_mask(np.ones((12, 10, 5)), (1, 4), TWO)
    with SeriesReader(path) as reader:
        pairs = list(
            precision_pairs.compare_precisions(
                reader, by_precision["fp32"], by_precision["bf16"], (1, 4), inside, start=1
            )
        )
    assert len(pairs) == 3
    for t, pair in enumerate(pairs, start=1):
        for name, values in zip(("fp32", "bf16"), pair, strict=True):
            result = by_precision[name](volumes[..., t], np.eye(4))[:, :, [1, 4]]
            np.testing.assert_allclose(values, result[inside], atol=1e-2 if name == "fp32" else 2)
        assert 0 < np.abs(pair[0] - pair[1]).max() < 20
