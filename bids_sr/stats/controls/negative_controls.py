"""Placebos of each method as negative controls: what of a gain is attributable to the subject's own data.

A placebo is the method itself with one thing exchanged that the method claims to use: the model of this subject, the
contrast it learned from, or the map of where the run fluctuates. Detail that a placebo reproduces is attributable to
none of these. Whether such detail is true is another question, which only a truth answers.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from bids_sr.metrics.long_tables import MetricRow
from bids_sr.series import series_name
from bids_sr.sr.method import Placebo, all_methods

MEASURES = ("gain_split_ev_beyond", "gain_truth_ev_beyond")
"""Differences that can carry the claim, the stronger first: from measured data, from known activation."""


PLACEBOS: Mapping[str, Placebo] = {
    series_name(method.name, each.suffix): replace(each, method=series_name(method.name))
    for method in all_methods()
    for each in method.placebos
}
"""Placebos by the names of their series."""


def placebos_of(method: str) -> tuple[str, ...]:
    """Names of the placebo series of a method, in the order of the table."""
    return tuple(name for name, placebo in PLACEBOS.items() if placebo.method == method)


@dataclass(frozen=True, slots=True)
class Claim:
    """The gain of one method over one of its placebos, and the sentence of the report."""

    row: MetricRow
    words: str

    @property
    def holds(self) -> bool:
        """Whether the interval of the gain lies above 0."""
        return self.row.lower > 0


def claims(rows: Iterable[MetricRow]) -> list[Claim]:
    """Every gain of a method over one of its placebos, in the strongest of `MEASURES` that there is for the method."""
    found = [
        row for row in rows
        if row.measure in MEASURES and row.against in PLACEBOS and PLACEBOS[row.against].method == row.series
    ]  # fmt: skip
    best = {row.series: min(MEASURES.index(r.measure) for r in found if r.series == row.series) for row in found}
    return [Claim(row, _claim_text(row)) for row in found if row.measure == MEASURES[best[row.series]]]


def _claim_text(row: MetricRow) -> str:
    placebo = PLACEBOS[row.against]
    other = f"the same method with {placebo.instead}"
    band = f"{row.value:+.3f} (95 % interval {row.lower:.3f} to {row.upper:.3f})"
    if row.lower > 0:
        return f"{row.series} is better than {other}: {band}; this part depends on {placebo.owed}."
    if row.upper < 0:
        return f"{row.series} is worse than {other}: {band}."
    if row.lower <= 0 <= row.upper:
        return (
            f"{row.series} does not differ detectably from {other}: {band}; its gain is not shown to depend on "
            f"{placebo.owed}."
        )
    return f"{row.series} beside {other}: no interval could be had."


@dataclass(frozen=True, slots=True)
class Specific:
    """Whether a method's gain may be called specific to the subject: above 0 for every placebo there is."""

    method: str
    holds: bool
    words: str  # for the report


def _metric_of(claim: Claim) -> tuple[str, str, str, str, float]:
    row = claim.row
    return row.series, row.measure, row.contrast, row.region, row.fwhm_mm


def subject_specific(found: Sequence[Claim]) -> list[Specific]:
    """One verdict for every method and metric: subject-specific only where each placebo there is was beaten."""
    out = []
    for key, group in groupby(sorted(found, key=_metric_of), key=_metric_of):
        members = list(group)
        failed = [claim.row.against for claim in members if not claim.holds]
        beside = tuple(claim.row.against for claim in members)
        absent = tuple(name for name in placebos_of(key[0]) if name not in beside)
        if failed:
            words = f"The gain of {key[0]} may not be called specific to this subject: it does not exceed that of "
            words += f"{', '.join(failed)}."
        else:
            words = f"The gain of {key[0]} is specific to this subject: it exceeds that of {', '.join(beside)}."
        if absent:
            words += f" Not tried: {', '.join(absent)}."
        out.append(Specific(key[0], not failed, words))
    return out
