"""Estimation and self-test of the prior SD maps of a run, and the resulting model card."""

import logging
import math
import time
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bids_sr.io.grids import Shape
from bids_sr.metrics.number_text import number
from bids_sr.networks import card_entries
from bids_sr.spatial.transforms import hr_grid
from bids_sr.sr.matrices import ResolutionError
from bids_sr.sr.method import Method
from bids_sr.sr.models.model import TrainedModel
from bids_sr.sr.models.request import TrainingRequest
from bids_sr.sr.models.training_log import LogRow
from bids_sr.sr.operators import level_above, to_slices
from bids_sr.sr.prior_maps.calibration_fit import CalibrationFit, fit_calibration, unrefined_fit
from bids_sr.sr.prior_maps.calibration_prior import add_patterns
from bids_sr.sr.prior_maps.estimation import estimate_prior
from bids_sr.sr.prior_maps.outer_band import OuterBand, select_slices
from bids_sr.sr.prior_maps.prior import Prior, Tile
from bids_sr.sr.prior_maps.run_data import RunData
from bids_sr.sr.prior_maps.self_test import SelfTestScore, estimate_map, score_maps
from bids_sr.sr.prior_maps.temporal_components import SeriesError, TemporalStatistics
from bids_sr.sr.recipe import VarianceRecipe
from bids_sr.sr.threads import torch_threads

_LOG = logging.getLogger(__name__)
_HALF_PRECISION = 6e4  # largest value in half precision
# Number of updates, exponent and smoothing weight for runs with a calibration, whose patterns
# provide most of the detail. Additional updates would explain at most .002 of the zero-filling
# error (two participants).
_ROUNDS, _STEP, _PULL = 2, 0.75, 0.15


def fit_variance(training: TrainingRequest, data: RunData) -> TrainedModel:
    """Estimate the prior SD maps of a run, and decide by a self-test whether they are used.

    Parameters
    ----------
    training : TrainingRequest
        Method and settings.
    data : RunData
        Statistics and mask of the run, and patterns of a calibration.

    Returns
    -------
    TrainedModel
        Maps and card. The maps are 0 if they are not used.

    Raises
    ------
    SeriesError, ResolutionError
        If the run cannot be used.
    """
    method, recipe, seed = training.definition, training.variance, training.random_seed
    if recipe is None:
        raise SeriesError(f"the method {method.name} does not estimate variance maps")
    start_time = time.monotonic()
    log: list[LogRow] = []

    def log_update(n_done: int, _rounds: int) -> None:
        # times are omitted, so that equal data give equal files
        log.append({"phase": "map", "iteration": n_done})

    with torch_threads(training.omp_nthreads):
        level = level_above(data.mask.shape, data.factor)
        tile = Tile.from_mask(level.restrict_to_plane(), data.mask)
        components = level.upsample_slices(_slices(data.statistics))
        used, fit, held_out = _gate(method, recipe, data, seed)
        widths, (x, y, z) = recipe.fwhm or (0.0,), level.fine
        # if the maps are not used, they are 0, so that the series is zero filled
        prior = Prior(
            region=tile, weight=torch.zeros(len(widths), z, x, y), fwhm=widths, noise=0.0
        )
        if used:
            if fit is not None and fit.weight:
                recipe = make_short_recipe(recipe)
            prior = estimate_prior(components, tile, recipe, seed=seed, progress=log_update)
            if fit is not None and fit.weight:
                prior = add_patterns(prior, _patterns(data, fit, level.fine), fit.weight)
    _LOG.info("%s: %s (%.0f s)", method.name, held_out["model"], time.monotonic() - start_time)
    card = card_entries(training, data.describe()) | {
        "applied": used,
        "held_out": held_out,
        "components": len(components),
        "refit_on_all_slices": False,
        "perceptual": {"active": False, "reason": "no network is trained by this method"},
        "reproducible": True,
        "parameters": int(prior.weight.numel()),
    }
    weight = prior.weight
    if fit is not None and float(weight.abs().max()) < _HALF_PRECISION:
        # half precision is sufficient, because its rounding errors are smaller than the estimation
        # errors of the patterns
        weight = weight.half()
    state = {"weight": weight, "noise": torch.tensor(prior.noise)}
    return TrainedModel(state=state, card=card, log=tuple(log))


def make_short_recipe(recipe: VarianceRecipe) -> VarianceRecipe:
    """Return the recipe for runs with a calibration run, which has fewer and larger updates.

    Settings that differ from their default were chosen, and are kept.
    """
    default, short = VarianceRecipe(), {"rounds": _ROUNDS, "step": _STEP, "pull": _PULL}
    changes: dict[str, Any] = {
        name: value
        for name, value in short.items()
        if getattr(recipe, name) == getattr(default, name)
    }
    return replace(recipe, **changes)


def _slices(statistics: TemporalStatistics) -> Tensor:
    """Return the components with slices first (C, z, x, y)."""
    return torch.stack([to_slices(image) for image in statistics.components])


