"""Estimation and self-test of the prior SD maps of a run, and the resulting model card."""

import logging
import math
import time
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch

from bids_sr.engine.number_text import number
from bids_sr.io.frozen import frozen
from bids_sr.spatial.matrices import ResolutionError
from bids_sr.spatial.transforms import hr_grid
from bids_sr.sr.method import Method
from bids_sr.sr.models.model import NewModel
from bids_sr.sr.models.request import ModelRequest
from bids_sr.sr.models.training_log import LogRow
from bids_sr.sr.networks.training.card_entries import card_entries
from bids_sr.sr.operators import level_above, to_slices
from bids_sr.sr.prior_maps.calibration_fit import CalibrationFit, fit_calibration, unrefined_fit
from bids_sr.sr.prior_maps.calibration_prior import add_patterns
from bids_sr.sr.prior_maps.estimation import estimate_prior
from bids_sr.sr.prior_maps.outer_band import OuterBand, select_test_slices
from bids_sr.sr.prior_maps.prior import Prior, Tile
from bids_sr.sr.prior_maps.run_data import RunData
from bids_sr.sr.prior_maps.self_testing import SelfTest, SelfTestScore, estimate_map, score_maps
from bids_sr.sr.prior_maps.temporal_components import SeriesError
from bids_sr.sr.recipe import VarianceRecipe, make_short_recipe
from bids_sr.sr.threads import torch_threads

_LOGGER = logging.getLogger(__name__)
_LARGEST_HALF = 6e4  # largest value in half precision
_ZERO_FILLING = "zero filling: "  # beginning of a reason in the model card
_CONTROL_TEXT = "this control is always applied, without an applicability test"


def estimate_tested_prior(request: ModelRequest, data: RunData) -> NewModel:
    """Estimate the prior SD maps of a run, and decide by a self-test whether they are used.

    `data` has statistics and mask of the run, and patterns of a calibration. The maps are 0 if
    they are not used. Raises `SeriesError` or `ResolutionError` if the run cannot be used.
    """
    method, recipe, seed = request.definition, request.variance, request.random_seed
    assert recipe is not None, f"{method.name} does not estimate prior SD maps"
    start_time = time.monotonic()
    with torch_threads(request.omp_nthreads):
        decision = _run_self_test(method, recipe, data, seed)
        prior, n_updates = _make_prior(decision, recipe, data, seed)
    duration = time.monotonic() - start_time
    _LOGGER.info("%s: %s (%.0f s)", method.name, decision.held_out["model"], duration)
    card = card_entries(request, data.describe()) | {
        "code_sha256": request.code_sha256,
        "applied": decision.is_applied,
        "held_out": decision.held_out,
        "components": len(data.statistics.components),
        "perceptual": {"active": False, "reason": "no network is trained by this method"},
        "reproducible": True,
        "parameters": int(prior.weight.numel()),
    }
    # half precision is sufficient for a calibration, because its rounding errors are smaller than
    # the estimation errors of the patterns
    is_half = decision.fit is not None and float(prior.weight.abs().max()) < _LARGEST_HALF
    state = {
        "weight": prior.weight.half() if is_half else prior.weight,
        "noise": torch.tensor(prior.noise),
    }
    # times are omitted, so that equal data give equal files
    log: tuple[LogRow, ...] = tuple(
        {"phase": "map", "iteration": number} for number in range(1, n_updates + 1)
    )
    return NewModel(state=state, card=card, log=log)


@frozen
class _Decision:
    """Decision of the self-test.

    `fit` is position and weight of the calibration; None if there is no calibration or no test.
    `held_out` are entries for the model card.
    """

    is_applied: bool
    fit: CalibrationFit | None
    held_out: Mapping[str, object]


