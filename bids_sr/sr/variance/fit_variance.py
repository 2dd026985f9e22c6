"""Estimate the variance maps of one run, test them on held-out halves, and describe them in a model card."""

import logging
import math
import time

import numpy as np
import torch
from torch import Tensor

from bids_sr.sr.data.temporal_components import SeriesError, TemporalStatistics
from bids_sr.sr.method import Method
from bids_sr.sr.models.card import card_entries
from bids_sr.sr.models.model import TrainedModel
from bids_sr.sr.recipe import VarianceRecipe
from bids_sr.sr.resolution.matrices import ResolutionError
from bids_sr.sr.resolution.operators import level_above, to_slices
from bids_sr.sr.training.checkpoint import LogRow
from bids_sr.sr.training.job import Training
from bids_sr.sr.training.trainer import torch_threads
from bids_sr.sr.variance.one_level_down import Explained, try_maps
from bids_sr.sr.variance.prior import Prior, Window
from bids_sr.sr.variance.run_data import RunData
from bids_sr.sr.variance.variance_estimation import blended, estimate_prior

LOG = logging.getLogger(__name__)
BLENDS = (0.0, 0.2, 0.4, 0.6)  # shares of a measured map that are tried
_WORTH = 0.005  # of explained share that a measured map has to add


def whole_grid(prior: Prior) -> Tensor:
    """The maps of a prior on the whole high-resolution grid, (Q, Z, X, Y)."""
    x, y, z = prior.window.level.fine
    out = torch.zeros(len(prior.weight), z, x, y)
    out[:, *prior.window.fine] = prior.weight
    return out


def fit_variance(training: Training, data: RunData) -> TrainedModel:
    """Find the variance maps of a run and decide whether they are used.

    Raises
    ------
    SeriesError, ResolutionError : the run cannot be used
    """
    method, recipe, seed, threads = training.method, training.how, training.seed, training.threads
    if not isinstance(recipe, VarianceRecipe):
        raise SeriesError(f"the recipe {training.recipe} of {method.name} is not one for a run")
    began = time.monotonic()
    log: list[LogRow] = []

    def tell(done: int, _rounds: int) -> None:
        log.append({"phase": "map", "iteration": done})  # no times: the same data give the same files

    shape = data.statistics.mean.shape
    with torch_threads(threads):
        window = Window.around(level_above((shape[0], shape[1], shape[2]), data.factor), data.mask)
        components = _slices(data.statistics)
        used, blend, told = _gate(method, recipe, data, seed)
        widths, size = recipe.estimator.fwhm or (0.0,), [part.stop - part.start for part in window.fine]
        prior = Prior(window=window, weight=torch.zeros(len(widths), *size), fwhm=widths, noise=0.0)  # zero filling
        if used:
            prior = estimate_prior(components, window, recipe.estimator, seed=seed, progress=tell)
            if blend:
                assert data.measured is not None
                prior = blended(prior, to_slices(data.measured)[window.fine].contiguous(), blend)
    LOG.info("%s: %s (%.0f s)", method.name, told["model"], time.monotonic() - began)
    card = card_entries(training, recipe, data.described()) | {
        "applied": used,
        "held_out": told,
        "components": len(components),
        "refit_on_all_slices": False,
        "perceptual": {"active": False, "reason": "nothing is trained"},
        "reproducible": True,
        "parameters": int(prior.weight.numel()),
        "seed": seed, "threads": threads, "device": "cpu",
    }  # fmt: skip
    state = {"weight": whole_grid(prior), "noise": torch.tensor(prior.noise)}
    return TrainedModel(state=state, card=card, log=tuple(log))


def _slices(statistics: TemporalStatistics) -> Tensor:
    """Components (C, z, x, y)."""
    return torch.stack([to_slices(image) for image in statistics.components])


def _gate(method: Method, recipe: VarianceRecipe, data: RunData, seed: int) -> tuple[bool, float, dict[str, object]]:
    """Whether the maps are used, the share of a measured one in them, and what they explain; see `one_level_down`."""
    least, fallback = recipe.least_explained, "zero filling: "
    why = "a control: it is applied whatever it explains"
    if not np.any(data.statistics.components):
        reason = "too few volumes for a variance"
        return False, 0.0, {"model": f"{fallback}{reason}", "tested": {"reason": reason}}
    blends = BLENDS if method.calibrated and data.measured is not None and data.measured_low is not None else (0.0,)
    try:
        tried = try_maps(
            data.trial(), recipe.estimator, seed=seed,
            measured=None if data.measured_low is None else to_slices(data.measured_low), blends=blends,
        )  # fmt: skip
    except (SeriesError, ResolutionError) as error:
        reason = why_untried(error)
        return least is None, 0.0, {"model": why if least is None else fallback + reason, "tested": {"reason": reason}}
    means = {blend: each.share for blend, each in tried.items()}
    best = max(means, key=lambda blend: means[blend])
    best = best if means[best] - means[0.0] > _WORTH else 0.0
    told: dict[str, object] = {
        "explained_over_zerofill": round(means[best], 5),
        "explained_by_half": [round(each, 5) for each in tried[best].by_half],
        "tested": tested_entry(tried[best], data.volumes) | ({"calibrated": True} if best else {}),
    }
    if len(blends) > 1:
        told |= {"blend": best, "explained_by_blend": {f"{blend:g}": round(mean, 5) for blend, mean in means.items()}}
    used = least is None or means[best] >= least
    told["model"] = (
        f"the map of the whole run{f', {best:.0%} of it from the calibration (mean of logarithms)' * bool(best)}"
    )
    if least is None:
        told["model"] = why
    elif not used:
        told["model"] = (
            f"{fallback}one level of resolution down the map of one half of the run explains {means[best]:.1%} of what "
            f"zero filling misses in the other half, less than {least:.0%}"
        )
    return used, best, told


def why_untried(error: SeriesError | ResolutionError) -> str:
    """Why a run cannot be tried one level of resolution down."""
    if isinstance(error, SeriesError):
        return str(error)
    return f"the run cannot be downsampled once more to try it ({error})"


def tested_entry(found: Explained, volumes: int) -> dict[str, object]:
    """Share and interval of a series that was tried, and stretches of a run of so many volumes, as plain values."""
    numbers = zip(("share", "lower", "upper"), (found.share, *found.interval), strict=True)
    entry: dict[str, object] = {name: round(value, 5) for name, value in numbers if math.isfinite(value)}
    count = len(found.by_stretch)
    return entry | {"stretches": count, "stretch_volumes": volumes // count if count else 0}
