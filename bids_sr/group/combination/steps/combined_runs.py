"""Combination of the resampled maps of a participant's runs, with sidecars and regions."""

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, field, replace
from itertools import product
from pathlib import Path
from typing import Literal

import numpy as np

from bids_sr.engine.artifacts import Derivative, Facts, Map, Mask, Rows
from bids_sr.engine.memory import Need
from bids_sr.engine.metric_rows import MetricRow, metric_rows
from bids_sr.engine.step import HERE, Stage, step
from bids_sr.engine.store import derivative_path
from bids_sr.evaluation.detail_support import permits_sign_reliable
from bids_sr.evaluation.steps.error_maps import (
    ErrorImages,
    describe_error_maps,
    describe_mask,
    error_images,
)
from bids_sr.glm.activation_regions import Threshold, parse_thresholds
from bids_sr.glm.linear_model import compute_t
from bids_sr.glm.map_sidecars import MEAN_SIGNAL, PERCENT, SQUARED_PERCENT, region_sidecar
from bids_sr.glm.steps.activation import write_map
from bids_sr.group.combination.interpolated_variance import (
    compute_variance_factor,
    noise_autocorrelation,
)
from bids_sr.group.combination.placement import (
    compute_place_gradients,
    compute_place_sd,
    filter_alike,
    find_nearest_voxels,
)
from bids_sr.group.combination.run_combination import (
    CombinedEstimate,
    RunEstimate,
    combine_estimates,
    correlate_error,
    correlate_opposite,
    weigh_runs,
    widen_error,
)
from bids_sr.io.arrays import Array, MaskArray
from bids_sr.io.frozen import frozen
from bids_sr.io.grids import BOLDREF, FIRST_BOLDREF, size_text
from bids_sr.io.json_values import as_mapping, as_number
from bids_sr.io.safe_width import is_safe
from bids_sr.io.series import ACQUIRED, map_label
from bids_sr.io.word_lists import enumerate_words
from bids_sr.survey.preflight.combined_runs import RunTerm, format_terms

_LOGGER = logging.getLogger(__name__)

