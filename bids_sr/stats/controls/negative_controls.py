"""What is owed to the subject's own pair: placebos of each method, and the gains that remain beside them.

A placebo is the method itself with one thing exchanged that the method claims to use: the model of this subject, the
contrast it learned from, or the map of where the run fluctuates. Detail that a placebo reproduces is owed to none of
these. Whether such detail is true is another question, which only a truth answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from bids_sr.metrics.long_tables import MetricRow
from bids_sr.series import series_name
from bids_sr.sr.method import all_methods

_WEAK = "gain_self_r_beyond"
MEASURES = ("gain_split_ev_beyond", "gain_truth_ev_beyond", _WEAK)
"""Differences that can carry the claim, the stronger first: measured data, known activation, the series itself."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Placebo:
    """One placebo series.

    Attributes
    ----------
    name : of the series
    method : whose placebo it is
    kind : "model" (another model), "contrast" (another contrast) or "map" (another variance map)
    instead : what takes the place of the subject's own, in words
    owed : what a gain over it is owed to, in words
    """

    name: str
    method: str
    kind: str
    instead: str
    owed: str


PLACEBOS: Mapping[str, Placebo] = {
    series_name(method.name, each.suffix): Placebo(
        name=series_name(method.name, each.suffix), method=series_name(method.name), kind=each.kind,
        instead=each.instead, owed=each.owed,
    )
    for method in all_methods()
    for each in method.placebos
}  # fmt: skip


def placebos_of(method: str) -> tuple[str, ...]:
    """Names of the placebo series of a method, in the order of the table."""
    return tuple(name for name, placebo in PLACEBOS.items() if placebo.method == method)


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """One method beside one placebo.

    Attributes
    ----------
    method, placebo : series
    measure, contrast, region, fwhm_mm : which figure
    gain, lower, upper : own less placebo, with its 95 % interval
    holds : the interval lies above 0
    words : for the report
    """

    method: str
    placebo: str
    measure: str
    contrast: str
    region: str
    fwhm_mm: float
    gain: float
    lower: float
    upper: float
    holds: bool
    words: str


def claims(rows: Iterable[MetricRow]) -> list[Claim]:
    """Every gain of a method over one of its placebos.

    Parameters
    ----------
    rows : of the evaluation; `gain_split_ev_beyond` is taken where the table has it for a method, as it rests on
        measured data, else `gain_truth_ev_beyond` (known activation), else `gain_self_r_beyond`
    """
    found = [
        row for row in rows
        if row.measure in MEASURES and row.against in PLACEBOS and PLACEBOS[row.against].method == row.series
    ]  # fmt: skip
    best = {row.series: min(MEASURES.index(r.measure) for r in found if r.series == row.series) for row in found}
    return [_claim(row) for row in found if row.measure == MEASURES[best[row.series]]]


def _claim(row: MetricRow) -> Claim:
    placebo = PLACEBOS[row.against]
    band = f"{row.value:+.3f} (95 % interval {row.lower:.3f} to {row.upper:.3f})"
    if row.lower > 0:
        words = f"{row.series} is better than the same method with {placebo.instead}: {band}; this part is owed to "
        words += f"{placebo.owed}."
    elif row.upper < 0:
        words = f"{row.series} is worse than the same method with {placebo.instead}: {band}."
    elif row.lower <= 0 <= row.upper:
        words = f"{row.series} and the same method with {placebo.instead} cannot be told apart: {band}; nothing of its "
        words += f"gain is shown to be owed to {placebo.owed}."
    else:
        words = f"{row.series} beside the same method with {placebo.instead}: no interval could be had."
    return Claim(
        method=row.series, placebo=row.against, measure=row.measure, contrast=row.contrast, region=row.region,
        fwhm_mm=row.fwhm_mm, gain=row.value, lower=row.lower, upper=row.upper, holds=row.lower > 0, words=words,
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Specific:
    """Whether a method's gain may be called specific to the subject.

    Attributes
    ----------
    method, measure, contrast, region, fwhm_mm : which figure
    holds : own less placebo lies above 0 for every placebo there is
    beside : the placebos there are
    absent : those of the method that the run had not
    words : for the report
    """

    method: str
    measure: str
    contrast: str
    region: str
    fwhm_mm: float
    holds: bool
    beside: tuple[str, ...]
    absent: tuple[str, ...]
    words: str


def _figure(claim: Claim) -> tuple[str, str, str, str, float]:
    return claim.method, claim.measure, claim.contrast, claim.region, claim.fwhm_mm


def subject_specific(found: Sequence[Claim]) -> list[Specific]:
    """One verdict for every method and figure: subject-specific only where each placebo there is was beaten."""
    out = []
    for key, group in groupby(sorted(found, key=_figure), key=_figure):
        members = list(group)
        beaten = [claim.placebo for claim in members if claim.holds]
        failed = [claim.placebo for claim in members if not claim.holds]
        beside = tuple(claim.placebo for claim in members)
        absent = tuple(name for name in placebos_of(key[0]) if name not in beside)
        if failed:
            words = f"The gain of {key[0]} may not be called specific to this subject: it does not exceed that of "
            words += f"{', '.join(failed)}."
        else:
            words = f"The gain of {key[0]} is specific to this subject: it exceeds that of {', '.join(beaten)}."
        if absent:
            words += f" Not tried: {', '.join(absent)}."
        if key[1] == _WEAK:
            words += " This is reproducibility within the series, not agreement with measured data."
        out.append(
            Specific(
                method=key[0], measure=key[1], contrast=key[2], region=key[3], fwhm_mm=key[4], holds=not failed,
                beside=beside, absent=absent, words=words,
            )
        )  # fmt: skip
    return out