def _run_self_test(method: Method, recipe: VarianceRecipe, data: RunData, seed: int) -> _Decision:
    """Test the maps of each half of a run on the other half, and decide whether maps are used.

    The tests are described in `self_test` and `outer_band`. `seed` is the seed of the samples from
    the prior.
    """
    threshold = recipe.least_explained
    if reason := _find_obstacle(recipe, data):
        return _decide_without_test(reason, is_applied=False)
    try:
        self_test = data.make_self_test()
        fit = _fit_calibration(data, recipe, seed) if method.uses_calibration else None
        scores = _score_maps_of_halves(self_test, data, recipe, fit, seed)
    except (SeriesError, ResolutionError) as error:
        return _decide_without_test(untested_reason(error), is_applied=threshold is None)
    if fit is not None and fit.weight and not scores[fit.weight].mean > scores[0.0].mean:
        fit = replace(fit, weight=0.0, failed_self_test=True)
    score = scores[0.0 if fit is None else fit.weight].mean
    fit_text = _describe_fit(fit, scores)
    return _Decision(
        is_applied=threshold is None or score >= threshold,
        fit=fit,
        held_out=_make_held_out_entries(data, fit, fit_text, scores)
        | {"model": _describe_outcome(score, threshold, fit_text)},
    )


def _find_obstacle(recipe: VarianceRecipe, data: RunData) -> str:
    """Return the reason why the maps of a run are not used, or "" if they can be tested."""
    if not np.any(data.statistics.components):
        return "the run has too few volumes to estimate signal variance"
    if recipe.least_explained is not None and data.was_masked:
        return (
            "the background of the series is 0 because the series was masked, which would "
            "bias the estimate. Use the unmasked series"
        )
    return ""


def _decide_without_test(reason: str, *, is_applied: bool) -> _Decision:
    """Return the decision for a run that cannot be tested; only controls are then applied."""
    model_text = _CONTROL_TEXT if is_applied else f"{_ZERO_FILLING}{reason}"
    held_out = {"model": model_text, "tested": {"reason": reason}}
    return _Decision(is_applied=is_applied, fit=None, held_out=held_out)


def _fit_calibration(data: RunData, recipe: VarianceRecipe, seed: int) -> CalibrationFit | None:
    """Return the fit of the calibration, or None if it cannot be tested.

    The test requires a calibration and a run that is long enough to be split.
    """
    if data.calibration is None or data.halves is None:
        return None
    level = level_above(data.mask.shape, data.factor)
    if level.acquired_shape[2] != level.highres_shape[2]:
        return unrefined_fit()
    slices = select_test_slices(data.mask)
    level = level.restrict_to_plane(len(slices))
    tile = Tile.from_mask(level, np.asarray(data.mask)[:, :, slices])
    halves = [to_slices(half.components)[:, slices].contiguous() for half in data.halves]
    with torch.inference_mode():
        maps = (estimate_map(half, tile, make_short_recipe(recipe), seed) for half in halves)
        priors = [prior for prior in maps if isinstance(prior, Prior)]
        band = OuterBand(level, slices, data.mask, halves, priors, data.affine)
        return fit_calibration(band, data.calibration, data.mask, data.affine)


def _score_maps_of_halves(
    self_test: SelfTest,
    data: RunData,
    recipe: VarianceRecipe,
    fit: CalibrationFit | None,
    seed: int,
) -> dict[float, SelfTestScore]:
    """Return the self-test scores without and, if it has a weight, with the calibration."""
    if fit is None or not fit.weight:
        return score_maps(self_test, recipe, seed=seed)
    assert data.calibration is not None
    patterns = data.calibration.downsample(
        data.mask.shape, data.affine, data.factor, fit.correction
    )
    return score_maps(
        self_test,
        make_short_recipe(recipe),
        seed=seed,
        patterns=patterns,
        weights=(0.0, fit.weight),
    )


def untested_reason(error: SeriesError | ResolutionError) -> str:
    """Return the reason why a run cannot be used in the self-test.

    `error` was raised when the run was split or downsampled.
    """
    if isinstance(error, SeriesError):
        return str(error)
    return (
        "the self-test is not possible, because the run cannot be downsampled any further "
        f"({error})"
    )


