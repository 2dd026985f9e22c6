"""Trial types with default contrasts, and default contrasts that can be estimated."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np

from bids_sr.glm.contrasts import Contrast, Contrasts, is_pause, requires_type
from bids_sr.glm.design import Design, frame_times
from bids_sr.glm.hemodynamic_response import RESPONSE_S, HemodynamicResponse
from bids_sr.glm.regressors import Events
from bids_sr.glm.type_information import (
    LARGEST_INFLATION,
    NOTED_INFLATION,
    TypeInformation,
    measure_information,
    spans_near_run,
)
from bids_sr.io.arrays import Float
from bids_sr.io.frozen import frozen

_REST_S = (12.0, 20.0)  # shortest and longest rest after an event that precision is compared with
_STEP_S = 0.25  # of times of a response
_LEAST_ENERGY = 1e-6  # of a sum of responses, whose plateau is 1; less is rounding


@frozen
class TypeRoles:
    """Roles of the trial types of a run, and the variances that decide them.

    `described` types have default contrasts, and `averaged` types are in the mean over types.
    `silent` types have no regressor, because no volume shows their response. `faint` is the
    observed share of the response by type without default contrasts, and `weak` the share by other
    type with a small share. `dominating` is the factor of the standard error of the mean
    by type that is left out of the mean. `information` has the variances of contrasts.
    """

    described: tuple[str, ...]
    averaged: tuple[str, ...]
    silent: tuple[str, ...]
    faint: Mapping[str, float]
    weak: Mapping[str, float]
    dominating: Mapping[str, float]
    information: TypeInformation


def assign_roles(
    types: Sequence[str], events: Events, design: Design, *, n_volumes: int
) -> TypeRoles:
    """Return the roles of trial types in default contrasts.

    `types` are in the order of contrasts. The design may lack head motion, and `n_volumes`
    includes dummies.
    """
    information = measure_types(events, design, n_volumes=n_volumes)
    silent = tuple(name for name in types if name not in design.conditions)
    faint = {name: share for name, share in information.faint_types().items() if name in types}
    weak = {
        name: share
        for name, share in information.weak_types().items()
        if name in types and name not in faint
    }
    described_types = tuple(name for name in types if name not in faint and name not in silent)
    dominating = information.dominating_types(described_types)
    return TypeRoles(
        described=described_types,
        averaged=tuple(name for name in described_types if name not in dominating),
        silent=silent,
        faint=faint,
        weak=weak,
        dominating=dominating,
        information=information,
    )


def measure_types(events: Events, design: Design, *, n_volumes: int) -> TypeInformation:
    """Return the information of a design about its trial types; `n_volumes` includes dummies."""
    outside = _compute_energy_outside(events, n_volumes, design.tr, design.settings.hrf)
    information = measure_information(design.matrix, design.conditions, outside)
    # what drift, filters and the ends of the run remove is not due to other types
    regressors = design.matrix[:, : len(design.conditions)]
    varying_lengths = np.linalg.norm(regressors - regressors.mean(axis=0), axis=0)
    observed = information.whole_lengths * information.lengths
    observed /= np.maximum(information.complete_lengths * varying_lengths, _LEAST_ENERGY)
    paused = _measure_with_rest(events, design, n_volumes) * np.outer(observed, observed)
    return replace(information, reference=np.linalg.pinv(paused))


def _measure_with_rest(events: Events, design: Design, n_volumes: int) -> Float:
    """Return X'X of the regressors X if rest followed each event, (n, n), without their mean.

    Responses do not overlap then. The rest lasts as long as the event, but 12 to 20 s.
    """
    indices = {name: index for index, name in enumerate(design.conditions)}
    energies, areas, seconds = np.zeros(len(indices)), np.zeros(len(indices)), 0.0
    for trial in events.trials():
        is_near = -RESPONSE_S < trial.onset < n_volumes * design.tr
        if is_near and trial.condition in indices:
            duration = min(trial.duration, n_volumes * design.tr)
            energy, area = _measure_response(design.settings.hrf.main, float(f"{duration:.2g}"))
            energies[indices[trial.condition]] += trial.modulation**2 * energy
            areas[indices[trial.condition]] += trial.modulation * area
            seconds += duration + np.clip(duration, *_REST_S)
    return (np.diag(energies) - np.outer(areas, areas) / max(seconds, 1.0)) / design.tr


@lru_cache(maxsize=4096)
def _measure_response(hrf: HemodynamicResponse, duration: float) -> tuple[float, float]:
    """Return the energy and the area of the response to an event (s)."""
    times = np.asarray(np.arange(0.0, duration + RESPONSE_S, _STEP_S), dtype=np.float64)
    response = hrf.predict([(0.0, duration)], np.ones(1), times)
    return float((response**2).sum()) * _STEP_S, float(response.sum()) * _STEP_S


def _compute_energy_outside(
    events: Events, n_volumes: int, tr: float, hrf: HemodynamicResponse
) -> dict[str, float]:
    """Return the sum of squares of the response to each type before and after a run."""
    n_outside = math.ceil(RESPONSE_S / tr)
    volumes = np.arange(n_outside)
    times = (np.concatenate([volumes - n_outside, volumes + n_volumes]) + 0.5) * tr
    return {
        name: float((hrf.main.predict(spans, np.ones(len(spans)), times) ** 2).sum())
        for name, spans in spans_near_run(events.spans(), n_volumes * tr).items()
        if spans
    }


def find_pauses(
    events: Events, design: Design, requests: Sequence[str | tuple[str, Contrast]] = ()
) -> tuple[str, ...]:
    """Return the trial types that are taken for rest.

    Their names say that they are pauses, no requested contrast requires them, and all responses
    add up to a constant from the first to the last event, apart from the first response: pauses
    are when there are no other events, so that standard errors would be more than 3 times as large
    with them. The design may lack head motion.
    """
    types, trials = events.conditions, events.trials()
    pauses = tuple(
        name
        for name in types
        if is_pause(name) and not any(requires_type(one, name, types) for one in requests)
    )
    n_volumes, start_time = design.n_dummy + len(design.matrix), design.settings.start_time
    times = frame_times(n_volumes, design.tr, start_time=start_time)[design.n_dummy :]
    is_between = times >= min(trial.onset for trial in trials) + RESPONSE_S
    is_between &= times <= max(trial.onset + trial.duration for trial in trials)
    matrix, n_types = design.matrix[is_between], len(design.conditions)
    if not pauses or len(matrix) <= matrix.shape[1]:
        return ()
    is_in_pauses = np.array([name in pauses for name in design.conditions])
    sums = matrix[:, :n_types] @ np.column_stack([is_in_pauses, ~is_in_pauses])
    others = matrix[:, n_types:]
    sums = sums - others @ np.linalg.lstsq(others, sums, rcond=None)[0]
    (energy, product), (_, other_energy) = sums.T @ sums
    limit = math.sqrt((1 - 1 / NOTED_INFLATION) * energy * other_energy)
    return pauses if product < -max(limit, _LEAST_ENERGY) else ()


def is_precise(design: Design, n_removed: int) -> bool:
    """Return whether no contrast loses precision, even if more volumes at the start are removed.

    `n_removed` is the largest number of these volumes.
    """
    if not design.conditions:
        return True
    matrix = design.matrix[n_removed:]
    if len(matrix) <= matrix.shape[1]:
        return False
    for rows in (design.matrix, matrix):
        information = measure_information(rows, design.conditions, {})
        if not information.eigenvalues.min() * NOTED_INFLATION > 1 or information.faint_types():
            return False
    return True


def imprecise_contrasts(contrasts: Contrasts, information: TypeInformation) -> dict[str, float]:
    """Return the factor by which standard errors exceed those with rest after each event.

    Keys are the names of estimable contrasts with a factor that is worth a note.
    """
    inflations = {name: information.inflation(weights) for name, weights in contrasts.items()}
    return {
        name: math.sqrt(inflation)
        for name, inflation in inflations.items()
        if NOTED_INFLATION < inflation < math.inf
    }


def inestimable_contrasts(contrasts: Contrasts, information: TypeInformation) -> tuple[str, ...]:
    """Return the names of contrasts that cannot be estimated, or only with a huge variance."""
    return tuple(
        name
        for name, weights in contrasts.items()
        if not information.inflation(weights) <= LARGEST_INFLATION
    )
