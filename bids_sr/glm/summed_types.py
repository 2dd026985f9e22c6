"""Trial types that list the events of several other types again, such as ``trial`` for all trials.

The response to such a type is the sum of the responses to the other types. Its regressor therefore
adds nothing to the model, and none of the responses could be estimated beside it.
"""

from collections.abc import Sequence

import numpy as np

from bids_sr.io.arrays import Float

_MS = 1000  # times of events are compared in whole milliseconds
_MOST_TYPES = 40  # the search takes longer than the model for tables with a type per event

TimedEvent = tuple[float, float, str]
"""Onset and duration (s), and trial type of an event."""


def find_summed_types(events: Sequence[TimedEvent]) -> dict[str, tuple[str, ...]]:
    """Return the trial types that list all events of two or more other types again.

    Two types with the same events are not included, because neither is the sum of the other.

    Parameters
    ----------
    events : Sequence[TimedEvent]
        Events without repetitions.

    Returns
    -------
    dict[str, tuple[str, ...]]
        Types that make up the sum, by the name of the summed type.

    Examples
    --------
    >>> events = [(0.0, 2.0, "left"), (9.0, 2.0, "right"), (0.0, 2.0, "key"), (9.0, 2.0, "key")]
    >>> find_summed_types(events)
    {'key': ('left', 'right')}
    """
    names = list(dict.fromkeys(name for _, _, name in events))
    if not 3 <= len(names) <= _MOST_TYPES:
        return {}
    courses = _courses(events, names)
    totals = dict(zip(names, courses.sum(axis=1), strict=True))
    summed = {}
    for index, name in enumerate(names):
        smaller = [other_name for other_name in names if totals[other_name] < totals[name]]
        for order in (False, True):
            rest, summands = courses[index].copy(), []
            for other_name in sorted(smaller, key=totals.__getitem__, reverse=order):
                course = courses[names.index(other_name)]
                if (course <= rest).all():
                    rest -= course
                    summands.append(other_name)
            if len(summands) > 1 and not rest.any():
                summed[name] = tuple(part for part in names if part in summands)
                break
    return summed


def _courses(events: Sequence[TimedEvent], names: Sequence[str]) -> Float:
    """Return the time courses of types, (types, intervals + brief events).

    Intervals are between any two consecutive onsets or ends. A value is the duration of the
    interval (ms) times the number of events that last throughout; events without duration have
    values of their own.
    """
    times = np.array([(onset, onset + duration) for onset, duration, _ in events])
    rounded = np.rint(times * _MS).astype(np.int64)
    edges = np.unique(rounded)
    steps = np.zeros((len(names), len(edges)))
    brief = np.zeros((len(names), len(edges)))
    rows = [names.index(name) for _, _, name in events]
    starts, ends = np.searchsorted(edges, rounded.T)
    is_brief = starts == ends
    np.add.at(brief, (rows, starts), is_brief)
    np.add.at(steps, (rows, starts), ~is_brief)
    np.add.at(steps, (rows, ends), -(~is_brief).astype(float))
    lasting = np.cumsum(steps, axis=1)[:, :-1] * np.diff(edges)
    return np.column_stack([lasting, brief])
