"""Maps of a participant's runs in the frame of the first run, and at its scale."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from bids_sr.engine.artifacts import Derivative, Facts, Image, Map, Mask
from bids_sr.engine.memory import Need
from bids_sr.engine.step import HERE, Stage, step
from bids_sr.glm.map_sidecars import MEAN_SIGNAL
from bids_sr.glm.steps.activation import write_map
from bids_sr.group.combination.interpolated_variance import (
    compute_variance_factor,
    noise_autocorrelation,
)
from bids_sr.group.combination.placement import find_nearest_voxels
from bids_sr.group.combination.steps.combined_runs import FRAME_TO_RUN, RUN_SCALE
from bids_sr.io.arrays import Array, Float, MaskArray
from bids_sr.io.grids import FIRST_BOLDREF
from bids_sr.io.json_values import as_number
from bids_sr.io.series import ACQUIRED
from bids_sr.io.volume import Volume
from bids_sr.preproc.ants import AntsOptions
from bids_sr.preproc.rigid import register_rigid
from bids_sr.preproc.same_contrast import align_same_contrast, estimate_covariance, refine
from bids_sr.spatial.itk_files import Transforms
from bids_sr.spatial.resampling import sample_volume
from bids_sr.sr.models.card import was_applied

_LOGGER = logging.getLogger(__name__)
LEAST_SHARED_BRAIN = 0.75
"""Share of the larger brain mask of two runs, below which a warning is issued."""
_COMBINED_STATS = ("effect", "variance")  # maps of the linear model of a run that are combined


@step(
    Stage.COMBINATION,
    makes="first2run_xfm",
    memory=Need(always=0.1, high=0.3),
)
def register_to_first_run(
    boldref: Image,
    first_boldref: Image,
    bold_mask: Mask,
    first_mask: Mask,
    here: Path = HERE,
    *,
    random_seed: int,
) -> Transforms:
    """Register the boldref of a run to the boldref of the first run.

    The search starts from the headers, which usually suffice within a session. Otherwise, a wider
    search follows.

    Boldrefs and brains are on the acquired grids of both runs, and `random_seed` is the seed of
    the wider search. Returns the transform (1, 4, 4) from points of the first boldref to points of
    `boldref` (RAS+ mm).
    """
    header_based = align_same_contrast(first_boldref, boldref, first_mask.data)
    if header_based is not None:
        return header_based[None]
    fit = register_rigid(
        first_boldref,
        boldref,
        first_mask.data,
        bold_mask.data,
        AntsOptions(seed=random_seed, prefix=str(here / "first_run")),
    )
    return refine(first_boldref, boldref, first_mask.data, fit.xfm)[None]


@step(
    Stage.COMBINATION,
    makes="place_error",
    memory=Need(always=0.1, high=0.1),
)
def estimate_place_error(
    boldref: Image, first_boldref: Image, first_mask: Mask, first2run_xfm: Transforms
) -> Facts:
    """Estimate the error of the registration of a run to the first run.

    For the parameters, see `register_to_first_run`, whose result is `first2run_xfm`. Returns the
    covariance of translation (mm) and rotation (rad) in the frame of the first run
    (``Covariance``, 6 x 6), and the ``Center`` of the rotation (mm).
    """
    covariance, center = estimate_covariance(
        first_boldref, boldref, first_mask.data, first2run_xfm[0]
    )
    return {"Covariance": covariance.tolist(), "Center": center.tolist()}


@step(
    Stage.COMBINATION,
    makes="resampled_maps",
    memory=Need(always=0.03, high=0.3, spaces=0.06),
)
def resample_run_maps(
    maps: list[Map],
    mask: Mask,
    first_mask: Mask,
    space_maps: Sequence[Map] = (),
    first2run_xfm: Transforms | None = None,
    card: Facts | None = None,
    run_scale: Facts | None = None,
    here: Path = HERE,
    *,
    run: str,
    contrasts: Sequence[str],
    over_sessions: bool,
) -> list[Map]:
    """Resample effects and variances of a run to the frame of the first run.

    Effects are interpolated by cubic splines, variances linearly. Variances are multiplied by a
    factor that accounts for noise averaging by the interpolation. Maps in other spaces are not
    resampled. Within a session, signal of all runs is brought to the scale of the first run, so
    that effects are in percent of the mean signal of the first run. Over sessions, they remain in
    percent of the mean signal of each run.

    `mask` is the brain on the grid of the maps, and `first_mask` the brain of the first run, on
    the target grid. `space_maps` are maps of the run in other spaces. `first2run_xfm` transforms
    points of the first run to points of the run (1, 4, 4; RAS+ mm). `card` is the model card of
    the series; None if the series has no model. `run_scale` is the result of
    `sibling_runs.compare_with_first_run`. Transform and scale are None for the
    first run. `run` is recorded in sidecars. Returns maps of the run on the target grid, followed
    by maps in other spaces.
    """
    scale, scale_metadata = _compute_scale(maps, contrasts, run_scale, over_sessions=over_sessions)
    metadata: dict[str, object] = {
        "Run": run,
        **scale_metadata,
        "NotApplied": card is not None and not was_applied(card),
    }
    xfm = None if first2run_xfm is None else first2run_xfm[0]
    inside = first_mask.data
    factors: dict[str, Array] = {}
    if xfm is not None:
        factors = _compute_variance_factors(maps, mask, first_mask, xfm, contrasts)
        inside = inside & _cover_with_run(mask, first_mask, xfm)
        share = _compute_shared_brain(inside, first_mask, mask)
        metadata["SharedBrain"] = share
        metadata[FRAME_TO_RUN] = (np.linalg.inv(mask.affine) @ xfm @ first_mask.affine).tolist()
        # all series have the same brain
        if maps and maps[0].sidecar.get("SourceSeries") == ACQUIRED:
            _check_shared_brain(run, share)
    nearest_in_brain = find_nearest_voxels(mask.data)
    resampled: list[Derivative] = []
    for statmap in _select_combinable(maps, contrasts):
        values = statmap.volume.data
        if xfm is not None:
            # values outside the brain are extrapolated, because splines ring at a sharp edge
            extrapolated = values[nearest_in_brain]
            values = _resample_to_first(extrapolated, statmap, mask, first_mask, xfm, factors)
        resampled.append(
            _store_scaled(
                statmap,
                np.where(inside, values, 0),
                scale,
                first_mask.affine,
                {**statmap.entities, "space": FIRST_BOLDREF},
                metadata,
                folder=here,
            )
        )
    for statmap in _select_combinable(space_maps, contrasts):
        values, affine = statmap.volume.data, statmap.volume.affine
        resampled.append(
            _store_scaled(statmap, values, scale, affine, statmap.entities, metadata, folder=here)
        )
    return resampled


def _compute_scale(
    maps: Sequence[Derivative],
    contrasts: Sequence[str],
    run_scale: Facts | None,
    *,
    over_sessions: bool,
) -> tuple[float, dict[str, object]]:
    """Return the factor of the effects of a run, and metadata of the result.

    An effect in percent is 100 times the effect in signal units of the run, divided by the product
    of `RUN_SCALE` and the mean signal of the first run. See `resample_run_maps` for parameters.
    """
    run_map = next(_select_combinable(maps, contrasts), None)
    if run_map is None or run_scale is None:
        return 1.0, {RUN_SCALE: 1.0}
    mean_signal = as_number(run_map.sidecar[MEAN_SIGNAL])
    first_mean_signal = as_number(run_scale["FirstMeanSignal"])
    own_scale = mean_signal / first_mean_signal
    if over_sessions:
        return 1.0, {RUN_SCALE: own_scale, MEAN_SIGNAL: first_mean_signal}
    ratio = as_number(run_scale["SignalRatio"])
    return own_scale / ratio, {RUN_SCALE: ratio, MEAN_SIGNAL: first_mean_signal}


def _compute_variance_factors(
    maps: Sequence[Derivative],
    mask: Volume,
    first_mask: Volume,
    xfm: Array,
    contrasts: Sequence[str],
) -> dict[str, Array]:
    """Return variance factors of the interpolation (3D, at most 1), by label of the maps.

    Maps of one series and smoothing share a label; the autocorrelation of their noise is averaged
    over contrasts.
    """
    autocorrelations: dict[str, list[Float]] = {}
    for statmap in maps:
        entities = statmap.entities
        if entities.get("stat") == "t" and entities["contrast"] in contrasts:
            autocorrelation = noise_autocorrelation(statmap.volume.data, mask.data)
            autocorrelations.setdefault(entities["desc"], []).append(autocorrelation)
    return {
        label: compute_variance_factor(
            np.mean(contrast_autocorrelations, axis=0),
            first_mask.data.shape,
            first_mask.affine,
            mask.affine,
            xfm,
            mask.data,
        )
        for label, contrast_autocorrelations in autocorrelations.items()
    }


def _cover_with_run(mask: Volume, first_mask: Volume, xfm: Array) -> MaskArray:
    """Return the brain of a run on the grid of the first run (3D, boolean).

    `xfm` is the transform (4, 4) from points of the first run to points of the run (RAS+ mm).
    """
    coverage = sample_volume(
        mask.data.astype(np.float32),
        mask.affine,
        first_mask.data.shape,
        first_mask.affine,
        xfm,
        order=1,
        zero_outside=True,
    )
    return np.asarray(coverage > 0.5)


def _compute_shared_brain(shared: Array, first_mask: Volume, mask: Volume) -> float:
    """Return the shared part of the brain as a share of the larger brain mask.

    `shared`: voxels of both brains on the grid of `first_mask`. `mask`: brain of the run on its
    own grid.
    """
    volumes = [
        float(np.count_nonzero(brain)) * float(np.prod(grid.zooms))
        for brain, grid in (
            (shared, first_mask),
            (first_mask.data, first_mask),
            (mask.data, mask),
        )
    ]
    return volumes[0] / max(*volumes, 1e-9)


def _check_shared_brain(run: str, share: float) -> None:
    """Warn if a run and the first run have only a part (`share`) of the brain in common."""
    if share < LEAST_SHARED_BRAIN:
        _LOGGER.warning(
            "%s: after registration, the brain masks of this run and of the first run share"
            " %.0f %% of the larger mask; expected at least %.0f %%. Maps of all runs are limited"
            " to the shared part. Check the field of view, and exclude the run (--run-id) if"
            " this part is too small",
            run,
            100 * share,
            100 * LEAST_SHARED_BRAIN,
        )


def _select_combinable(
    maps: Sequence[Derivative], contrasts: Sequence[str]
) -> Iterator[Derivative]:
    """Yield the effects and variances of some contrasts."""
    for statmap in maps:
        entities = statmap.entities
        if (
            entities["suffix"] == "statmap"
            and entities["stat"] in _COMBINED_STATS
            and entities["contrast"] in contrasts
        ):
            yield statmap


def _resample_to_first(
    values: Array,
    statmap: Derivative,
    mask: Volume,
    first_mask: Volume,
    xfm: Array,
    factors: Mapping[str, Array],
) -> Array:
    """Interpolate the values of a map to the grid of the first run.

    `factors` are the results of `_compute_variance_factors`. For the other parameters, see
    `resample_run_maps`.
    """
    stat = statmap.entities["stat"]
    order = 3 if stat == "effect" else 1
    shape, affine = first_mask.data.shape, first_mask.affine
    resampled = sample_volume(values, mask.affine, shape, affine, xfm, order=order)
    if stat == "variance":
        resampled = resampled * factors.get(statmap.entities["desc"], 1.0)
    return resampled


def _store_scaled(
    statmap: Derivative,
    values: Array,
    scale: float,
    affine: Array,
    entities: Mapping[str, str],
    metadata: Mapping[str, object],
    *,
    folder: Path,
) -> Derivative:
    """Store the values of a map, multiplied by a scale (variances by its square)."""
    if statmap.entities["stat"] == "variance":
        scale = scale**2
    derivative = Derivative(None, entities, {**statmap.sidecar, **metadata})
    return write_map((scale * values).astype(np.float32), affine, derivative, folder)
