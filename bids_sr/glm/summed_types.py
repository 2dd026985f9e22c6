"""Trial types that list the events of several other types again, such as ``trial`` for all trials.

The response to such a type is the sum of the responses to the other types. Its regressor therefore
adds nothing to the model, and none of the responses could be estimated beside it.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from bids_sr.glm.contrasts import order_types
from bids_sr.io.arrays import Float

_MS_PER_S = 1000  # times of events are compared in whole milliseconds
_MIN_TYPES, _MAX_TYPES = 3, 40  # with more types, the search would take longer than the model

TimedEvent = tuple[float, float, str]
"""Onset and duration (s), and trial type of an event."""


def find_summed_types(events: Sequence[TimedEvent]) -> dict[str, tuple[str, ...]]:
    """Return the trial types that list all events of two or more other types again.

    Two types with the same events are not included, because neither is the sum of the other.
    Events must not be repeated. Returns the types that make up the sum, by the name of the summed
    type.

    >>> events = [(0.0, 2.0, "left"), (9.0, 2.0, "right"), (0.0, 2.0, "key"), (9.0, 2.0, "key")]
    >>> find_summed_types(events)
    {'key': ('left', 'right')}
    """
    type_names = order_types(name for _, _, name in events)
    if not _MIN_TYPES <= len(type_names) <= _MAX_TYPES:
        return {}
    occupancies = dict(zip(type_names, _compute_occupancies(events, type_names), strict=True))
    totals = {name: float(occupancy.sum()) for name, occupancy in occupancies.items()}
    summed = {}
    for name in type_names:
        smaller_types = [other for other in type_names if totals[other] < totals[name]]
        ascending = sorted(smaller_types, key=totals.__getitem__)
        descending = sorted(smaller_types, key=totals.__getitem__, reverse=True)
        summands = _find_summands(name, ascending, occupancies) or _find_summands(
            name, descending, occupancies
        )
        if summands:
            summed[name] = tuple(summand for summand in type_names if summand in summands)
    return summed


def _compute_occupancies(events: Sequence[TimedEvent], names: Sequence[str]) -> Float:
    """Return the times that events of each type occupy, (types, intervals + brief events).

    Intervals are between any two consecutive onsets or ends. A value is the duration of the
    interval (ms) times the number of events that last throughout; events without duration have
    values of their own.
    """
    times = np.array([(onset, onset + duration) for onset, duration, _ in events])
    times_ms = np.rint(times * _MS_PER_S).astype(np.int64)
    edges = np.unique(times_ms)
    changes = np.zeros((len(names), len(edges)))
    brief_events = np.zeros((len(names), len(edges)))
    rows = [names.index(name) for _, _, name in events]
    starts, ends = np.searchsorted(edges, times_ms.T)
    is_brief = starts == ends
    np.add.at(brief_events, (rows, starts), is_brief)
    np.add.at(changes, (rows, starts), ~is_brief)
    np.add.at(changes, (rows, ends), -(~is_brief).astype(float))
    durations = np.cumsum(changes, axis=1)[:, :-1] * np.diff(edges)
    return np.column_stack([durations, brief_events])


def _find_summands(
    name: str, candidates: Sequence[str], occupancies: Mapping[str, Float]
) -> list[str]:
    """Return two or more types whose events together are the events of a type.

    Each of the candidates is added, in their order, if all of its events are among the events of
    the type that other types do not explain. The list is empty if events of the type remain.
    """
    remainder, summands = occupancies[name].copy(), []
    for candidate in candidates:
        if (occupancies[candidate] <= remainder).all():
            remainder -= occupancies[candidate]
            summands.append(candidate)
    return summands if len(summands) > 1 and not remainder.any() else []