def _describe_fit(fit: CalibrationFit | None, scores: Mapping[float, SelfTestScore]) -> str:
    """Return the decision about the calibration as text, or "" if there is no calibration."""
    if fit is None:
        return ""
    if not fit.weight:
        return fit.text
    return (
        f"{fit.text}. Without the calibration run, the self-test score would be "
        f"{100 * scores[0.0].mean:.1f} %"
    )


def _make_held_out_entries(
    data: RunData,
    fit: CalibrationFit | None,
    fit_text: str,
    scores: Mapping[float, SelfTestScore],
) -> dict[str, object]:
    """Return the scores for the model card."""
    score = scores[0.0 if fit is None else fit.weight]
    tested: dict[str, object] = self_test_entry(score, data.volumes)
    tested["thermal_noise"] = round(data.statistics.thermal, 5)
    if fit is not None and fit.weight:
        tested["calibrated"] = True
    if fit is not None:
        tested["calibration"] = fit_text
    held_out: dict[str, object] = {
        "explained_over_zerofill": round(score.mean, 5),
        "explained_by_half": [round(half_score, 5) for half_score in score.half_scores],
        "tested": tested,
    }
    if fit is None:
        return held_out
    explained_by_weight = {
        f"{weight:g}": round(score_of_weight.mean, 5) for weight, score_of_weight in scores.items()
    }
    return held_out | fit.entries | {"explained_by_weight": explained_by_weight}


def self_test_entry(score: SelfTestScore, volumes: int) -> dict[str, object]:
    """Return self-test score, interval and number of segments for the model card.

    `volumes` is the number of steady-state volumes of the run.
    """
    lower, upper = score.interval
    statistics = {"share": score.mean, "lower": lower, "upper": upper}
    entry: dict[str, object] = {
        name: round(value, 5) for name, value in statistics.items() if math.isfinite(value)
    }
    n_segments = len(score.segment_scores)
    return entry | {
        "stretches": n_segments,
        "stretch_volumes": volumes // n_segments if n_segments else 0,
    }


def _describe_outcome(score: float, threshold: float | None, fit_text: str) -> str:
    """Return whether the maps are used, and why, as text.

    `threshold` is the smallest score of an applied map, or None for controls.
    """
    if threshold is None:
        return _CONTROL_TEXT
    if not score >= threshold:
        return (
            f"{_ZERO_FILLING}in the self-test, the prior SD map from one half of the run was "
            "applied to the other half. The relative reduction in squared error was only "
            f"{number(score, '.1%')}, but at least {threshold:.0%} is required"
        )
    text = "prior SD map estimated from the whole run"
    return f"{text}; {fit_text}" if fit_text else text


def _make_prior(
    decision: _Decision, recipe: VarianceRecipe, data: RunData, seed: int
) -> tuple[Prior, int]:
    """Return the prior that a decision selects, and the number of updates of its maps.

    If maps are not used, the prior contains zeros, so that the series is zero filled.
    """
    level = level_above(data.mask.shape, data.factor)
    tile = Tile.from_mask(level.restrict_to_plane(), data.mask)
    if not decision.is_applied:
        widths, (x, y, z) = recipe.fwhm or (0.0,), level.highres_shape
        zeros = torch.zeros(len(widths), z, x, y)
        return Prior(region=tile, weight=zeros, fwhm=widths, noise=0.0), 0
    components = level.upsample_slices(to_slices(data.statistics.components))
    fit = decision.fit
    if fit is None or not fit.weight:
        return estimate_prior(components, tile, recipe, seed=seed), recipe.rounds
    assert data.calibration is not None
    _, affine = hr_grid(data.mask.shape, data.affine, data.factor)
    patterns = data.calibration.resample(level.highres_shape, affine, fit.correction)
    recipe = make_short_recipe(recipe)
    prior = estimate_prior(components, tile, recipe, seed=seed)
    return add_patterns(prior, patterns, fit.weight), recipe.rounds
