"""Reconstruction error of effect maps: coverage of intervals, maps, masks of voxels."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from bids_sr.engine.artifacts import Derivative, File, Map, Rows, Series
from bids_sr.engine.metric_rows import MetricRow, metric_rows
from bids_sr.engine.step import HERE, Stage, step
from bids_sr.engine.step_memory import MAPS, VARIANCE
from bids_sr.evaluation.detail_support import (
    MIN_ACTIVE_VOXELS,
    MIN_FOLLOWING,
    classify_detail,
    permits_sign_reliable,
)
from bids_sr.evaluation.large_effects import describe_large_effects
from bids_sr.evaluation.reference_maps import TRUE_T
from bids_sr.evaluation.steps.error_maps import (
    FITTED,
    ErrorImages,
    describe_error_maps,
    describe_mask,
    error_images,
    iterate_contrasts,
)
from bids_sr.evaluation.steps.half_resolution import HalfResolutionPrior, run_half_resolution_test
from bids_sr.evaluation.steps.half_resolution_maps import save_half_resolution_maps
from bids_sr.evaluation.tested_detail import MIN_UNITS
from bids_sr.glm.steps.activation import write_map
from bids_sr.glm.steps.linear_models import LinearModel
from bids_sr.glm.steps.mapped_series import ErrorDraws
from bids_sr.glm.vein_signs import VeinSigns
from bids_sr.io.arrays import Array, Float32, MaskArray
from bids_sr.io.grids import Factor
from bids_sr.io.json_values import as_number
from bids_sr.io.nifti import SeriesReader
from bids_sr.io.safe_width import is_safe
from bids_sr.io.series import map_label
from bids_sr.io.volume import Volume
from bids_sr.io.word_lists import enumerate_words
from bids_sr.preproc.steps.aligned_series import BoldBrain, PosedBrain
from bids_sr.preproc.steps.outlier_volumes import reasons_by_volume
from bids_sr.spatial.matrices import ResolutionError
from bids_sr.spatial.resampling import sample_volume
from bids_sr.sr.models.card import ModelCard, was_applied
from bids_sr.sr.models.model import load_model
from bids_sr.sr.prior_maps.temporal_components import SeriesError
from bids_sr.sr.recipe import VarianceRecipe, make_short_recipe
from bids_sr.sr.steps.calibration_run import Calibration, get_patterns
from bids_sr.sr.steps.error_samples import ErrorSamples

_LOGGER = logging.getLogger(__name__)

ERROR_POWER, ACQUIRED_POWER = "errorpower", "acquiredpower"
"""Mean squares of the reconstruction errors of samples and of their acquired part."""
INTERVAL_TEST_TEXT = (
    "The run was also downsampled and super-resolved to the acquired resolution to test intervals"
    " and detail."
)
"""Methods text of `check_intervals`."""


def describe_tested_detail(*, at_rest: bool) -> str:
    """Return methods text of the test of detail, for runs that can be split into halves."""
    halves = "segments" if at_rest else "blocks"
    following = (
        ""
        if at_rest
        else f" and at least {MIN_FOLLOWING:.0%} of it remains if the prior SD maps are estimated"
        " without the task"
    )
    return (
        "The detail of each contrast, finer than the voxels of the downsampled run, was"
        f" compared between super-resolved effects e in one half of the {halves} and acquired"
        " effects T in the other half, in active voxels and the brain. Detail may be"
        " interpreted if the explained variance, 1 - E|e - T|^2 / E|T|^2 (all balanced splits), is"
        f" above 0{following}, and if the effect does not fade in the finer half of the detail, in"
        f" at least {MIN_ACTIVE_VOXELS} active voxels and {MIN_UNITS} slices. It may not be"
        " interpreted if this is contradicted, and is *not testable* otherwise.\n"
    )


@step(
    Stage.EVALUATION,
    makes=("coverage_rows", "half_resolution_maps"),
    memory=VARIANCE,
)
def check_intervals(
    preproc: Series,
    run: PosedBrain,
    model_file: File,
    linear_model: LinearModel,
    calibration: Calibration | None = None,
    *,
    here: Path = HERE,
    series_name: str,
    smoothing: Sequence[float],
    random_seed: int,
    omp_nthreads: int,
    keeps_blocks: bool = False,
) -> tuple[Rows, File]:
    """Test effects at half the resolution, with the acquired run as the reference.

    The run is downsampled by the super-resolution factor and super-resolved. The errors of its
    effects are compared with their predicted variance, and the detail of its effects with the
    acquired detail. If the model was calibrated, the patterns of the calibration run are
    downsampled as well.

    `preproc` is motion-corrected. `model_file` contains the prior SD maps of the run, with the
    model card in the same folder. `calibration` is the calibration run of the model; None if there
    is none. The prior does not use outlier volumes. `smoothing` is the smoothing of the maps
    (FWHM, mm). `random_seed` is the seed of the prior and of its samples. `keeps_blocks` states
    whether the second value has effects of blocks, which contrasts over runs need.

    Returns the smoothness of the run; one ``coverage_one_level_down`` per contrast; and rows of
    `iterate_tested_detail`, if the blocks can be split into halves. The second value is a file of
    `half_resolution_maps`, for tests with other runs. Both are empty if the model has no
    prior, was not applied, or cannot be tested in this run.
    """
    model = load_model(model_file)
    recipe = model.recipe
    if not (isinstance(recipe, VarianceRecipe) and recipe.fwhm and was_applied(model.card.json)):
        return [], save_half_resolution_maps(None, here)
    try:
        result = run_half_resolution_test(
            preproc,
            run.bold_mask,
            run.hmc_xfms,
            _downsample_calibration(recipe, model.card, calibration, preproc, run.factor),
            linear_model,
            here,
            outliers=list(reasons_by_volume(run.outliers)),
            series_name=series_name,
            smoothing=smoothing,
            factor=run.factor,
            random_seed=random_seed,
            omp_nthreads=omp_nthreads,
            keeps_blocks=keeps_blocks,
        )
    except (SeriesError, ResolutionError) as error:
        _LOGGER.warning("%s: the confidence intervals could not be tested: %s", series_name, error)
        return [], save_half_resolution_maps(None, here)
    detail_rows: Iterator[MetricRow] = iter(())
    if result.effects is not None:
        detail_rows = result.effects.score_detail(linear_model.contrasts, run.factor)
    rows = [*detail_rows, *result.run_rows]
    return rows, save_half_resolution_maps(result.maps, here)


def _downsample_calibration(
    recipe: VarianceRecipe,
    card: ModelCard,
    calibration: Calibration | None,
    preproc: SeriesReader,
    factor: Factor,
) -> HalfResolutionPrior:
    """Return the prior at half the resolution; the recipe changes only for a calibrated model.

    A `SeriesError` is raised if the calibration run of the model is not available.
    """
    from bids_sr.sr.prior_maps.calibration_fit import read_calibration

    calibration_patterns = get_patterns(calibration)
    weight, correction = read_calibration(card.json.get("held_out"))
    if not weight:
        return HalfResolutionPrior(recipe=recipe, weight=weight)
    if calibration_patterns is None or correction is None:
        raise SeriesError("the calibration run of the model is not available")
    low_patterns = calibration_patterns.downsample(
        preproc.shape[:3], preproc.affine, factor, correction
    )
    return HalfResolutionPrior(
        recipe=make_short_recipe(recipe), patterns=low_patterns, weight=weight
    )


def describe_error(series: str, *, at_rest: bool) -> str:
    """Return methods text of the reconstruction error of a series.

    `at_rest`: whether time series of seeds replace events.
    """
    parts = "segments" if at_rest else "blocks"
    return (
        f"The reconstruction error of {series} is identical in all {parts} and therefore not part"
        " of the residuals. Its SD was estimated from 64 samples from the prior, scaled by the"
        " local power of the acquired effect above noise."
    )


def describe_voxel_selection(smoothing: Sequence[float], zooms: Sequence[float]) -> str:
    """Return methods text of sign reliable voxels.

    `smoothing`: smoothing of the maps (FWHM, mm). `zooms`: acquired voxel size (mm).
    """
    narrow, wide = (
        [width for width in smoothing if is_safe(width, zooms) is wide] for wide in (False, True)
    )
    sentences = []
    if narrow:
        sentences.append(
            f"{_name_widths(narrow)}, sign reliable voxels are the significant voxels with the"
            " lowest probability of the wrong sign, of which at most 5 % are expected to have the"
            " wrong sign, separately for increases and decreases."
        )
    if wide:
        sentences.append(
            f"{_name_widths(wide)}, sign reliable voxels are significant after the error was"
            " added to the variance."
        )
    return " ".join(sentences) + "\n"


def _name_widths(smoothing: Sequence[float]) -> str:
    """Return maps of some smoothing widths (FWHM, mm) as the beginning of a sentence."""
    texts = [f"with {width:g} mm FWHM" if width else "without smoothing" for width in smoothing]
    return f"In maps {enumerate_words(texts)}"


@step(
    Stage.EVALUATION,
    makes=("error_maps", "error_rows", "error_powers"),
    memory=MAPS,
)
def measure_error(
    maps: list[Map],
    acquired_maps: list[Map],
    draws: ErrorDraws,
    brain: BoldBrain,
    coverage_rows: Rows,
    *,
    here: Path = HERE,
    smoothing: Sequence[float],
) -> tuple[list[Map], Rows, list[Map]]:
    """Map the reconstruction error of a series, with masks of voxels, and find large effects.

    Effects of `acquired_maps` at the narrowest smoothing scale the samples of the series
    (`draws`). `coverage_rows` are the result of `check_intervals`. `smoothing` is the smoothing of
    the maps (FWHM, mm).

    Returns error maps with masks of sign reliable voxels; coverage, sizes of the
    regions, their shares of the wrong sign and signs of veins, and large effects of contrasts
    whose detail is recovered in the test (`evaluation.large_effects`, narrowest smoothing); and
    mean squares of the samples, from which the error of several runs is computed (`ERROR_POWER` by
    smoothing, `ACQUIRED_POWER`). All are empty if there are no samples.
    """
    samples = gather_samples(draws, brain)
    if samples is None:
        return [], [], []
    series_name, mask, bold_mask = draws.series_name, draws.mask, brain.bold_mask
    acquired_power = samples.compute_acquired_power(min(smoothing))
    scales = scale_by_contrast(samples, acquired_maps, acquired_power, min(smoothing))
    error_powers = [
        _write_power(
            acquired_power, bold_mask.affine, ACQUIRED_POWER, series_name, min(smoothing), here
        )
    ]
    acquired_effects = {
        contrast: acquired["effect"].volume
        for contrast, acquired in iterate_contrasts(acquired_maps, min(smoothing))
    }
    veins = VeinSigns.find(brain.boldref, bold_mask, acquired_effects, mask)
    error_maps: list[Derivative] = []
    rows: list[MetricRow] = list(coverage_rows)
    for width in smoothing:
        error_power = samples.compute_error_power(width)
        error_powers.append(
            _write_power(error_power, mask.affine, ERROR_POWER, series_name, width, here)
        )
        for contrast, fitted_maps in iterate_contrasts(maps, width):
            effect, variance, t, z = (fitted_maps[stat].volume.data for stat in FITTED)
            is_safe_map = is_safe(width, bold_mask.zooms)
            contrast_error = error_images(
                effect=effect,
                variance=variance,
                t=t,
                z=z,
                error=samples.scale_variance(scales[contrast], error_power, width),
                brain=mask.data,
                is_safe=is_safe_map,
            )
            with_masks = bool(
                permits_sign_reliable(coverage_rows, series_name, contrast, is_safe=is_safe_map)
            )
            described_maps = _describe_maps(
                contrast_error, fitted_maps["effect"], with_masks=with_masks
            )
            error_maps += [
                write_map(values, mask.affine, derivative, here)
                for values, derivative in described_maps
            ]
            regions = contrast_error.list_regions(with_masks=with_masks)
            for threshold, region in regions.items():
                rows += metric_rows(
                    series_name,
                    {
                        "expected_wrong": contrast_error.compute_expected_wrong(region),
                        "voxels": int(region.sum()),
                        **(veins.measure(contrast, region.nonzero()) if region.any() else {}),
                    },
                    threshold=threshold,
                    contrast=contrast,
                    fwhm_mm=width,
                )
    rows += _list_large_effects(
        maps, acquired_maps, mask, veins.dark, coverage_rows, series_name, brain.factor
    )
    return error_maps, rows, error_powers


def gather_samples(draws: ErrorDraws, brain: BoldBrain) -> ErrorSamples | None:
    """Return the samples of the reconstruction error of a series; None if there are none."""
    if draws.error_draws is None or draws.acquired_draws is None:
        return None
    return ErrorSamples(
        errors=draws.error_draws,
        acquired=draws.acquired_draws,
        brain=brain.bold_mask,
        brain_hr=draws.mask,
    )


def scale_by_contrast(
    samples: ErrorSamples,
    acquired_maps: Sequence[Derivative],
    acquired_power: Float32,
    width: float,
) -> dict[str, Float32]:
    """Return the variance scale of the samples on the high-resolution grid, by contrast.

    `acquired_maps` are maps of the acquired series, and `acquired_power` is the mean square of the
    acquired samples (x, y, z). `width` is the smoothing of the effects that scale the samples
    (FWHM, mm).
    """
    scales = {}
    for contrast, acquired in iterate_contrasts(acquired_maps, width):
        effect, variance = (acquired[stat].volume.data for stat in ("effect", "variance"))
        scales[contrast] = samples.compute_scale(effect, variance, acquired_power)
    return scales


def _list_large_effects(
    maps: Sequence[Derivative],
    acquired_maps: Sequence[Derivative],
    brain: Volume,
    dark: MaskArray,
    coverage_rows: Sequence[MetricRow],
    series_name: str,
    factor: Factor,
) -> Iterator[MetricRow]:
    """Yield the large effects of contrasts whose detail is recovered in the test.

    The masks `brain` and `dark` are on the grid of the series. For other parameters,
    see `measure_error`.
    """
    recovered = {
        support.map_contrast
        for support in classify_detail(coverage_rows, series_name).values()
        if support.state == "recovered"
    }
    width = min(as_number(statmap.sidecar["SmoothingFWHM"]) for statmap in acquired_maps)
    acquired_by_contrast = dict(iterate_contrasts(acquired_maps, width))
    for contrast, fitted_maps in iterate_contrasts(maps, width):
        if contrast not in recovered or contrast not in acquired_by_contrast:
            continue
        t = acquired_by_contrast[contrast]["t"].volume
        acquired_t = sample_volume(t.data, t.affine, brain.data.shape, brain.affine)
        effects = describe_large_effects(
            fitted_maps["effect"].volume.data,
            brain.data & (np.abs(acquired_t) > TRUE_T),
            dark,
            factor,
        )
        if effects is not None:
            yield from effects.list_rows(series_name, contrast, width)


def _write_power(
    power: Float32, affine: Array, stat: str, series_name: str, width: float, here: Path
) -> Derivative:
    """Write mean squares of samples at one smoothing width (FWHM, mm) to the folder `here`."""
    entities = {"stat": stat, "desc": map_label(series_name, width), "suffix": "statmap"}
    return write_map(power, affine, Derivative(None, entities, {"SmoothingFWHM": width}), here)


def _describe_maps(
    contrast_error: ErrorImages, effect: Derivative, *, with_masks: bool
) -> Iterator[tuple[Array, Derivative]]:
    """Yield values and metadata of error maps, followed by the mask if requested."""
    yield from describe_error_maps(contrast_error.images, effect)
    if with_masks:
        yield describe_mask(contrast_error, effect)
