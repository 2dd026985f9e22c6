"""Combination of maps over runs of a participant, in the frame of the first run."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from scipy import ndimage

from bids_sr.combination.interpolated_variance import (
    compute_variance_factor,
    noise_autocorrelation,
)
from bids_sr.combination.run_combination import (
    CombinedEstimate,
    RunEstimate,
    combine_estimates,
    correlate_error,
    weigh_runs,
    widen_error,
)
from bids_sr.config.memory import Need
from bids_sr.evaluation.detail_support import permits_reliable
from bids_sr.evaluation.evidence import was_applied
from bids_sr.frozen import frozen
from bids_sr.glm.activation_regions import Threshold, parse_thresholds
from bids_sr.glm.map_sidecars import region_sidecar
from bids_sr.io.arrays import Array, Float
from bids_sr.io.grids import size_text
from bids_sr.io.json_values import as_number
from bids_sr.io.nifti import save_image
from bids_sr.io.volume import Volume
from bids_sr.metrics.rows import MetricRow, metric_rows
from bids_sr.metrics.word_lists import enumerate_words
from bids_sr.pipeline.artifacts import Derivative, Facts, Image, Map, Mask, Rows, Transforms
from bids_sr.pipeline.step import HERE, step
from bids_sr.pipeline.store import derivative_path
from bids_sr.registration.rigid import register_rigid
from bids_sr.registration.same_contrast import align_same_contrast, refine
from bids_sr.run_time import RunTime
from bids_sr.series import RAW, map_label
from bids_sr.spatial.masks import percent_scale
from bids_sr.spatial.resampling import sample_volume
from bids_sr.steps.error_maps import (
    describe_error_maps,
    describe_reliable_region,
    error_images,
    is_wide,
)

_LOGGER = logging.getLogger(__name__)

RunWeighting = Literal["equal", "precision"]
"""Weights of runs in maps of all runs."""
FRAME = "boldref"
"""Label of the space of combined maps: the boldref of the first run."""
LEAST_SHARED_BRAIN = 0.75
"""Share of the larger brain mask of two runs, below which a warning is issued."""
_CARRIED = ("effect", "variance", "sd")
"""Maps of a run that are combined."""
_KEPT_KEYS = (
    "SkullStripped",
    "SourceSeries",
    "SmoothingFWHM",
    "InputSmoothingFWHM",
    "Resolution",
    "ContrastWeights",
    "ErrorOfReconstruction",
)
"""Metadata of the maps of a run that also apply to the combined maps."""
_TEXT = {
    "effect": "Mean of the effects of several runs (fixed effects)",
    "variance": (
        "Variance of the combined effect due to the noise of the runs (reconstruction error is"
        " not included)"
    ),
    "t": (
        "Combined effect divided by the square root of its variance (two-sided t statistic;"
        " reconstruction error is not included)"
    ),
    "z": "The t statistic converted to a z score with the same tail probability",
    "sd": (
        "Standard deviation of the reconstruction error of the combined effect. This error is"
        " proportional to the effect, and most of it is the same in all runs"
        " (SharedErrorCorrelation)"
    ),
    "personsd": (
        "Standard deviation of the combined effect as an estimate for the participant, from the"
        " spread of the effects between runs (degrees of freedom: number of runs minus 1) and"
        " from the reconstruction error that is the same in all runs"
    ),
}
_WITHOUT_UNIT = ("t", "z")
_OF_COMBINATION = (
    "RunWeights",
    "RunScales",
    "RunsLeftOut",
    "DisagreeingRuns",
    "NotAppliedIn",
    "DegreesOfFreedom",
    "SharedErrorCorrelation",
    "ErrorWidening",
    "Sources",
)
"""Metadata of a combination that also apply to its regions."""


def describe_combination(
    *,
    over_sessions: bool,
    in_spaces: bool,
    with_error: bool,
    weights: RunWeighting,
    combine_all: bool,
) -> str:
    """Return methods text of combined runs.

    `over_sessions`: whether runs of several sessions were combined. `in_spaces`: whether maps were
    also resampled to other spaces. `with_error`: whether a series has an estimate of the
    reconstruction error. `weights`, `combine_all`: settings of the combination.
    """
    weighting = {
        "equal": "equal weights",
        "precision": "weights proportional to the inverse of each run's mean noise variance",
    }
    sentences = [
        "Runs with equal tasks and contrasts were combined for each participant as fixed effects"
        f" with {weighting[weights]}: the boldref of each run was coregistered to the boldref of"
        " the first run, effects and variances were interpolated once to the grid of the first"
        " run, and degrees of freedom were summed over runs. The effects of each run were divided"
        " by the median ratio of its boldref to the boldref of the first run in the brain."
    ]
    if not combine_all:
        sentences.append(
            "Runs were left out if their boldref showed another or a mirrored head, or if their"
            " acquired effects in the active voxels of another run were significantly smaller than"
            " a quarter of the effects of that run (for differences between conditions:"
            " reversed by more than a quarter)."
        )
    if in_spaces:
        sentences.append("In other spaces, the resampled maps of the runs were combined.")
    if over_sessions:
        sentences.append(
            "Over sessions, effects were expressed in percent of the mean signal in the brain of"
            " each run."
        )
    if with_error:
        sentences.append(
            "The reconstruction error largely repeats between runs. Its variance was therefore"
            " combined with a correlation between runs of .75 (unsmoothed maps) to .80 (5 mm"
            " FWHM), and of 1 for two runs, for wider smoothing and for runs with a calibration."
            " In unsmoothed maps, its standard deviation was widened as by Student's t"
            " distribution with 14 degrees of freedom per run."
        )
    sentences.append(
        "From three runs on, the spread of the effects between runs was also computed."
    )
    return " ".join(sentences) + "\n"


@step(
    makes="first2run_xfm",
    memory=Need(always=0.1, high=0.3),
    cost=RunTime(always=0.3, low=5.0),
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

    Parameters
    ----------
    boldref, bold_mask : Image, Mask
        Boldref of the run, and brain on the acquired grid.
    first_boldref, first_mask : Image, Mask
        Boldref of the first run, and brain on the acquired grid.
    random_seed : int
        Seed of the wider search.

    Returns
    -------
    Transforms
        Transform (1, 4, 4) from points of the first boldref to points of `boldref` (RAS+ mm).
    """
    header_based = align_same_contrast(first_boldref, boldref, first_mask.data)
    if header_based is not None:
        return header_based[None]
    fit = register_rigid(
        first_boldref,
        boldref,
        first_mask.data,
        bold_mask.data,
        seed=random_seed,
        prefix=str(here / "first_run"),
    )
    return refine(first_boldref, boldref, first_mask.data, fit.xfm)[None]


