"""Registry of statistics in the metrics tables: unit, description and direction of merit.

To add a statistic, write an entry in ``boilerplate/statistics.json``, and add its values as
`bids_sr.engine.metric_rows.MetricRow` in the function that computes it. Sidecars, group statistics
and tables of structural scans then include it. Tables of a BOLD run list their statistics in
`bids_sr.report.metric_tables`.
"""

from __future__ import annotations

from typing import Literal

from bids_sr.boilerplate import data_of
from bids_sr.io.frozen import frozen
from bids_sr.io.metric_flags import FLAGS

_Better = Literal["higher", "lower", "near 1", "neither"]
HIGHER, LOWER, ONE, NEITHER = _Better.__args__  # type: ignore[attr-defined]
STATISTICS: dict[str, _Statistic] = {}


@frozen
class _Statistic:
    """Description of a statistic in the metrics tables.

    The `unit` is "1" for dimensionless values, and "signal" for the unit of the series.
    `description` is for the sidecar. `better` is the direction of merit: NEITHER if a difference
    is not a merit by itself (a smaller region can be a smaller part of the true region), None if
    groups do not compare the statistic (coordinates, counts, thresholds). `label` is the short
    name in tables of the report, which only contain statistics with a label.
    """

    unit: str
    description: str
    better: _Better | None = None
    label: str = ""


def register(
    name: str, unit: str, description: str, better: _Better | None = None, *, label: str = ""
) -> None:
    """Add a statistic.

    `unit` is ``1`` for pure numbers and ``signal`` for the unit of the series. `description` is
    written to the sidecar. `better` is the direction of merit; None if groups do not compare the
    statistic. `label` is the short name in tables of the report; if "", the tables do not contain
    the statistic. Raises `ValueError` if the name is already registered.
    """
    if name in STATISTICS:
        raise ValueError(f"the statistic {name!r} is declared twice")
    STATISTICS[name] = _Statistic(unit=unit, description=description, better=better, label=label)


for _name, _fields in data_of("statistics.json").items():
    register(_name, **_fields)
for _name, _flag in FLAGS.items():
    register(f"flag_{_name}", "1", f"1 if {_flag.rule}, otherwise 0")


def statistic(name: str) -> _Statistic:
    """Return a registered statistic, or raise KeyError if its name is unknown.

    >>> statistic("volume").unit
    'mm^3'
    """
    if name not in STATISTICS:
        raise KeyError(f"unknown statistic {name!r}")
    return STATISTICS[name]