def _patterns(data: RunData, fit: CalibrationFit, shape: Shape) -> Tensor:
    """Return the patterns on the high-resolution grid (C, Z, X, Y), at the corrected position."""
    assert data.exemplars is not None
    _, affine = hr_grid(data.mask.shape, data.affine, data.factor)
    return data.exemplars.resample(shape, affine, fit.correction)


def _fit(data: RunData, recipe: VarianceRecipe, seed: int) -> CalibrationFit | None:
    """Return the fit of the calibration, or None if it cannot be tested.

    The test requires a calibration and a run that is long enough to be split.
    """
    if data.exemplars is None or data.halves is None:
        return None
    level = level_above(data.mask.shape, data.factor)
    if level.coarse[2] != level.fine[2]:
        return unrefined_fit()
    slices = select_slices(data.mask)
    level = level.restrict_to_plane(len(slices))
    tile = Tile.from_mask(level, np.asarray(data.mask)[:, :, slices])
    halves = [_slices(half)[:, slices].contiguous() for half in data.halves]
    with torch.inference_mode():
        maps = (estimate_map(half, tile, make_short_recipe(recipe), seed) for half in halves)
        priors = [prior for prior in maps if isinstance(prior, Prior)]
        band = OuterBand(level, slices, data.mask, halves, priors, data.affine)
        return fit_calibration(band, data.exemplars, data.mask, data.affine)


def _gate(
    method: Method, recipe: VarianceRecipe, data: RunData, seed: int
) -> tuple[bool, CalibrationFit | None, dict[str, object]]:
    """Return the result of the self-test.

    The result consists of the decision whether the maps are used, the fit of the calibration, and
    card entries. See `one_level_down` and `outer_band` for the tests.
    """
    threshold, fallback = recipe.least_explained, "zero filling: "
    control_text = "this control is always applied, without an applicability test"
    if not np.any(data.statistics.components):
        reason = "the run has too few volumes to estimate signal variance"
        return False, None, {"model": f"{fallback}{reason}", "tested": {"reason": reason}}
    if threshold is not None and data.is_cut_out:
        reason = (
            "the background of the series is 0 because the series was masked, which would "
            "bias the estimate. Use the unmasked series"
        )
        return False, None, {"model": f"{fallback}{reason}", "tested": {"reason": reason}}
    try:
        trial = data.trial()
        fit = _fit(data, recipe, seed) if method.calibrated else None
        patterns = None
        if fit is not None and fit.weight:
            assert data.exemplars is not None
            recipe = make_short_recipe(recipe)
            patterns = data.exemplars.downsample(
                data.mask.shape, data.affine, data.factor, fit.correction
            )
        weights = (0.0,) if fit is None or not fit.weight else (0.0, fit.weight)
        scores = score_maps(trial, recipe, seed=seed, patterns=patterns, weights=weights)
    except (SeriesError, ResolutionError) as error:
        reason = untested_reason(error)
        return (
            threshold is None,
            None,
            {
                "model": control_text if threshold is None else fallback + reason,
                "tested": {"reason": reason},
            },
        )
    if fit is not None and fit.weight and not scores[fit.weight].share > scores[0.0].share:
        fit = replace(fit, weight=0.0)
    best = fit.weight if fit is not None else 0.0
    share, fit_text = scores[best].share, "" if fit is None else fit.text
    if best:
        fit_text = (
            f"{fit_text}. Without the calibration run, the self-test score would be "
            f"{100 * scores[0.0].share:.1f} %"
        )
    held_out: dict[str, object] = {
        "explained_over_zerofill": round(share, 5),
        "explained_by_half": [round(half_share, 5) for half_share in scores[best].by_half],
        "tested": (
            self_test_entry(scores[best], data.volumes)
            | {"thermal_noise": round(data.statistics.thermal, 5)}
            | ({"calibrated": True} if best else {})
            | ({} if fit is None else {"calibration": fit_text})
        ),
    }
    if fit is not None:
        held_out |= fit.entries | {
            "explained_by_weight": {
                f"{w:g}": round(explained.share, 5) for w, explained in scores.items()
            }
        }
    used = threshold is None or share >= threshold
    held_out["model"] = (
        "prior SD map estimated from the whole run"
        if fit is None
        else f"prior SD map estimated from the whole run; {fit_text}"
    )
    if threshold is None:
        held_out["model"] = control_text
    elif not used:
        held_out["model"] = (
            f"{fallback}in the self-test, the prior SD map from one half of the run was "
            "applied to the other half. The relative reduction in squared error was only "
            f"{number(share, '.1%')}, but at least {threshold:.0%} is required"
        )
    return used, fit, held_out


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


def self_test_entry(explained: SelfTestScore, volumes: int) -> dict[str, object]:
    """Return self-test score, interval and number of segments for the model card.

    `volumes` is the number of steady-state volumes of the run.
    """
    numbers = zip(("share", "lower", "upper"), (explained.share, *explained.interval), strict=True)
    entry: dict[str, object] = {
        name: round(value, 5) for name, value in numbers if math.isfinite(value)
    }
    count = len(explained.by_stretch)
    return entry | {"stretches": count, "stretch_volumes": volumes // count if count else 0}