@step(
    makes="resampled_maps",
    memory=Need(always=0.03, high=0.3, spaces=0.06),
    cost=RunTime(always=0.3),
)
def resample_run_maps(
    maps: list[Map],
    mask: Mask,
    first_mask: Mask,
    boldref: Image,
    bold_mask: Mask,
    error_maps: Sequence[Map] = (),
    space_maps: Sequence[Map] = (),
    first2run_xfm: Transforms | None = None,
    card: Facts | None = None,
    run_scale: Facts | None = None,
    here: Path = HERE,
    *,
    run: str,
    contrasts: Sequence[str],
    percent: bool,
) -> list[Map]:
    """Resample effects, variances and errors of a run to the frame of the first run.

    Effects are interpolated by cubic splines, variances and errors linearly. Variances are
    multiplied by a factor that accounts for noise averaging by the interpolation. Maps in other
    spaces are not resampled. All maps are brought to the scale of the first run.

    Parameters
    ----------
    maps, error_maps : list[Map], Sequence[Map]
        Maps of the run, on the grid of `mask`.
    mask : Mask
        Brain on the grid of the maps.
    first_mask : Mask
        Brain of the first run, on the target grid.
    boldref, bold_mask : Image, Mask
        Boldref and brain of the run, for the scale of effects in percent.
    space_maps : Sequence[Map], optional
        Maps of the run in other spaces.
    first2run_xfm : Transforms | None, optional
        Transform (1, 4, 4) from points of the first run to points of the run (RAS+ mm); None for
        the first run.
    card : Facts | None, optional
        Model card of the series; None if the series has no model.
    run_scale : Facts | None, optional
        Result of `combination.steps.sibling_runs.compare_with_first_run`; None for the first run.
    run : str
        Name of the run, which is recorded in sidecars.
    contrasts : Sequence[str]
        Contrasts to resample.
    percent : bool
        Whether effects are expressed in percent of the mean brain signal.

    Returns
    -------
    list[Map]
        Maps of the run on the target grid, followed by maps in other spaces.
    """
    ratio = 1.0 if run_scale is None else as_number(run_scale["SignalRatio"])
    scale = percent_scale(boldref.data, bold_mask.data) if percent else 1 / ratio
    metadata: dict[str, object] = {
        "Run": run,
        "SignalRatio": ratio,
        "NotApplied": card is not None and not was_applied(card),
    }
    resampled: list[Derivative] = []

    def keep(source: Derivative, values: Array, affine: Array, space: Mapping[str, str]) -> None:
        stat = source.entities["stat"]
        factor = scale**2 if stat == "variance" else scale
        derivative = Derivative(None, {**space, **source.entities}, {**source.sidecar, **metadata})
        path = here / f"{derivative.name}.nii"
        save_image((factor * values).astype(np.float32), affine, path)
        resampled.append(Derivative(path, derivative.entities, derivative.sidecar))

    shape, affine = first_mask.data.shape, first_mask.affine
    xfm = None if first2run_xfm is None else first2run_xfm[0]
    nearest_in_brain = _find_nearest_voxels(mask.data)
    inside = first_mask.data
    factors = {} if xfm is None else _variance_factors(maps, mask, first_mask, xfm, contrasts)
    if xfm is not None:
        coverage = sample_volume(
            mask.data.astype(np.float32),
            mask.affine,
            shape,
            affine,
            xfm,
            order=1,
            zero_outside=True,
        )
        inside = inside & (coverage > 0.5)
        share = _shared_brain(inside, first_mask, mask)
        metadata["SharedBrain"] = share
        # all series have the same brain
        if maps and maps[0].sidecar.get("SourceSeries") == RAW:
            _check_shared_brain(run, share)
    for statmap in _combinable([*maps, *error_maps], contrasts):
        values = statmap.volume.data
        if xfm is not None:
            # values outside the brain are extrapolated, because splines ring at a sharp edge
            order = 3 if statmap.entities["stat"] == "effect" else 1
            values = sample_volume(
                values[nearest_in_brain], mask.affine, shape, affine, xfm, order=order
            )
            if statmap.entities["stat"] == "variance":
                values = values * factors.get(statmap.entities["desc"], 1.0)
        keep(statmap, np.where(inside, values, 0), affine, {"space": FRAME})
    for statmap in _combinable(space_maps, contrasts):
        keep(statmap, statmap.volume.data, statmap.volume.affine, {})
    return resampled


