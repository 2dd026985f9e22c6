"""Registry of statistics in the metrics tables: unit, description and direction of merit.

To add one: an entry in ``boilerplate/statistics.json``, and rows with its values by the function
that computes it (`bids_sr.metrics.rows.MetricRow`). Sidecars, group statistics and tables of the
report follow.
"""

from __future__ import annotations

from typing import Literal

from bids_sr.boilerplate import data_of
from bids_sr.frozen import frozen
from bids_sr.metrics.flags import FLAGS

_Better = Literal["higher", "lower", "near 1", "neither"]
HIGHER, LOWER, ONE, NEITHER = _Better.__args__  # type: ignore[attr-defined]


@frozen
class _Statistic:
    """What the value of a row is."""

    unit: str  # 1 for a pure number, signal for the unit of the series
    description: str  # for the sidecar
    # direction of merit; NEITHER: a difference is no merit by itself (a smaller region can be a
    # smaller piece of the truth); None: the group does not compare it (places, counts, thresholds)
    better: _Better | None = None
    label: str = ""  # in a few words, for tables of the report, which show those that have one


STATISTICS: dict[str, _Statistic] = {}


def register(
    name: str, unit: str, description: str, better: _Better | None = None, *, label: str = ""
) -> None:
    """Add a statistic; ValueError where the name is taken.

    `unit`: unit of its values; ``1`` for pure numbers, ``signal`` for the series' unit. `better`:
    direction of merit; None where groups do not compare it. `label`: few words for tables of the
    report; empty: it is not shown there.
    """
    if name in STATISTICS:
        raise ValueError(f"the statistic {name!r} is declared twice")
    STATISTICS[name] = _Statistic(unit=unit, description=description, better=better, label=label)


def statistic(name: str) -> _Statistic:
    """Unit, description, direction of merit and label of a statistic; KeyError where undeclared.

    >>> statistic("volume").unit
    'mm^3'
    """
    if name not in STATISTICS:
        raise KeyError(f"unknown statistic {name!r}")
    return STATISTICS[name]


for _name, _about in data_of("statistics.json").items():
    register(_name, **_about)
for _name, _flag in FLAGS.items():
    register(f"flag_{_name}", "1", f"1 if {_flag.rule}, otherwise 0")
