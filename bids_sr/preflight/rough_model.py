"""Approximate model of a run, sufficient to decide quickly that most models are estimable.

The exact model is computed by nilearn, whose import takes longer than all other checks of a data
set.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from bids_sr.glm.contrasts import MODULATION
from bids_sr.io.arrays import Float

if TYPE_CHECKING:
    from bids_sr.glm.design import DesignSettings
    from bids_sr.glm.hemodynamic_response import HemodynamicResponse
    from bids_sr.glm.regressors import Events

_MIN_DURATION_S = 0.5  # nilearn may sample shorter events too weakly
# smallest singular value of columns scaled to length one: no column is close to a mixture of
# others
_MIN_SINGULAR_VALUE = 0.05
_MIN_RANGE = 0.05  # smallest range of a response during the run, relative to its plateau
_SAFETY_FACTOR = 1.3  # of limits in the approximate model


def approximate_responses(
    events: "Events", times: Float, hrf: "HemodynamicResponse"
) -> dict[str, Float]:
    """Return the response to each condition and its derivatives, integrated in closed form.

    `times` of the volumes are in s. The columns (T, columns) by condition are within about .01 of
    `Events.responses` for sustained blocks, after removal of the main column.
    """
    modulations = events.modulations()
    return {
        name: _compute_columns(spans, times, hrf, modulations[name])
        for name, spans in events.spans().items()
    }


def is_clearly_informative(
    events: "Events", times: Float, end: float, tr: float, model: "DesignSettings"
) -> bool:
    """Return whether the approximate model shows that no default contrast must be left out.

    All contrasts can then be estimated. If False, the exact model decides. It is False for
    conditions whose events are outside the run, resemble each other, are brief or differ in
    amplitude, and for few volumes.

    `times` are the times of the volumes without dummies (s), `end` is the end of the run (s).
    """
    if MODULATION in events.table:
        return False
    spans = events.spans()
    matrix = _build_approximate_matrix(spans, times, tr, model)
    if matrix is None or not _are_separable(matrix):
        return False
    from bids_sr.glm.type_information import (
        LARGEST_INFLATION,
        LARGEST_RATIO,
        LEAST_SHARE,
        measure_information,
        spans_near_run,
        times_outside_run,
    )

    outside = times_outside_run(float(times[0]), end, tr)
    energy = {
        name: float((_compute_columns(nearby_spans, outside, model.hrf.main) ** 2).sum())
        for name, nearby_spans in spans_near_run(spans, end).items()
        if nearby_spans
    }
    names = tuple(spans)
    if energy.keys() != spans.keys():
        return False
    information = measure_information(matrix, names, energy)
    inflations = (information.inflation({name: 1.0}) for name in names)
    return not (
        max(inflations) > LARGEST_INFLATION / _SAFETY_FACTOR**2
        or information.faint_types(_SAFETY_FACTOR * LEAST_SHARE)
        or information.dominating_types(names, LARGEST_RATIO / _SAFETY_FACTOR)
    )


def _build_approximate_matrix(
    spans: Mapping[str, Sequence[tuple[float, float]]],
    times: Float,
    tr: float,
    model: "DesignSettings",
) -> Float | None:
    """Return conditions, derivatives, drift and mean (rows, columns).

    None if the approximation may be poor.
    """
    if any(duration < _MIN_DURATION_S for events in spans.values() for _, duration in events):
        return None
    columns = np.stack([_compute_columns(events, times, model.hrf) for events in spans.values()])
    responses, derivatives = columns[:, :, 0], np.concatenate(columns[:, :, 1:], axis=1)
    volumes = np.arange(len(times)) + 0.5
    waves = np.arange(int(2 * len(times) * tr * model.high_pass) + 2)
    drift = np.cos(np.pi * np.outer(volumes, waves) / len(times))
    matrix = np.column_stack([responses.T, derivatives, drift])
    if matrix.shape[1] >= len(times) or (np.ptp(responses, axis=1) < _MIN_RANGE).any():
        return None
    return matrix


def _compute_columns(
    spans: Sequence[tuple[float, float]],
    times: Float,
    hrf: "HemodynamicResponse",
    modulations: Float | None = None,
) -> Float:
    """Return the response to events and its derivatives at `times` (T,), as (T, columns).

    `spans` are onsets and durations (s), and `modulations` the amplitudes of the events; None if
    all are 1.
    """
    onsets, durations = np.array(spans).T
    seconds_after_onset = times[:, None] - onsets
    since_end = seconds_after_onset - np.maximum(durations, _MIN_DURATION_S)
    shares = hrf.integrate(seconds_after_onset) - hrf.integrate(since_end)
    return np.asarray(shares.sum(axis=2) if modulations is None else shares @ modulations).T


def _are_separable(matrix: Float) -> bool:
    """Return whether no column of a matrix (rows, columns) is close to a mixture of others."""
    unit_columns = matrix / np.linalg.norm(matrix, axis=0)
    singular_values = np.linalg.svd(unit_columns, compute_uv=False)
    return bool(singular_values[-1] > _MIN_SINGULAR_VALUE)
