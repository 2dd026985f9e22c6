"""Reconstruction error of each run of a participant, scaled to the effect in all runs.

The reconstruction error is proportional to the true effect, which is a property of the
participant. A run whose effect does not exceed its noise has a small scale and a small SD,
although its error is as large as the error of the other runs. When runs are combined, the scale of
a contrast is therefore estimated from the acquired effects of all runs. Their mean is weighted by
inverse variance, because it serves only to estimate the size of the effect. Each run contributes
the mean squares of its own samples.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from bids_sr.engine.artifacts import Derivative, Facts, Map, Mask
from bids_sr.engine.memory import Need
from bids_sr.engine.step import HERE, Stage, step
from bids_sr.evaluation.steps.reconstruction_error import ACQUIRED_POWER, ERROR_POWER
from bids_sr.glm.steps.activation import write_map
from bids_sr.group.combination.run_combination import RunEstimate, combine_estimates, weigh_runs
from bids_sr.group.combination.steps.combined_runs import make_run_estimate, maps_by_run
from bids_sr.io.arrays import Array, Float32
from bids_sr.io.grids import FIRST_BOLDREF
from bids_sr.io.json_values import as_mapping, as_number
from bids_sr.io.volume import Volume
from bids_sr.spatial.itk_files import Transforms
from bids_sr.spatial.resampling import sample_volume
from bids_sr.sr.steps.error_samples import compute_scale, scale_variance


@step(
    Stage.COMBINATION,
    makes="run_error_maps",
    memory=Need(always=0.05, high=0.3),
)
def scale_run_error(
    resampled_maps: list[Map],
    acquired_maps: list[Map],
    error_powers: list[Map],
    mask: Mask,
    bold_mask: Mask,
    first_mask: Mask,
    first_bold_mask: Mask,
    run_agreement: Facts,
    first2run_xfm: Transforms | None = None,
    here: Path = HERE,
    *,
    run: str,
    contrasts: Mapping[str, Sequence[str]],
) -> list[Map]:
    """Map the SD of the reconstruction error of a run, scaled to the effect in all runs.

    `resampled_maps` and `acquired_maps` are maps of the series and of the acquired series in the
    frame of the first run, as returned by `resampled_runs.resample_run_maps` for
    all runs. `error_powers` are mean squares of the samples of the run, from
    `measure_error`. `mask` and `bold_mask` are the brain of the run on
    the high-resolution grid and on the acquired grid, and `first_mask` and `first_bold_mask` the
    brain of the first run on the same grids. `run_agreement` is the result of
    `sibling_runs.check_runs`, whose left-out runs are not used. `first2run_xfm`
    transforms points of the first run to points of the run (1, 4, 4; RAS+ mm); None for the first
    run. `contrasts` has the names of the combined runs, by contrast.

    Returns SD by contrast and smoothing, in the frame of the first run; empty if the run has no
    samples.
    """
    xfm = None if first2run_xfm is None else first2run_xfm[0]
    acquired_power: Float32 | None = None
    power_by_width: dict[float, Float32] = {}
    for power in error_powers:
        if power.entities["stat"] == ACQUIRED_POWER:
            acquired_power = _move(power.volume.data, bold_mask, first_bold_mask, xfm)
        elif power.entities["stat"] == ERROR_POWER:
            width = as_number(power.sidecar["SmoothingFWHM"])
            power_by_width[width] = _move(power.volume.data, mask, first_mask, xfm)
    if acquired_power is None:
        return []
    left_out = as_mapping(run_agreement["LeftOut"])
    mean_effects = {
        contrast: combine_estimates(estimates, weigh_runs(estimates), shared=1.0)
        for contrast, estimates in _iterate_acquired(acquired_maps, contrasts, left_out)
    }
    scales = {
        contrast: compute_scale(
            mean.effect, mean.variance, acquired_power, first_bold_mask, first_mask.data.shape
        )
        for contrast, mean in mean_effects.items()
    }
    sd_maps: list[Derivative] = []
    for (space, contrast, width), by_run in maps_by_run(resampled_maps).items():
        effect = by_run.get(run, {}).get("effect")
        if space != FIRST_BOLDREF or effect is None or contrast not in scales:
            continue
        variance = scale_variance(scales[contrast], power_by_width[width], width, first_mask)
        derivative = Derivative(None, {**effect.entities, "stat": "sd"}, effect.sidecar)
        sd_maps.append(write_map(np.sqrt(variance), first_mask.affine, derivative, here))
    return sd_maps


def _move(power: Array, mask: Volume, first_mask: Volume, xfm: Array | None) -> Float32:
    """Interpolate mean squares on the grid of `mask` linearly to the grid of `first_mask`.

    `xfm` is the transform (4, 4) from points of the first run to points of the run (RAS+ mm).
    """
    return sample_volume(
        power, mask.affine, first_mask.data.shape, first_mask.affine, xfm, order=1
    )


def _iterate_acquired(
    acquired_maps: Sequence[Derivative],
    contrasts: Mapping[str, Sequence[str]],
    left_out: Collection[str],
) -> Iterator[tuple[str, list[RunEstimate]]]:
    """Yield each contrast with its acquired effects in all combined runs at the least smoothing.

    Contrasts without an effect in any combined run are skipped.
    """
    by_map = maps_by_run(acquired_maps)
    least_width = min(width for _, _, width in by_map)
    for (space, contrast, width), by_run in by_map.items():
        estimates = [
            make_run_estimate(run_maps)
            for name, run_maps in by_run.items()
            if name in contrasts.get(contrast, ())
            and name not in left_out
            and {"effect", "variance"} <= run_maps.keys()
        ]
        if (space, width) == (FIRST_BOLDREF, least_width) and estimates:
            yield contrast, estimates
