"""Nearly the model of a run: enough to see at once that it can be estimated.

The model itself is nilearn's, whose import takes longer than all other checks of a data set.
"""

from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np

from bids_sr.io.arrays import Float

if TYPE_CHECKING:
    from bids_sr.glm.regressors import Events

_BRIEF_S = 0.5  # shorter events may be too weak for nilearn's sampling of them
_APART = 0.05  # least singular value of columns of length one: none is near a mix of others


def rough_courses(events: "Events", times: Float) -> dict[str, Float]:
    """Return the response of SPM to each condition, its integral in closed form.

    `times`: times of the volumes (s). Returns time series (T,) by condition, within about .01 of
    `Events.courses` for sustained blocks.
    """
    courses = {}
    spans = events.spans()
    for name in events.conditions:
        onsets, durations = np.array(spans[name]).T
        since = times[:, None] - onsets
        until = since - np.maximum(durations, _BRIEF_S)
        courses[name] = (_reached(since) - _reached(until)).sum(axis=1)
    return courses


def surely_estimable(
    events: "Events", conditions: Collection[str], times: Float, tr: float, high_pass: float
) -> bool:
    """Return whether a look at the rough model suffices; else ask nilearn's.

    `times`: times of the volumes that count (s). Returns False where conditions lack events or are
    alike, events are brief, or volumes are few.
    """
    courses = rough_courses(events, times)
    if not courses.keys() >= set(conditions) or (events.table["duration"] < _BRIEF_S).any():
        return False
    volumes = np.arange(len(times)) + 0.5
    waves = np.arange(int(2 * len(times) * tr * high_pass) + 2)
    drift = np.cos(np.pi * np.outer(volumes, waves) / len(times))
    matrix = np.column_stack([*courses.values(), drift])
    if matrix.shape[1] >= len(times) or any(np.ptp(each) < _APART for each in courses.values()):
        return False
    singular = np.linalg.svd(matrix / np.linalg.norm(matrix, axis=0), compute_uv=False)
    return bool(singular[-1] > _APART)


def _reached(since: Float) -> Float:
    """Share of its plateau that the response to a block has reached so many seconds later."""
    from scipy.special import gammainc

    after = np.maximum(since, 0.0)
    return np.asarray((gammainc(6, after) - gammainc(16, after) / 6) / (1 - 1 / 6))