RunWeighting = Literal["equal", "precision"]
"""Weights of runs in maps of all runs."""
# metadata of the maps of a run that also apply to the combined maps
_RUN_KEYS = (
    "SkullStripped",
    "SourceSeries",
    "SmoothingFWHM",
    "InputSmoothingFWHM",
    "Resolution",
    "ContrastWeights",
    "ErrorOfReconstruction",
    MEAN_SIGNAL,
)
RUN_SCALE = "RunScale"
"""Key of the divisor of the effects of a run: its signal relative to the first run."""
FRAME_TO_RUN = "FrameToRun"
"""Key of the matrix from voxels of the first run to voxels of a run, before interpolation."""
TERMS = "Terms"
"""Key of the terms of a contrast over runs: labels of the runs, contrast, weight and runs."""
_DESCRIPTIONS_OVER_RUNS = {
    "effect": (
        "Weighted sum of the mean effects of several runs or sessions (Terms), in percent of the"
        " mean brain signal: a positive value is a larger effect in the terms with a positive"
        " weight"
    ),
    "variance": "Variance of the contrast over runs due to the noise of the runs",
    "t": (
        "Contrast over runs divided by its total standard deviation: noise, the reconstruction"
        " error that the runs do not share, and the error of their registration"
    ),
    "sd": (
        "Standard deviation of the contrast over runs due to the reconstruction error that the"
        " runs do not share, and to the error of their registration"
    ),
}
_DESCRIPTIONS_OF_SUMS = {
    **_DESCRIPTIONS_OVER_RUNS,
    "t": (
        "Contrast over runs divided by the square root of its variance (two-sided t statistic of a"
        " sum; reconstruction error and the error of the registration are not included)"
    ),
    "sd": (
        "Standard deviation of the contrast over runs due to the reconstruction error, most of"
        " which is the same in all runs, and to the error of their registration"
    ),
}
_T_OF_KNOWN_ERRORS = (
    "Contrast over runs divided by the standard deviation of its noise and of the error of the"
    " registration of the runs (reconstruction error is not included)"
)
CONTRASTS_OVER_RUNS_TEXT = (
    "Contrasts over runs are weighted sums of the effects of the runs in the frame of the first"
    " run. The first run was filtered as the interpolation filters the other runs. The"
    " variance is the sum of the noise of the runs, of the part of the reconstruction error that"
    " they do not share, and of the product of the effect's gradient with the error of the"
    " registration, estimated from its residuals in cells of 40 mm. t of a difference includes all"
    " three, or noise and registration if a method was not applied; t of a sum includes noise"
    " only.\n"
)
"""Methods text of `contrast_runs`."""
_DESCRIPTIONS = {
    "effect": (
        "Mean of the effects of several runs (fixed effects), in percent: 100 times the effect in"
        " signal units of a run, divided by its scale (RunScales) and by the mean brain signal of"
        " the first run (MeanSignal)"
    ),
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
_UNITS = {"t": "1", "z": "1", "variance": SQUARED_PERCENT}  # by statistic; others are in percent
# metadata of a combination that also apply to its regions
_COMBINATION_KEYS = (
    "RunWeights",
    "RunScales",
    "RunsLeftOut",
    "DisagreeingRuns",
    "NotAppliedIn",
    "DegreesOfFreedom",
    "SharedErrorCorrelation",
    "ErrorWidening",
    TERMS,
    "PlaceErrorShare",
    "Sources",
)
MapsByStatistic = Mapping[str, Derivative]
"""Maps of a run by statistic."""
_MapGroup = tuple[str, str, float]  # space, contrast, and smoothing (FWHM, mm)
# values of a map, and its entities and metadata without a file
_ImageWithMetadata = tuple[Array, Derivative]


def describe_combination(
    *,
    over_sessions: bool,
    in_spaces: bool,
    with_spread: bool,
    weights: RunWeighting,
    combine_all: bool,
) -> str:
    """Return methods text of combined runs.

    `over_sessions`: whether runs of several sessions were combined. `in_spaces`: whether maps were
    also resampled to other spaces. `with_spread`: whether the spread of the effects between runs
    was computed. `weights`, `combine_all`: settings of the combination.
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
        " by the median ratio of its boldref to the boldref of the first run in the brain, and"
        " expressed in percent of the mean signal of the first run."
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
            "Over sessions, effects of each run were expressed in percent of its own mean signal."
        )
    if with_spread:
        sentences.append("The spread of the effects between runs was also computed.")
    return " ".join(sentences) + "\n"


def describe_shared_error(
    smoothing: Sequence[float], *, n_runs: int, calibrated: bool, voxel_mm: float
) -> str:
    """Return methods text of the reconstruction error of combined runs.

    `smoothing` are the smoothing widths of the maps (FWHM, mm). `calibrated` states whether any
    run was super-resolved with a high-resolution calibration run. `voxel_mm` is the acquired
    in-plane voxel size.
    """
    phrases = []
    for width in smoothing:
        correlation = correlate_error(width / voxel_mm, calibrated=calibrated, n_runs=n_runs)
        widening = widen_error(width / voxel_mm, n_runs=n_runs)
        factor_text = f" and an SD multiplied by {widening:.3g}" if widening > 1 else ""
        maps_text = f"{width:g} mm FWHM" if width else "maps without smoothing"
        phrases.append(f"{correlation:.2g}{factor_text} ({maps_text})")
    return (
        "The size of the reconstruction error of each run was computed from the acquired effects"
        " of all runs (mean weighted by inverse variance). The variance of the reconstruction"
        f" error of {n_runs} runs was combined with a correlation between runs of"
        f" {enumerate_words(phrases)}.\n"
    )


def describe_contrast_over_runs(name: str, terms: Sequence[RunTerm]) -> str:
    """Return methods text of the terms of a contrast over runs.

    >>> term = RunTerm(label="ses-2", contrast="go", weight=-1, runs=("ses-2_run-1",))
    >>> describe_contrast_over_runs("change", [term])
    'The contrast change was - go in ses-2.'
    """
    labeled = [replace(term, runs=(term.label or "all runs",)) for term in terms]
    return f"The contrast {name} was {format_terms(labeled)}."


@frozen
class Combination:
    """Runs that are combined in all maps of one series, and settings of the maps.

    `runs` are the entities of the combined runs by name, the first run first. `left_out` and
    `missing_contrasts` have reasons why runs, and contrasts of runs, were skipped, by name of the
    run (and contrast). `thresholds` are the thresholds of active regions. `calibrated` states
    whether any run was super-resolved with a calibration run, and `voxel_mm` is the largest
    acquired in-plane voxel size of the first run. `disagreeing_runs` has the reasons
    of runs that are combined although they disagree; it is filled when the maps are combined.
    """

    series_name: str
    runs: Mapping[str, Mapping[str, str]]
    left_out: Mapping[str, str]
    missing_contrasts: Mapping[str, Mapping[str, str]]
    thresholds: Sequence[str]
    calibrated: bool
    voxel_mm: float
    disagreeing_runs: Mapping[str, str] = field(default_factory=dict)


@step(
    Stage.COMBINATION,
    makes=("combined_maps", "combined_space_maps", "combined_rows"),
    memory=Need(always=0.03, high=0.5, spaces=0.5),
)
def combine_maps(
    resampled_maps: list[Map],
    bold_mask: Mask,
    tested_rows: Rows | None = None,
    run_agreement: Facts | None = None,
    here: Path = HERE,
    *,
    combination: Combination,
    contrasts: Mapping[str, Sequence[str]],
    weights: RunWeighting = "equal",
) -> tuple[list[Map], list[Map], Rows]:
    """Combine the maps of runs as fixed effects.

    Runs that disagree with the others are left out. If the series was applied to some of the runs,
    the other runs, which are zero filled, are left out too. A single remaining run is the map of
    the participant.

    `resampled_maps` are maps of all runs, as returned by
    `resampled_runs.resample_run_maps` and
    `shared_error.scale_run_error`. `bold_mask` is the brain of the first run on
    the acquired grid. In safe maps, the error is included in t. `tested_rows` is the result of
    `tested_runs.compare_runs`, which decides whether masks of voxels are computed; None if the
    series was not tested. `run_agreement` is the result of `sibling_runs.check_runs`; None if runs
    were not compared.

    `contrasts` has the names of the combined runs, by contrast. `weights` are ``equal``, or
    ``precision`` for the inverse of the mean noise variance of each run in the brain.

    Returns maps and regions in the frame of the first run; maps and regions in other spaces; and
    sizes of the regions in the frame of the first run, with expected shares of the wrong sign,
    preceded by `tested_rows`. Runs on different grids, and runs without a common voxel, have no
    maps.
    """
    agreement = {} if run_agreement is None else run_agreement
    zero_filled = _find_zero_filled_runs(resampled_maps, combination.series_name)
    excluded = {**zero_filled, **parse_reasons(agreement, "LeftOut")}
    combination = replace(
        combination,
        left_out={**combination.left_out, **excluded},
        disagreeing_runs=parse_reasons(agreement, "Disagreeing"),
    )
    combined_maps: list[Derivative] = []
    combined_space_maps: list[Derivative] = []
    rows: list[MetricRow] = list(tested_rows or ())
    runs_without_overlap: dict[str, str] = {}  # names of the runs, by space
    differing_grids: dict[str, str] = {}  # grids of the runs, by space
    for (space, contrast, fwhm_mm), by_run in maps_by_run(resampled_maps).items():
        contrast_runs = [name for name in combination.runs if name in contrasts.get(contrast, ())]
        maps = _select_maps_to_combine(by_run, contrast_runs, excluded)
        if not maps or len(_select_maps_to_combine(by_run, contrast_runs, ())) < 2:
            continue
        if grids := grid_differences(maps):
            differing_grids.setdefault(space, grids)
            continue
        estimates = [make_run_estimate(run_maps) for run_maps in maps.values()]
        run_weights = (
            weigh_runs(estimates) if weights == "precision" else [1 / len(maps)] * len(maps)
        )
        used = RunsOfContrast(contrast=contrast, fwhm_mm=fwhm_mm, maps=maps)
        combined = _combine_contrast(combination, used, estimates, run_weights)
        if combined is None:
            # smoothing and contrasts have the same brain, and all series do
            if combination.series_name == ACQUIRED:
                runs_without_overlap.setdefault(space, enumerate_words(list(maps)))
            continue
        stored_maps, region_rows = _store_images(
            combined, tested_rows or [], here, is_safe_map=is_safe(fwhm_mm, bold_mask.zooms)
        )
        if space == FIRST_BOLDREF:
            combined_maps += stored_maps
            rows += region_rows
        else:
            combined_space_maps += stored_maps
    _warn_of_missing_maps(differing_grids, runs_without_overlap)
    return combined_maps, combined_space_maps, rows


def _find_zero_filled_runs(maps: Sequence[Derivative], series: str) -> dict[str, str]:
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


def parse_reasons(facts: Mapping[str, object], key: str) -> dict[str, str]:
    """Return reasons by name of the run from a sidecar or a result of `check_runs`."""
    return {name: str(reason) for name, reason in as_mapping(facts.get(key)).items()}


def maps_by_run(
    maps: Sequence[Derivative],
) -> dict[_MapGroup, dict[str, dict[str, Derivative]]]:
    """Sort resampled maps by (space, contrast, FWHM), then by run and statistic."""
    sorted_maps: dict[_MapGroup, dict[str, dict[str, Derivative]]] = {}
    for statmap in maps:
        entities = statmap.entities
        space = "+".join(entities[key] for key in ("space", "cohort", "res") if key in entities)
        if entities.get("space") == FIRST_BOLDREF:
            space = FIRST_BOLDREF
        key = space, entities["contrast"], as_number(statmap.sidecar["SmoothingFWHM"])
        run_maps = sorted_maps.setdefault(key, {}).setdefault(str(statmap.sidecar["Run"]), {})
        run_maps[entities["stat"]] = statmap
    return sorted_maps


def find_combined_maps(
    by_map: Mapping[_MapGroup, Mapping[str, MapsByStatistic]], effect: Derivative
) -> dict[str, MapsByStatistic]:
    """Return the maps of the runs that a combined effect is computed from, by name and statistic.

    `by_map`: maps of all runs, as returned by `maps_by_run`.
    """
    contrast, width = effect.entities["contrast"], as_number(effect.sidecar["SmoothingFWHM"])
    terms = effect.sidecar.get(TERMS)
    if not isinstance(terms, list):
        return dict(by_map[FIRST_BOLDREF, contrast, width])
    return {
        name: by_map[FIRST_BOLDREF, term["contrast"], width][name]
        for term in terms
        for name in term["runs"]
    }


def _select_maps_to_combine(
    by_run: Mapping[str, MapsByStatistic], contrast_runs: Sequence[str], excluded: Collection[str]
) -> dict[str, MapsByStatistic]:
    """Return the maps of runs that are not excluded, by name of the run and statistic.

    Runs without an effect or a variance of the contrast are not included.
    """
    return {
        name: by_run[name]
        for name in contrast_runs
        if {"effect", "variance"} <= by_run.get(name, {}).keys() and name not in excluded
    }


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


@step(
    Stage.COMBINATION,
    makes=("over_runs_maps", "over_runs_rows"),
    memory=Need(always=0.03, high=0.8),
)
def contrast_runs(
    resampled_maps: list[Map],
    place_errors: dict[str, Facts],
    combined_rows: Rows,
    run_agreement: Facts | None = None,
    here: Path = HERE,
    *,
    combination: Combination,
    over_runs: Mapping[str, Sequence[RunTerm]],
) -> tuple[list[Map], Rows]:
    """Map contrasts over runs, such as the difference between two sessions.

    Runs are left out if they show another head, or if the series was not applied, but not because
    their effects disagree, which may be the effect of interest. Runs of a term have equal weights.

    `place_errors` are results of `resampled_runs.estimate_place_error` by name of the run.
    `combined_rows` is the result of `combine_maps`, and `over_runs` are the terms by contrast. For
    the other parameters, see `combine_maps`. Returns maps and masks in the frame of the first run,
    and `combined_rows` followed by the sizes of the masks. Contrasts without a run of a term have
    no maps.
    """
    series_name = combination.series_name
    excluded = exclude_from_contrasts(resampled_maps, series_name, run_agreement or {})
    combination = replace(
        combination, left_out={**combination.left_out, **excluded}, missing_contrasts={}
    )
    stored_maps: list[Derivative] = []
    rows: list[MetricRow] = list(combined_rows)
    for used in select_runs(resampled_maps, over_runs, excluded):
        combined = None
        if used.is_complete and not grid_differences(used.maps):
            combined = _combine_contrast(
                combination,
                used,
                place_estimates(used.maps, place_errors),
                used.weights,
            )
        if combined is None:
            _LOGGER.warning(
                "%s: no map of the contrast %s, because a term has no run, or the runs have no"
                " voxel in common. %s",
                series_name,
                used.contrast,
                "; ".join(f"{name}: {reason}" for name, reason in combination.left_out.items()),
            )
            continue
        # t contains all errors of a difference, and none of a sum, whatever the smoothing
        maps, region_rows = _store_images(combined, combined_rows, here, is_safe_map=False)
        stored_maps += maps
        rows += region_rows
    return stored_maps, rows


def exclude_from_contrasts(
    resampled_maps: Sequence[Derivative], series: str, agreement: Mapping[str, object]
) -> dict[str, str]:
    """Return reasons by name of the runs that are left out of contrasts over runs.

    `agreement` is the result of `sibling_runs.check_runs`.
    """
    zero_filled = _find_zero_filled_runs(resampled_maps, series)
    return {**zero_filled, **parse_reasons(agreement, "OtherHead")}


@frozen
class RunsOfContrast:
    """Runs of a contrast at one smoothing `fwhm_mm` (FWHM).

    `maps` are the maps of the runs by name and statistic. `terms` are those of a contrast over
    runs, with only these runs in the same order; () for a mean of runs.
    """

    contrast: str
    fwhm_mm: float
    maps: Mapping[str, MapsByStatistic]
    terms: Sequence[RunTerm] = ()

    @property
    def is_complete(self) -> bool:
        """Whether each term has a run."""
        return all(term.runs for term in self.terms)

    @property
    def is_difference(self) -> bool:
        """Whether a term of a contrast over runs has a negative weight."""
        return any(term.weight < 0 for term in self.terms)

    @property
    def has_same_condition(self) -> bool:
        """Whether all terms are one contrast of the runs."""
        return len({term.contrast for term in self.terms}) == 1

    @property
    def weights(self) -> list[float]:
        """Weights of the runs, which are equal within a term."""
        return [term.weight / len(term.runs) for term in self.terms for _ in term.runs]


def select_runs(
    resampled_maps: Sequence[Derivative],
    over_runs: Mapping[str, Sequence[RunTerm]],
    excluded: Collection[str],
) -> Iterator[RunsOfContrast]:
    """Yield the runs of each contrast at each smoothing, without the names `excluded`."""
    by_map = maps_by_run(resampled_maps)
    widths = sorted({width for _, _, width in by_map})
    for (contrast, terms), width in product(over_runs.items(), widths):
        used_terms: list[RunTerm] = []
        maps: dict[str, MapsByStatistic] = {}
        for term in terms:
            by_run = by_map.get((FIRST_BOLDREF, term.contrast, width), {})
            term_maps = _select_maps_to_combine(by_run, term.runs, excluded)
            used_terms.append(replace(term, runs=tuple(term_maps)))
            maps |= term_maps
        yield RunsOfContrast(contrast=contrast, fwhm_mm=width, terms=used_terms, maps=maps)


def place_estimates(
    maps: Mapping[str, MapsByStatistic], place_errors: Mapping[str, Facts]
) -> list[RunEstimate]:
    """Return the estimates of runs with the errors of their places, interpolated alike."""
    matrices = {
        name: np.asarray(run_maps["effect"].sidecar[FRAME_TO_RUN])
        for name, run_maps in maps.items()
        if FRAME_TO_RUN in run_maps["effect"].sidecar
    }
    estimates = []
    for name, run_maps in maps.items():
        estimate = make_run_estimate(run_maps)
        inside = estimate.variance > 0
        effect = estimate.effect[find_nearest_voxels(inside)]
        if name in place_errors:
            affine = run_maps["effect"].volume.affine
            covariance, center = (place_errors[name][key] for key in ("Covariance", "Center"))
            gradients = compute_place_gradients(effect, affine, np.asarray(center))
            place_sd = np.where(inside, compute_place_sd(gradients, np.asarray(covariance)), 0)
            estimate = replace(estimate, place_sd=place_sd)
        elif matrices:
            autocorrelation = noise_autocorrelation(compute_t(effect, estimate.variance), inside)
            factors = [
                compute_variance_factor(
                    autocorrelation, inside.shape, np.eye(4), np.eye(4), matrix
                )
                for matrix in matrices.values()
            ]
            filtered = filter_alike(effect, list(matrices.values()))
            estimate = replace(
                estimate,
                effect=np.where(inside, filtered, 0),
                variance=np.mean(factors, axis=0) * estimate.variance,
            )
        estimates.append(estimate)
    return estimates


@frozen
class _CombinedContrast:
    """Estimate of one contrast at one smoothing from all runs.

    The combined maps have grid and entities of `first_effect`, the effect of the first run.
    `estimate` contains combined effect, variances and statistics, and `sidecar` the metadata of
    all maps.
    """

    combination: Combination
    used: RunsOfContrast
    first_effect: Derivative
    estimate: CombinedEstimate
    sidecar: Mapping[str, object]

    def describe(self, stat: str) -> str:
        """Return the description of a map of a statistic."""
        if not self.used.terms:
            return _DESCRIPTIONS[stat]
        if not self.used.is_difference:
            return _DESCRIPTIONS_OF_SUMS.get(stat, _DESCRIPTIONS[stat])
        if stat == "t" and self.estimate.sd is None:
            return _T_OF_KNOWN_ERRORS
        return _DESCRIPTIONS_OVER_RUNS.get(stat, _DESCRIPTIONS[stat])


def _combine_contrast(
    combination: Combination,
    used: RunsOfContrast,
    estimates: Sequence[RunEstimate],
    run_weights: Sequence[float],
) -> _CombinedContrast | None:
    """Combine the maps of runs; None if the runs have no common voxel.

    `estimates` and `run_weights` are in the order of the runs.
    """
    calibrated = combination.calibrated
    maps, terms, fwhm_voxels = used.maps, used.terms, used.fwhm_mm / combination.voxel_mm
    correlation = correlate_error(fwhm_voxels, calibrated=calibrated, n_runs=len(maps))
    widening = widen_error(fwhm_voxels, n_runs=len(maps))
    estimate = combine_estimates(
        estimates,
        run_weights,
        shared=correlation,
        opposite=correlate_opposite(
            fwhm_voxels, estimates, calibrated=calibrated, same_condition=used.has_same_condition
        ),
        widening=widening,
    )
    if not estimate.mask.any():
        return None
    first_effect = next(iter(maps.values()))["effect"]
    weights = dict(zip(maps, run_weights, strict=True))
    sidecar = _make_common_sidecar(combination, used, weights, estimate)
    if estimate.sd is not None:
        sidecar["SharedErrorCorrelation"] = round(correlation, 4)
        sidecar["ErrorWidening"] = round(widening, 4)
    if terms:
        place, total = estimate.place_variance.sum(), estimate.total_variance.sum()
        sidecar |= {
            "ContrastWeights": {f"{term.contrast}@{term.label}": term.weight for term in terms},
            TERMS: [asdict(term) for term in terms],
            "PlaceErrorShare": round(float(place / total), 4),
        }
        if used.is_difference and estimate.sd is not None:
            sidecar["ErrorOfReconstruction"] = (
                "The part that the runs do not share is included in t, z and the sdTotal map, but"
                " not in variance"
            )
    return _CombinedContrast(
        combination=combination,
        used=used,
        first_effect=replace(
            first_effect, entities={**first_effect.entities, "contrast": used.contrast}
        ),
        estimate=estimate,
        sidecar=sidecar,
    )


def make_run_estimate(maps: MapsByStatistic) -> RunEstimate:
    """Return effect, variance, error and degrees of freedom of a run."""
    return RunEstimate(
        effect=maps["effect"].volume.data,
        variance=maps["variance"].volume.data,
        sd=maps["sd"].volume.data if "sd" in maps else None,
        dof=as_number(as_mapping(maps["effect"].sidecar["Model"])["DegreesOfFreedom"]),
    )


def _make_common_sidecar(
    combination: Combination,
    used: RunsOfContrast,
    weights: Mapping[str, float],
    estimate: CombinedEstimate,
) -> dict[str, object]:
    """Return metadata of all combined maps of a contrast; `weights` are by name of the run."""
    maps = used.maps
    first = next(iter(maps.values()))["effect"].sidecar
    sidecar: dict[str, object] = {
        **{key: first[key] for key in _RUN_KEYS if key in first},
        "RunWeights": {name: round(weight, 6) for name, weight in weights.items()},
        "RunScales": {
            name: round(as_number(run_maps["effect"].sidecar[RUN_SCALE]), 6)
            for name, run_maps in maps.items()
        },
        "RunsLeftOut": _list_left_out(combination, used),
        "DegreesOfFreedom": estimate.dof,
    }
    if disagreeing_runs := {
        name: reason for name, reason in combination.disagreeing_runs.items() if name in maps
    }:
        sidecar["DisagreeingRuns"] = disagreeing_runs
    not_applied = [
        name for name, run_maps in maps.items() if run_maps["effect"].sidecar.get("NotApplied")
    ]
    if not_applied:
        sidecar["NotAppliedIn"] = not_applied
    without_sd = [name for name, run_maps in maps.items() if "sd" not in run_maps]
    if estimate.sd is not None:
        sidecar["ErrorOfReconstruction"] = (
            "Not included in variance, t and z; included in the sdTotal map of the combined effect"
        )
    elif not_applied or len(without_sd) < len(maps):
        reason = (
            f"{combination.series_name} was not applied to {enumerate_words(not_applied)}"
            " (zero filled)"
            if not_applied
            else "the reconstruction error was not estimated in " + enumerate_words(without_sd)
        )
        sidecar["ErrorOfReconstruction"] = f"There is no sdTotal map, because {reason}"
    return sidecar


def _list_left_out(combination: Combination, used: RunsOfContrast) -> dict[str, str]:
    """Return the reasons why runs are not in the map of a contrast, by name of the run."""
    left_out = dict(combination.left_out)
    for name, reasons in combination.missing_contrasts.items():
        if used.contrast in reasons:
            left_out[name] = reasons[used.contrast]
    for name in combination.runs:
        if name not in used.maps and name not in left_out:
            left_out[name] = "the run does not have the contrast, or it could not be estimated"
    return left_out


def _store_images(
    combined: _CombinedContrast,
    tested_rows: Rows,
    here: Path,
    *,
    is_safe_map: bool,
) -> tuple[list[Derivative], list[MetricRow]]:
    """Store the maps and regions of a combined contrast; return them and sizes of the regions.

    `tested_rows` permit masks of sign reliable
    voxels, which need a known reconstruction error. `is_safe_map` states whether they are safe
    maps (`bids_sr.io.safe_width`).
    """
    estimate, series = combined.estimate, combined.combination.series_name
    with_masks = bool(
        permits_sign_reliable(tested_rows, series, combined.used.contrast, is_safe=is_safe_map)
    )
    statistics = {stat: getattr(estimate, stat) for stat in ("effect", "variance", "t", "z")}
    used = combined.used
    # the spread between runs contains the difference between conditions
    if estimate.person_sd is not None and (not used.terms or used.has_same_condition):
        statistics["personsd"] = estimate.person_sd
    images: list[_ImageWithMetadata] = [
        (values.astype(np.float32), _describe_map(stat, combined))
        for stat, values in statistics.items()
    ]
    regions: dict[str, MaskArray] = {}
    for threshold in parse_thresholds(combined.combination.thresholds):
        if threshold.stat == "z":
            region, limit = threshold.region(estimate.z, estimate.mask, estimate.mask)
            regions[threshold.label.lower()] = region
            images.append((region.astype(np.uint8), _describe_region(threshold, limit, combined)))
    expected_wrong: dict[str, float | None] = {}
    if estimate.sd is not None:
        error = error_images(
            effect=estimate.effect,
            variance=estimate.variance,
            t=estimate.t,
            z=estimate.z,
            error=np.square(estimate.sd) + estimate.place_variance,
            brain=estimate.mask,
            is_safe=is_safe_map,
        )
        _, effect_map = images[0]
        images += _list_error_maps(error, effect_map, combined)
        regions |= error.list_regions(with_masks=with_masks)
        if with_masks:
            images.append(_describe_mask(error, effect_map))
        expected_wrong = {
            name: error.compute_expected_wrong(region) for name, region in regions.items()
        }
    affine = combined.first_effect.volume.affine
    stored_maps = [write_map(values, affine, image, here) for values, image in images]
    return stored_maps, _list_region_rows(regions, expected_wrong, combined)


def _describe_map(stat: str, combined: _CombinedContrast) -> Derivative:
    """Return entities and metadata of a combined map."""
    entities = {**combined.first_effect.entities, "stat": stat}
    metadata = {
        "Description": combined.describe(stat),
        "Units": _UNITS.get(stat, PERCENT),
        **combined.sidecar,
        **_list_sources(combined, entities),
    }
    return Derivative(None, entities, metadata)


def _describe_region(
    threshold: Threshold, limit: float | None, combined: _CombinedContrast
) -> Derivative:
    """Return entities and metadata of an active region.

    `limit` is the smallest |z| in the region, or None if the region is empty.
    """
    effect_entities, sidecar = combined.first_effect.entities, combined.sidecar
    replaced = ("contrast", "stat", "desc", "suffix")
    entities = {
        **{key: label for key, label in effect_entities.items() if key not in replaced},
        "label": effect_entities["contrast"],
        "desc": map_label(
            combined.combination.series_name, as_number(sidecar["SmoothingFWHM"]), threshold.label
        ),
        "suffix": "mask",
    }
    metadata = region_sidecar(threshold) | {"Threshold": "n/a" if limit is None else limit}
    common = ("SkullStripped", "SourceSeries", "SmoothingFWHM", "Resolution", *_COMBINATION_KEYS)
    metadata |= {key: sidecar[key] for key in common if key in sidecar}
    metadata |= _list_sources(combined, effect_entities)
    return Derivative(None, entities, metadata)


def _list_error_maps(
    error: ErrorImages, effect_map: Derivative, combined: _CombinedContrast
) -> Iterator[_ImageWithMetadata]:
    """Yield maps of the reconstruction error and of the wrong sign.

    `effect_map` has the entities and metadata of the combined effect.
    """
    for values, derivative in describe_error_maps(error.images, effect_map):
        stat = derivative.entities["stat"]
        metadata = {**derivative.sidecar, **_list_sources(combined, derivative.entities)}
        if stat == "sd":
            metadata["Description"] = combined.describe(stat)
        yield values, Derivative(None, derivative.entities, metadata)


def _list_sources(combined: _CombinedContrast, entities: Mapping[str, str]) -> dict[str, object]:
    """Return the metadata field ``Sources``: URIs of the maps of the combined runs.

    These are maps of the same statistic, which are stored at the same storage levels, or effects
    if runs have no maps of the statistic.
    """
    run_entities = dict(entities)
    if entities["space"] == FIRST_BOLDREF:
        run_entities["space"] = BOLDREF
    run_entities["stat"] = "effect" if entities["stat"] == "personsd" else entities["stat"]
    paths = (
        derivative_path(
            {
                **combined.combination.runs[name],
                **run_entities,
                "contrast": run_maps["effect"].entities["contrast"],
                "extension": ".nii.gz",
            }
        )
        for name, run_maps in combined.used.maps.items()
    )
    return {"Sources": [f"bids::{path}" for path in paths]}


def _describe_mask(error: ErrorImages, effect_map: Derivative) -> _ImageWithMetadata:
    """Return the mask of sign reliable voxels with the metadata of the combination."""
    combination_metadata = {
        key: effect_map.sidecar[key] for key in _COMBINATION_KEYS if key in effect_map.sidecar
    }
    mask, derivative = describe_mask(error, effect_map)
    metadata = {**derivative.sidecar, **combination_metadata}
    return mask, Derivative(None, derivative.entities, metadata)


def _list_region_rows(
    regions: Mapping[str, MaskArray],
    expected_wrong: Mapping[str, float | None],
    combined: _CombinedContrast,
) -> list[MetricRow]:
    """Return rows with the sizes of regions and their expected shares of the wrong sign.

    Both mappings are by name of the region. The shares are {} if the reconstruction error is
    unknown.
    """
    rows: list[MetricRow] = []
    for name, region in regions.items():
        metrics: dict[str, float | None] = {"voxels": int(region.sum())}
        if name in expected_wrong:
            metrics["expected_wrong"] = expected_wrong[name]
        rows += metric_rows(
            combined.combination.series_name,
            metrics,
            threshold=name,
            contrast=combined.used.contrast,
            fwhm_mm=combined.used.fwhm_mm,
        )
    return rows


def _warn_of_missing_maps(
    differing_grids: Mapping[str, str], runs_without_overlap: Mapping[str, str]
) -> None:
    """Warn of spaces without a combined map.

    `differing_grids` are the grids of the runs, and `runs_without_overlap` the names of runs
    without a common voxel, by space.
    """
    for space, grids in differing_grids.items():
        _LOGGER.warning(
            "The maps of the runs are on different grids in the space %s (%s), so there is no map"
            " of all runs in this space. Specify the resolution of the space, such as res-2, with"
            " --output-spaces",
            space,
            grids,
        )
    for space, names in runs_without_overlap.items():
        _LOGGER.warning(
            "%s: after registration, the brain masks of these runs have no voxel in common, so"
            " there is no map of all runs in the space %s. Check the fields of view, and exclude a"
            " run (--run-id)",
            names,
            space,
        )
