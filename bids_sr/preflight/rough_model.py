"""Approximate model of a run, sufficient to decide quickly that most models are estimable.

The exact model is computed by nilearn, whose import takes longer than all other checks of a data
set.
"""

from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np

from bids_sr.io.arrays import Float

if TYPE_CHECKING:
    from bids_sr.glm.regressors import Events

_BRIEF_S = 0.5  # s; nilearn may sample shorter events too weakly
# smallest singular value of columns scaled to length one: no column is close to a mixture of
# others
_APART = 0.05


def rough_courses(events: "Events", times: Float) -> dict[str, Float]:
    """Return the response of SPM to each condition, integrated in closed form.

    Parameters
    ----------
    times : Float
        Times of the volumes (s).

    Returns
    -------
    dict
        Condition → time series (T,), within about .01 of `Events.courses` for sustained blocks.
    """
    courses = {}
    spans, modulations = events.spans(), events.modulations()
    for name in events.conditions:
        onsets, durations = np.array(spans[name]).T
        since = times[:, None] - onsets
        since_end = since - np.maximum(durations, _BRIEF_S)
        shares = _plateau_share(since) - _plateau_share(since_end)
        courses[name] = shares @ modulations[name]
    return courses


def surely_estimable(
    events: "Events", conditions: Collection[str], times: Float, tr: float, high_pass: float
) -> bool:
    """Return whether the approximate model shows that the exact model is estimable.

    If False, the exact model decides. It is False for conditions that lack events or resemble each
    other, brief events, and few volumes.

    `times` are the times of the volumes without dummies (s).
    """
    courses = rough_courses(events, times)
    if not courses.keys() >= set(conditions) or (events.table["duration"] < _BRIEF_S).any():
        return False
    volumes = np.arange(len(times)) + 0.5
    waves = np.arange(int(2 * len(times) * tr * high_pass) + 2)
    drift = np.cos(np.pi * np.outer(volumes, waves) / len(times))
    matrix = np.column_stack([*courses.values(), drift])
    if matrix.shape[1] >= len(times) or any(
        np.ptp(course) < _APART for course in courses.values()
    ):
        return False
    singular = np.linalg.svd(matrix / np.linalg.norm(matrix, axis=0), compute_uv=False)
    return bool(singular[-1] > _APART)


def _plateau_share(since: Float) -> Float:
    """Return the response to a block `since` seconds after its onset, relative to its plateau."""
    from scipy.special import gammainc

    after = np.maximum(since, 0.0)
    return np.asarray((gammainc(6, after) - gammainc(16, after) / 6) / (1 - 1 / 6))
