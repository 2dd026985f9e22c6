"""Test `superres.data_consistency=enforce`: before motion correction, every series reproduces the
acquired data to 1e-4.
"""

import numpy as np
import pytest
import torch
from checking import inconsistency
from torch import nn

from bids_sr.io.nifti import SeriesReader, SeriesWriter, load_image
from bids_sr.io.series import MODEL_FREE_BASELINES, PAIR_BASELINES
from bids_sr.spatial.transforms import hr_grid
from bids_sr.sr.inference import apply_to_series, upsamplers
from bids_sr.sr.inference.posed_image import PosedImage
from bids_sr.sr.inference.upsampler_inputs import UpsamplerInputs
from bids_sr.sr.method import get_method
from bids_sr.sr.models.card import ModelCard
from bids_sr.sr.models.model import LoadedModel

AFFINE = np.diag([3.0, 3.0, 4.0, 1.0])
_BOUND = 1e-4


def upsampler(
    name: str, factor: tuple[float, float, float], volume: np.ndarray
) -> apply_to_series.Upsampler:
    """Return an upsampler that departs from the data if its kind can."""
    rng = np.random.default_rng(3)
    if name in ("fast", "paper"):
        torch.manual_seed(0)
        recipe = get_method("dcnet" if name == "fast" else "srgan").recipes[name]
        net = recipe.build_generator(1, factor)
        if name == "fast":
            nn.init.normal_(net.tail.weight, std=0.1)
        model = LoadedModel(generator=net.eval(), recipe=recipe, card=ModelCard(method="srgan"))
        return upsamplers.make_upsampler(
            "srgan", UpsamplerInputs(factor=factor, scale=900.0), model
        )
    shape, affine = hr_grid(volume.shape, AFFINE, factor)
    guide = PosedImage(data=900 * rng.random(shape), affine=affine)
    mean = PosedImage(data=volume + 20 * rng.random(volume.shape), affine=AFFINE)
    inputs = (
        {"affine": AFFINE, "guide": guide, "mean": mean, "scale": 900.0}
        if name in PAIR_BASELINES
        else {}
    )
    return upsamplers.make_upsampler(name, UpsamplerInputs(factor=factor, **inputs))


@pytest.mark.parametrize("factor", [(1.5, 2.0, 1.0), (2.0, 2.0, 2.0)])
@pytest.mark.parametrize("name", [*MODEL_FREE_BASELINES, "fast", "paper"])
def test_enforced_series_reproduce_the_acquired_data(
    tmp_path, name: str, factor: tuple[float, float, float]
) -> None:
    if name in ("fast", "paper") and factor[2] != 1:
        with pytest.raises((ValueError, apply_to_series.InvalidInput)):
            upsampler(name, factor, np.ones((4, 4, 4)))
        return
    volumes = [
        900 * np.random.default_rng(t).random((12, 14, 4)).astype(np.float32) for t in range(2)
    ]
    shape, affine = hr_grid(volumes[0].shape, AFFINE, factor)
    errors = {}
    for consistency in ("off", "enforce"):
        source, path = tmp_path / "in.nii", tmp_path / f"{consistency}.nii"
        with SeriesWriter(source, (*volumes[0].shape, 2), AFFINE, 2.0) as writer:
            for volume in volumes:
                writer.append(volume)
        with SeriesReader(source) as reader:
            upsample = upsampler(name, factor, volumes[0])
            # Without motion, the written volumes are the enforced ones.
            identity = np.repeat(np.eye(4)[None], 2, 0)
            apply_to_series.write_series(
                reader,
                path,
                upsample,
                identity,
                shape,
                affine,
                factor=factor,
                consistency=consistency,
            )
        series = load_image(path)[0]
        errors[consistency] = max(inconsistency(series[..., t], volumes[t]) for t in range(2))
    assert errors["enforce"] <= _BOUND
    # The other series are consistent by construction, the fast network by its prediction.
    if name not in ("zerofill", "inject", "fast"):
        assert errors["off"] > 10 * _BOUND  # There was something to enforce.
