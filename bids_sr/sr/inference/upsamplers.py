"""Upsamplers of baselines and networks, by the name of the series."""

import numpy as np

from bids_sr.io.arrays import Array
from bids_sr.io.grids import Factor
from bids_sr.io.notices import InvalidInput
from bids_sr.io.series import MODEL_FREE_BASELINES, get_need
from bids_sr.spatial import matrices
from bids_sr.spatial.matrices import check_factor, upsample
from bids_sr.spatial.transforms import hr_grid
from bids_sr.sr.inference.apply_to_series import enforce_consistency
from bids_sr.sr.inference.guided_baselines import scale_guide
from bids_sr.sr.inference.upsampler_inputs import (
    Upsampler,
    UpsamplerInputs,
)
from bids_sr.sr.method import get_method
from bids_sr.sr.models.model import LoadedModel


def make_upsampler(
    name: str, acquired: UpsamplerInputs, model: LoadedModel | None = None
) -> Upsampler:
    """Return the upsampler of a series.

    `name` is "acquired" (no upsampling), a baseline or a method. `acquired` has grid, intensity
    and images of the run. `model` is the trained network; None for "acquired" and for baselines.

    Raises `InvalidInput` if the model, the high-resolution image or another required input is
    missing, or if the method cannot be applied to single volumes.
    """
    factor = check_factor(acquired.factor)
    if model is not None:
        return _make_model_upsampler(acquired, model)
    if name == "acquired":
        if factor != (1.0, 1.0, 1.0):
            raise InvalidInput(
                "the acquired series is not upsampled, so the factor must be 1 along "
                f"all axes (got {factor})"
            )
        return lambda volume, _pose: volume
    if name in matrices.MATRICES:
        return lambda volume, _pose: upsample(name, volume, factor)
    if get_need(name) != "pair":
        raise InvalidInput(
            f"{name} requires a trained model, but no model was specified. Without a model, "
            f"only baselines can be computed ({', '.join(MODEL_FREE_BASELINES)})"
        )
    return _make_guided_upsampler(name, acquired, factor)


def _make_model_upsampler(acquired: UpsamplerInputs, model: LoadedModel) -> Upsampler:
    """Return the upsampler of a network, or raise InvalidInput for prior SD maps."""
    method = get_method(model.card.method)
    if method.variance is not None:
        raise InvalidInput(
            f"the method {method.name} requires a whole run and cannot be applied to "
            "single volumes"
        )
    from bids_sr.sr.networks.inference.network_upsampler import network_upsampler

    return network_upsampler(model, acquired)


def _make_guided_upsampler(name: str, acquired: UpsamplerInputs, factor: Factor) -> Upsampler:
    """Return the upsampler of ``inject`` or ``ratio``, which use a high-resolution image.

    InvalidInput is raised if an image is missing.
    """
    guide, mean = acquired.guide, acquired.mean
    if guide is None or acquired.affine is None or (name == "ratio" and mean is None):
        raise InvalidInput(
            f"{name} requires the high-resolution image of the participant and its "
            "registration to the boldref"
        )
    affine = np.asarray(acquired.affine, float)

    def upsample_with_guide(volume: Array, pose: Array) -> Array:
        highres_shape, highres_affine = hr_grid(volume.shape, affine, factor)
        guide_in_pose = acquired.gain * guide.resample(highres_shape, highres_affine, pose)
        if name == "inject" or mean is None:
            return enforce_consistency(guide_in_pose, volume, factor)
        mean_in_pose = mean.resample(volume.shape, affine, pose)
        return scale_guide(volume, mean_in_pose, guide_in_pose, factor, acquired.scale)

    return upsample_with_guide