def _shared_brain(shared: Array, first_mask: Volume, mask: Volume) -> float:
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


def _variance_factors(
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
    by_label: dict[str, list[Float]] = {}
    for statmap in maps:
        entities = statmap.entities
        if entities.get("stat") == "t" and entities["contrast"] in contrasts:
            by_label.setdefault(entities["desc"], []).append(
                noise_autocorrelation(statmap.volume.data, mask.data)
            )
    return {
        label: compute_variance_factor(
            np.mean(autocorrelations, axis=0),
            first_mask.data.shape,
            first_mask.affine,
            mask.affine,
            xfm,
        )
        for label, autocorrelations in by_label.items()
    }


def _combinable(maps: Sequence[Derivative], contrasts: Sequence[str]) -> Iterator[Derivative]:
    """Yield the effects, variances and errors of some contrasts."""
    for statmap in maps:
        entities = statmap.entities
        if (
            entities["suffix"] == "statmap"
            and entities["stat"] in _CARRIED
            and entities["contrast"] in contrasts
        ):
            yield statmap


def _find_nearest_voxels(mask: Array) -> tuple[Array, ...]:
    """Return the index of the nearest mask voxel for each voxel of the grid (3 arrays, 3D)."""
    nearest = ndimage.distance_transform_edt(~mask, return_distances=False, return_indices=True)
    return tuple(nearest)


@frozen
class _Combination:
    """Facts that are the same for all maps of a combination.

    `runs`: entities of the runs, by name. `left_out`: reasons why runs were skipped, by name of
    the run. `disagreeing_runs`: reasons by name of runs that are combined although they disagree.
    `without`: reasons why contrasts of runs were skipped, by name of the run and contrast.
    `percent`: whether effects are in percent of the mean brain signal.
    """

    series: str
    runs: Mapping[str, Mapping[str, str]]
    left_out: Mapping[str, str]
    disagreeing_runs: Mapping[str, str]
    missing_contrasts: Mapping[str, Mapping[str, str]]
    percent: bool


@step(
    makes=("combined_maps", "combined_space_maps", "combined_rows"),
    memory=Need(always=0.03, high=0.5, spaces=0.5),
    cost=RunTime(always=1.0),
)
def combine_maps(
    resampled_maps: list[Map],
    bold_mask: Mask,
    coverage_rows: Sequence[Rows] = (),
    run_agreement: Facts | None = None,
    here: Path = HERE,
    *,
    series_name: str,
    contrasts: Mapping[str, Sequence[str]],
    runs: Mapping[str, Mapping[str, str]],
    left_out: Mapping[str, str],
    missing_contrasts: Mapping[str, Mapping[str, str]],
    thresholds: Sequence[str],
    calibrated: bool,
    percent: bool,
    weights: RunWeighting = "equal",
) -> tuple[list[Map], list[Map], Rows]:
    """Combine the maps of runs as fixed effects.

    Runs that disagree with the others are left out. If the series was applied to some of the runs,
    the other runs, which are zero filled, are left out too. A single remaining run is the map of
    the participant.

    Parameters
    ----------
    resampled_maps : list[Map]
        Maps of all runs, as returned by `resample_run_maps`.
    bold_mask : Mask
        Brain of the first run on the acquired grid. For smoothing that is wide
        relative to its voxels, the error is included in t.
    coverage_rows : Sequence[Rows], optional
        Coverage of intervals in each run, which decides whether a reliable region is computed.
    run_agreement : Facts | None, optional
        Result of `combination.steps.sibling_runs.check_runs`; None if runs were not compared.
    series_name : str
        Name of the series.
    contrasts : Mapping[str, Sequence[str]]
        Names of the combined runs, by contrast.
    runs : Mapping[str, Mapping[str, str]]
        Entities of the combined runs by name, the first run first.
    left_out : Mapping[str, str]
        Reasons why runs were skipped, by name of the run.
    missing_contrasts : Mapping[str, Mapping[str, str]]
        Reasons why contrasts of runs were skipped, by name of the run and contrast.
    thresholds : Sequence[str]
        Thresholds of active regions.
    calibrated : bool
        Whether any run was super-resolved with a calibration run.
    percent : bool
        Whether effects are in percent of the mean brain signal.
    weights : RunWeighting, optional
        Weights of the runs: ``equal``, or ``precision`` for the inverse of the mean noise variance
        of each run in the brain.

    Returns
    -------
    tuple[list[Map], list[Map], Rows]
        Maps and regions in the frame of the first run; maps and regions in other spaces; and sizes
        of the regions in the frame of the first run, with expected shares of the wrong sign. Runs
        on different grids, and runs without a common voxel, have no maps.
    """
    agreement = {} if run_agreement is None else run_agreement
    zero_filled = _zero_filled_runs(resampled_maps, series_name)
    excluded = {**zero_filled, **_reasons(agreement, "LeftOut")}
    combination = _Combination(
        series=series_name,
        runs=runs,
        left_out={**left_out, **excluded},
        disagreeing_runs=_reasons(agreement, "Disagreeing"),
        missing_contrasts=missing_contrasts,
        percent=percent,
    )
    derivatives: dict[bool, list[Derivative]] = {True: [], False: []}
    rows: list[MetricRow] = []
    empty: dict[str, str] = {}  # names of runs without a common voxel, by space
    differing_grids: dict[str, str] = {}  # grids of runs that differ, by space
    for (space, contrast, width), by_run in maps_by_run(resampled_maps).items():
        contrast_runs = contrasts.get(contrast, ())
        maps = {
            name: by_run[name]
            for name in runs
            if name in contrast_runs and {"effect", "variance"} <= by_run.get(name, {}).keys()
        }
        n_mapped = len(maps)
        maps = {name: run_maps for name, run_maps in maps.items() if name not in excluded}
        if n_mapped < 2 or not maps:
            continue
        if grids := grid_differences(maps):
            differing_grids.setdefault(space, grids)
            continue
        first = next(iter(maps.values()))["effect"]
        rho = correlate_error(width, calibrated=calibrated, n_runs=len(maps))
        widening = widen_error(width, n_runs=len(maps))
        estimates = [_estimate(run_maps) for run_maps in maps.values()]
        run_weights = weigh_runs(estimates) if weights == "precision" else [1.0] * len(maps)
        estimate = combine_estimates(estimates, run_weights, shared=rho, widening=widening)
        if not estimate.mask.any():
            # smoothing and contrasts have the same brain, and all series do
            if series_name == RAW:
                empty.setdefault(space, enumerate_words(list(maps)))
            continue
        shares = {
            name: weight / sum(run_weights) for name, weight in zip(maps, run_weights, strict=True)
        }
        sidecar = _common_sidecar(combination, contrast, maps, shares, estimate)
        if estimate.sd is not None:
            sidecar["SharedErrorCorrelation"] = round(rho, 4)
            sidecar["ErrorWidening"] = round(widening, 4)
        entities = first.entities
        images = {stat: getattr(estimate, stat) for stat in ("effect", "variance", "t", "z")}
        if estimate.person_sd is not None:
            images["personsd"] = estimate.person_sd
        results: list[tuple[Array, Derivative]] = [
            (values.astype(np.float32), _statmap(stat, entities, sidecar, combination))
            for stat, values in images.items()
        ]
        regions = {}
        for threshold in parse_thresholds(thresholds):
            if threshold.stat == "z":
                region, limit = threshold.region(estimate.z, estimate.mask, estimate.mask)
                regions[threshold.label.lower()] = region
                results.append(
                    (
                        region.astype(np.uint8),
                        _region(threshold, limit, entities, sidecar, combination),
                    )
                )
        expected_wrong: dict[str, float | None] = {}
        if estimate.sd is not None:
            error = error_images(
                effect=estimate.effect,
                variance=estimate.variance,
                t=estimate.t,
                z=estimate.z,
                error=np.square(estimate.sd),
                brain=estimate.mask,
                is_wide=is_wide(width, bold_mask.zooms),
            )
            effect_map = results[0][1]
            for values, derivative in describe_error_maps(error.images, effect_map):
                stat = derivative.entities["stat"]
                metadata = {
                    **derivative.sidecar,
                    **_sources(combination, sidecar, derivative.entities),
                }
                if stat == "sd":
                    metadata |= {"Description": _TEXT[stat], "Units": _units(stat, combination)}
                results.append((values, Derivative(None, derivative.entities, metadata)))
            permitted = [
                is_permitted
                for run_rows in coverage_rows
                if (is_permitted := permits_reliable(run_rows, series_name, contrast, width))
                is not None
            ]
            if len(permitted) >= len(maps) and all(permitted):
                regions["reliable"] = error.reliable
                region, derivative = describe_reliable_region(
                    error.reliable, effect_map, error.reliable_text
                )
                combination_metadata = {
                    key: effect_map.sidecar[key]
                    for key in _OF_COMBINATION
                    if key in effect_map.sidecar
                }
                metadata = {**derivative.sidecar, **combination_metadata}
                results.append((region, Derivative(None, derivative.entities, metadata)))
            expected_wrong = {
                name: error.compute_expected_wrong(region) for name, region in regions.items()
            }
        for values, result in results:
            save_image(values, first.volume.affine, path := here / f"{result.name}.nii")
            derivatives[space == FRAME].append(Derivative(path, result.entities, result.sidecar))
        if space == FRAME:
            for name, region in regions.items():
                metrics: dict[str, float | None] = {"voxels": int(region.sum())}
                if name in expected_wrong:
                    metrics["expected_wrong"] = expected_wrong[name]
                rows += metric_rows(
                    series_name, metrics, threshold=name, contrast=contrast, fwhm_mm=width
                )
    for space, grids in differing_grids.items():
        _LOGGER.warning(
            "The maps of the runs are on different grids in the space %s (%s), so there is no map"
            " of all runs in this space. Specify the resolution of the space, such as res-2, with"
            " --output-spaces",
            space,
            grids,
        )
    for space, names in empty.items():
        _LOGGER.warning(
            "%s: after registration, the brain masks of these runs have no voxel in common, so"
            " there is no map of all runs in the space %s. Check the fields of view, and exclude a"
            " run (--run-id)",
            names,
            space,
        )
    return derivatives[True], derivatives[False], rows


MapsByStatistic = Mapping[str, Derivative]
"""Maps of a run by statistic."""
_MapGroup = tuple[str, str, float]


def maps_by_run(
    maps: Sequence[Derivative],
) -> dict[_MapGroup, dict[str, dict[str, Derivative]]]:
    """Sort resampled maps by (space, contrast, FWHM), then by run and statistic."""
    sorted_maps: dict[_MapGroup, dict[str, dict[str, Derivative]]] = {}
    for statmap in maps:
        entities = statmap.entities
        space = "+".join(entities[key] for key in ("space", "cohort", "res") if key in entities)
        if entities.get("space") == FRAME:
            space = FRAME
        key = space, entities["contrast"], as_number(statmap.sidecar["SmoothingFWHM"])
        run_maps = sorted_maps.setdefault(key, {}).setdefault(str(statmap.sidecar["Run"]), {})
        run_maps[entities["stat"]] = statmap
    return sorted_maps


def _reasons(agreement: Mapping[str, object], key: str) -> dict[str, str]:
    """Return reasons by name of the run from a result of `check_runs`."""
    reasons = agreement.get(key, {})
    assert isinstance(reasons, Mapping)
    return {str(name): str(reason) for name, reason in reasons.items()}


def _zero_filled_runs(maps: Sequence[Derivative], series: str) -> dict[str, str]:
    """Return reasons to leave out runs that are zero filled, by name of the run.

    No run is left out if all runs are zero filled, so that their combination has no added detail.
    """
    not_applied = {
        str(statmap.sidecar["Run"]): bool(statmap.sidecar.get("NotApplied")) for statmap in maps
    }
    if all(not_applied.values()):
        return {}
    reason = f"{series} was not applied to this run (zero filled)"
    return {name: reason for name, zero_filled in not_applied.items() if zero_filled}


def grid_differences(maps: Mapping[str, MapsByStatistic]) -> str:
    """Return the grid of each run if runs are on different grids, and "" otherwise.

    `maps`: maps by name of the run and statistic.
    """
    volumes = {
        name: run_maps["effect"].volume for name, run_maps in maps.items() if "effect" in run_maps
    }
    first = next(iter(volumes.values()), None)
    if first is None or all(
        volume.data.shape == first.data.shape
        and np.allclose(volume.affine, first.affine, atol=1e-3)
        for volume in volumes.values()
    ):
        return ""
    return ", ".join(
        f"{name}: {' x '.join(map(str, volume.data.shape))} voxels of {size_text(volume.zooms)}"
        for name, volume in volumes.items()
    )


def _estimate(maps: MapsByStatistic) -> RunEstimate:
    """Return effect, variance, error and degrees of freedom of a run."""
    model = maps["effect"].sidecar["Model"]
    assert isinstance(model, Mapping)
    return RunEstimate(
        effect=maps["effect"].volume.data,
        variance=maps["variance"].volume.data,
        sd=maps["sd"].volume.data if "sd" in maps else None,
        dof=as_number(model["DegreesOfFreedom"]),
    )


def _common_sidecar(
    combination: _Combination,
    contrast: str,
    maps: Mapping[str, MapsByStatistic],
    shares: Mapping[str, float],
    estimate: CombinedEstimate,
) -> dict[str, object]:
    """Return metadata of all combined maps of a contrast at one smoothing.

    `maps`: maps of the combined runs, by name of the run and statistic. `shares`: weights of the
    runs, which sum to 1.
    """
    first = next(iter(maps.values()))["effect"].sidecar
    left_out = {
        **combination.left_out,
        **{
            name: reasons[contrast]
            for name, reasons in combination.missing_contrasts.items()
            if contrast in reasons
        },
    }
    left_out |= {
        name: "the contrast could not be estimated in this run"
        for name in combination.runs
        if name not in maps and name not in left_out
    }
    not_applied = [
        name for name, run_maps in maps.items() if run_maps["effect"].sidecar.get("NotApplied")
    ]
    sidecar: dict[str, object] = {
        **{key: first[key] for key in _KEPT_KEYS if key in first},
        "RunWeights": {name: round(share, 6) for name, share in shares.items()},
        "RunScales": {
            name: round(as_number(run_maps["effect"].sidecar.get("SignalRatio", 1.0)), 6)
            for name, run_maps in maps.items()
        },
        "RunsLeftOut": left_out,
        "DegreesOfFreedom": estimate.dof,
    }
    if combination.percent:
        del sidecar["RunScales"]
    if disagreeing_runs := {
        name: reason for name, reason in combination.disagreeing_runs.items() if name in maps
    }:
        sidecar["DisagreeingRuns"] = disagreeing_runs
    if not_applied:
        sidecar["NotAppliedIn"] = not_applied
    with_sd = [name for name, run_maps in maps.items() if "sd" in run_maps]
    series = combination.series
    if estimate.sd is not None:
        sidecar["ErrorOfReconstruction"] = (
            "The stat-sd map contains the standard deviation of the reconstruction error of the"
            " combined effect"
        )
    elif not_applied:
        sidecar["ErrorOfReconstruction"] = (
            f"There is no stat-sd map, because {series} was not applied to"
            f" {enumerate_words(not_applied)} (zero filled)"
        )
    elif with_sd:
        runs_without_sd = [name for name in maps if name not in with_sd]
        sidecar["ErrorOfReconstruction"] = (
            "There is no stat-sd map, because the reconstruction error was not estimated in"
            f" {enumerate_words(runs_without_sd)}"
        )
    return sidecar


def _units(stat: str, combination: _Combination) -> str:
    """Return the unit of a combined map."""
    if stat in _WITHOUT_UNIT:
        return "1"
    return "percent" if combination.percent else "arbitrary"


def _statmap(
    stat: str, effect: Mapping[str, str], sidecar: Mapping[str, object], combination: _Combination
) -> Derivative:
    """Return entities and metadata of a combined map.

    The entities of the effect (`effect`) and metadata of all combined maps (`sidecar`) are used.
    """
    entities = {**effect, "stat": stat}
    metadata = {
        "Description": _TEXT[stat],
        "Units": _units(stat, combination),
        **sidecar,
        **_sources(combination, sidecar, entities),
    }
    return Derivative(None, entities, metadata)


def _region(
    threshold: Threshold,
    limit: float | None,
    effect: Mapping[str, str],
    sidecar: Mapping[str, object],
    combination: _Combination,
) -> Derivative:
    """Return entities and metadata of an active region.

    `limit` is the smallest z value in the region, or None if the region is empty. Entities of the
    effect (`effect`) and metadata of all combined maps (`sidecar`) are used.
    """
    dropped = ("contrast", "stat", "desc", "suffix")
    entities = {
        **{key: label for key, label in effect.items() if key not in dropped},
        "label": effect["contrast"],
        "desc": map_label(
            combination.series, as_number(sidecar["SmoothingFWHM"]), threshold.label
        ),
        "suffix": "mask",
    }
    metadata = region_sidecar(threshold) | {"Threshold": "n/a" if limit is None else limit}
    common = ("SkullStripped", "SourceSeries", "SmoothingFWHM", "Resolution", *_OF_COMBINATION)
    metadata |= {key: sidecar[key] for key in common if key in sidecar}
    return Derivative(None, entities, {**metadata, **_sources(combination, sidecar, effect)})


def _sources(
    combination: _Combination, sidecar: Mapping[str, object], entities: Mapping[str, str]
) -> dict[str, object]:
    """Return the metadata field ``Sources``: URIs of the maps of the combined runs.

    These are maps of the same statistic, which are stored at the same storage levels, or effects
    if runs have no maps of the statistic.
    """
    weights = sidecar["RunWeights"]
    assert isinstance(weights, Mapping)
    stat = "effect" if entities["stat"] == "personsd" else entities["stat"]
    run_entities = {key: label for key, label in entities.items() if label != FRAME} | {
        "stat": stat
    }
    paths = (
        derivative_path({**combination.runs[name], **run_entities, "extension": ".nii.gz"})
        for name in weights
    )
    return {"Sources": [f"bids::{path}" for path in paths]}
