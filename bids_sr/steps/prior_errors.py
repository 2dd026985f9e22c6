"""Reconstruction error of effects of a run, from the model of the run.

Workflows use the samples that `bids_sr.steps.super_resolution` writes beside the series. Here, the
same samples are drawn again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bids_sr.io.arrays import Array, Float32
from bids_sr.io.volume import Volume

if TYPE_CHECKING:
    from bids_sr.io.grids import Factor
    from bids_sr.sr.models.model import LoadedModel
    from bids_sr.sr.prior_maps.prior import Prior


def load_prior(model: LoadedModel | None, brain: Volume, factor: Factor) -> Prior | None:
    """Return the prior of a run from its model.

    The result is None if the method has no prior, or if it was not applied to the run.

    Parameters
    ----------
    model : LoadedModel | None
        Model of the run; None for a baseline.
    brain : Volume
        Brain mask on the acquired grid.
    factor : Factor
        Acquired over high-resolution voxel size by axis.
    """
    from bids_sr.sr.inference.upsampler_inputs import UpsamplerInputs
    from bids_sr.sr.prior_maps.add_detail import make_detail
    from bids_sr.sr.prior_maps.prior import Prior

    if model is None or model.card.trained_on != "series":
        return None
    inputs = UpsamplerInputs(factor=factor, affine=brain.affine, mask=brain.data)
    source = make_detail(model, inputs, brain.data.shape).source
    return source if isinstance(source, Prior) else None


def compute_region_error(
    prior: Prior, region: Array, effect: Volume, variance: Array, brain: Array, seed: int
) -> float:
    """Return the standard deviation of the reconstruction error of a region's mean effect.

    Parameters
    ----------
    prior : Prior
        Prior of the run.
    region : Array
        Region on the high-resolution grid (X, Y, Z).
    effect : Volume
        Effect of the acquired run.
    variance : Array
        Variance of this effect in the linear model (x, y, z).
    brain : Array
        Brain mask on the acquired grid (x, y, z).
    seed : int
        Seed of the samples.
    """
    import torch

    from bids_sr.sr.prior_maps.posterior import (
        draw_run_errors,
        effect_scale,
        interpolate_scale,
        mean_error_sd,
        select_acquired_slices,
    )

    power = np.zeros((*brain.shape[:2], region.shape[2]), np.float32)
    errors: dict[int, Float32] = {}  # (samples, X, Y) of the slices of the region
    with torch.inference_mode():
        for z, (sample_errors, acquired) in enumerate(draw_run_errors(prior, seed)):
            power[..., z] = acquired.square().mean(0)
            if region[..., z].any():
                errors[z] = sample_errors.numpy()
    scale = interpolate_scale(
        effect_scale(
            effect.data,
            variance,
            select_acquired_slices(power, brain.shape[2]),
            brain,
            effect.zooms.tolist(),
        ),
        region.shape,
    )
    weights = (np.sqrt(scale) * region / np.count_nonzero(region))[..., list(errors)]
    samples = np.stack(list(errors.values()), axis=-1)
    return float(mean_error_sd(samples, weights[None])[0])
