"""Evidence on the accuracy of a run's series, and claims that it supports.

A claim is about one series: that it shows true detail (*function*), or that its volumes are more
accurate (*image*). Each claim rests on the strongest reference that has values of the series.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from bids_sr.engine.metric_rows import MISSING, MetricRow
from bids_sr.io.contrast_names import rank_contrast
from bids_sr.io.frozen import frozen
from bids_sr.io.series import BASELINES, CONTROLS

Decision = Literal["better", "same", "worse", "unclear"]
"""Status of a comparison of series."""
RunStatus = Literal["measured", "tested", "no detail", "not applied", "nothing compared"]
"""Status of a run: its detail was measured or tested, or the reason for the lack of detail."""
AccuracyKind = Literal["function", "image"]
"""Subject of a claim."""
WORTH: Mapping[Decision, float] = {"better": 1.0, "same": 0.0, "worse": -1.0, "unclear": math.nan}
"""Decisions as numbers in the table."""
MARGIN_SHARE = 0.1
"""Equivalence margin as a fraction of the gap between the `bspline` and `measured` series."""
APPLIED = "verdict_applied"
"""Statistic of rows that record whether a method was applied (1) or zero filled (0)."""
_ACTIVE = "active"
"""Region of truly active voxels; regions above a measured |t| have a number after this name."""
_MAIN_TENTHS = 40  # ten times the preferred |t| threshold of active voxels
ACQUIRED_ACTIVE = "acquired40"
"""Region of voxels active in the acquired run, |t| > 4, on the high-resolution grid."""
_BANDS: Mapping[AccuracyKind, str] = {"function": "beyond", "image": MISSING}


def is_below_zero(row: MetricRow) -> bool:
    """Return whether an explained fraction is below 0, including its interval if there is one.

    NaN is not below 0.
    """
    return row.upper < 0 if math.isfinite(row.upper) else row.value < 0


@frozen
class Comparison:
    """Difference between two series, and whether the first is better.

    `decision` is "better", "same", "worse" or "unclear".
    """

    row: MetricRow
    decision: Decision


@frozen
class _ReferenceKind:
    """Reference that series are compared with, and the statistic of the comparison."""

    name: str  # as in the column `reference`
    words: str
    statistic: str = "ev"


HALVES = _ReferenceKind(name="measured", words="the same run measured at the high resolution")
KNOWN = _ReferenceKind(name="truth", words="known activation")
MAPS = _ReferenceKind(
    name="measuredMap",
    words="maps of the same run measured at the high resolution",
    statistic="r",
)
STRONGEST: Mapping[AccuracyKind, tuple[_ReferenceKind, ...]] = {
    "function": (HALVES, KNOWN, MAPS),
    "image": (
        _ReferenceKind(name="measured", words="the measured volumes", statistic="psnr"),
        _ReferenceKind(name="heldOut", words="a held-out pair", statistic="psnr"),
    ),
}
"""References that can support a claim, the strongest first."""


@frozen
class Evidence:
    """Agreement of all series with one reference, for one contrast at the smallest smoothing.

    `band` is ``beyond`` for effects above the acquired Nyquist frequency, or ``n/a`` for images.
    `rows` are keyed by (statistic, series, minus, region). `no_detail` is True if the measured
    reference has no reproducible detail, so that accuracy is unknown.
    """

    reference: _ReferenceKind
    band: str
    contrast: str
    fwhm_mm: float
    regions: tuple[str, ...]
    rows: Mapping[tuple[str, str, str, str], MetricRow]
    no_detail: bool = False

    @property
    def brain(self) -> str:
        """Deciding region: the brain or, if the reference has no detail there, active voxels."""
        return self.regions[-1]

    def row(
        self, series: str, region: str = "", minus: str = MISSING, statistic: str = ""
    ) -> MetricRow | None:
        """Return the row of a series, or of a difference between two series.

        If the table contains only the reversed difference, its sign is changed. None is returned
        if the table contains neither. `region` is "" for the first region, and `statistic` is ""
        for the statistic of the reference. `minus` is the series that is subtracted; ``n/a`` for
        the series itself.
        """
        statistic = statistic or self.reference.statistic
        region = region or self.regions[0]
        row = self.rows.get((statistic, series, minus, region))
        reversed_row = self.rows.get((statistic, minus, series, region))
        if row is not None or reversed_row is None:
            return row
        return replace(
            reversed_row,
            series=series,
            minus=minus,
            value=-reversed_row.value,
            lower=-reversed_row.upper,
            upper=-reversed_row.lower,
        )

    def value(self, series: str, region: str = "", statistic: str = "") -> float:
        """Return the value of a series, see `row`; NaN if it is missing."""
        row = self.row(series, region, statistic=statistic)
        return math.nan if row is None else row.value

    def select_finite_rows(self, series: str) -> dict[str, MetricRow]:
        """Return the rows of a series with finite values, by region."""
        rows = {region: self.row(series, region) for region in self.regions}
        return {name: row for name, row in rows.items() if row and math.isfinite(row.value)}

    def levels(self) -> list[MetricRow]:
        """Return the values of series, without differences, in the statistic of the reference."""
        return [row for row in self._main_rows() if row.minus == MISSING]

    def series(self) -> list[str]:
        """Return the names of all series in the rows, including subtracted series."""
        series_names = [name for _, series, minus, _ in self.rows for name in (series, minus)]
        return [name for name in dict.fromkeys(series_names) if name != MISSING]

    def has_values(self, series: Sequence[str]) -> bool:
        """Return True if any of the series has a finite value in the reference's statistic."""
        return any(row.series in series and math.isfinite(row.value) for row in self._main_rows())

    def has_intervals(self) -> bool:
        """Return True if any difference has an interval."""
        return any(row.minus != MISSING and math.isfinite(row.lower) for row in self._main_rows())

    def _main_rows(self) -> list[MetricRow]:
        """Return the rows of the reference's statistic."""
        return [row for row in self.rows.values() if row.statistic == self.reference.statistic]

    def margin(self, region: str) -> float:
        """Return the equivalence margin: a tenth of the gap between bspline and measured.

        The margin is in the unit of the statistic; NaN if either value is missing or if there is
        no gap. `region` is "" for the first region.
        """
        gap = self.value("measured", region) - self.value("bspline", region)
        return MARGIN_SHARE * gap if gap > 0 else math.nan

    def compare(
        self, series: str, other_series: str, region: str = "", margin: float = math.nan
    ) -> Comparison:
        """Compare one series with another series.

        If the rows do not contain the difference, it is computed from both values and is
        undecided, because it has no interval. `region` is "" for the first region.
        """
        row = self.row(series, region, other_series)
        if row is None:
            row = MetricRow(
                series=series,
                minus=other_series,
                statistic=self.reference.statistic,
                band=self.band,
                reference=self.reference.name,
                contrast=self.contrast,
                region=region or self.regions[0],
                value=self.value(series, region) - self.value(other_series, region),
            )
        return Comparison(row=row, decision=_decide(row.lower, row.upper, margin))


def _decide(lower: float, upper: float, margin: float = math.nan) -> Decision:
    """Return the decision that the 95 % interval of a difference supports; larger is better.

    The decision is ``same`` if the interval lies within ± margin, even if it excludes 0; otherwise
    ``better`` or ``worse`` if the interval excludes 0; otherwise ``unclear``. `lower` and `upper`
    are NaN if there is no interval, and `margin`, the equivalence margin, is NaN if it is unknown.
    """
    if not (math.isfinite(lower) and math.isfinite(upper)):
        return "unclear"
    if -margin <= lower and upper <= margin:  # False if the margin is NaN
        return "same"
    if lower > 0:
        return "better"
    return "worse" if upper < 0 else "unclear"


def find_strongest_baseline(evidence: Evidence) -> MetricRow | None:
    """Return the value of the most accurate baseline or denoised series in the first region.

    None is returned if no baseline has a finite value.
    """
    rows = [
        row
        for row in evidence.levels()
        if (row.series in BASELINES or row.series in CONTROLS)
        and row.region == evidence.regions[0]
        and math.isfinite(row.value)
    ]
    return max(rows, key=lambda row: row.value, default=None)


def find_strongest(
    kind: AccuracyKind, rows: Sequence[MetricRow], series: Sequence[str]
) -> Evidence | None:
    """Return the evidence from the strongest available reference; None if there is no reference.

    For claims of function, evidence with intervals is preferred. A measured reference whose halves
    share no detail has no values. Maps of this reference are then not used either, because their
    detail is noise (`Evidence.no_detail`).
    """
    candidates = [
        evidence
        for reference in STRONGEST[kind]
        if (evidence := _gather_evidence(kind, reference, rows, series)) is not None
    ]
    if not candidates:
        return None
    with_values = [evidence for evidence in candidates if evidence.has_values(series)]
    if kind != "function":
        return next(iter([*with_values, *candidates]))
    is_noisy = any(
        evidence.reference == HALVES for evidence in candidates if not evidence.has_values(series)
    )
    usable = [
        evidence for evidence in with_values if not (is_noisy and evidence.reference == MAPS)
    ]
    with_intervals = [evidence for evidence in usable if evidence.has_intervals()]
    strongest = next(iter([*with_intervals, *usable, *candidates]))
    return replace(strongest, no_detail=is_noisy and strongest.reference != KNOWN)


def _gather_evidence(
    kind: AccuracyKind, reference: _ReferenceKind, rows: Iterable[MetricRow], series: Sequence[str]
) -> Evidence | None:
    """Gather the evidence on some series from one reference; None if no row is about them.

    The contrast is ``all`` (every condition against rest) if it exists, or ``all`` without some
    conditions, else the first contrast with values of these series. The smoothing is the smallest
    of this contrast, and only regions with values are included.
    """
    candidates = [
        row for row in rows if row.reference == reference.name and row.band == _BANDS[kind]
    ]
    rows_of_statistic = [row for row in candidates if row.statistic == reference.statistic]
    series_rows = [row for row in rows_of_statistic if row.series in series]
    if not series_rows:
        return None
    contrast_order = list(dict.fromkeys(row.contrast for row in rows_of_statistic))
    contrasts = {row.contrast for row in _prefer_finite(series_rows)}
    contrast = min(contrasts, key=lambda name: (rank_contrast(name), contrast_order.index(name)))
    contrast_rows = [row for row in rows_of_statistic if row.contrast == contrast]
    fwhm_mm = min(row.fwhm_mm for row in contrast_rows)
    main_rows = [row for row in contrast_rows if row.fwhm_mm == fwhm_mm]
    return Evidence(
        reference=reference,
        band=_BANDS[kind],
        contrast=contrast,
        fwhm_mm=fwhm_mm,
        regions=main_regions(row.region for row in _prefer_finite(main_rows)),
        rows={
            (row.statistic, row.series, row.minus, row.region): row
            for row in candidates
            if (row.contrast, row.fwhm_mm) == (contrast, fwhm_mm)
        },
    )


def _prefer_finite(rows: Sequence[MetricRow]) -> Sequence[MetricRow]:
    """Return the rows with finite values, or all rows if there are none."""
    return [row for row in rows if math.isfinite(row.value)] or rows


def main_regions(regions: Iterable[str]) -> tuple[str, ...]:
    """Return the region of active voxels and the brain, whichever are available.

    Truly active voxels are preferred, then voxels active in the acquired run, then voxels with a
    measured |t| above the threshold closest to 4. Active voxels come first because most of the
    brain contains only noise. If neither is available, the first region is returned.

    >>> main_regions(["brain", "roi", "active25", "active50"]), main_regions(["roi"])
    (('active50', 'brain'), ('roi',))
    >>> main_regions(["brain", "active40", "acquired40"])
    ('acquired40', 'brain')
    """
    available = list(dict.fromkeys(regions))
    active_regions = [
        *(name for name in (_ACTIVE, ACQUIRED_ACTIVE) if name in available),
        *sorted(
            filter(parse_tenths, available),
            key=lambda name: abs(parse_tenths(name) - _MAIN_TENTHS),
        ),
    ]
    brain = [name for name in available if name == "brain"]
    return tuple([*active_regions[:1], *brain] or available[:1])


def parse_tenths(region: str) -> int:
    """Return ten times the |t| threshold of an active region; 0 for other regions.

    >>> parse_tenths("active40"), parse_tenths("active"), parse_tenths("brain")
    (40, 0, 0)
    """
    prefix, tenths = region[: len(_ACTIVE)], region[len(_ACTIVE) :]
    return int(tenths) if prefix == _ACTIVE and tenths.isdigit() else 0


@frozen
class Claim:
    """Claim about one series, and the decision that the evidence supports.

    `decision` is "better" if the claim holds, and None if it could not be decided.
    """

    kind: AccuracyKind
    series: str
    decision: Decision | None
    comparisons: tuple[Comparison, ...] = ()

    @property
    def holds(self) -> bool | None:
        """Whether the claim holds; None if it could not be decided."""
        return None if self.decision is None else self.decision == "better"


def list_series(claims: Iterable[Claim], kind: AccuracyKind, *, holds: bool | None) -> list[str]:
    """Return the series whose claim holds (True), does not hold (False) or is undecided (None)."""
    return [claim.series for claim in claims if claim.kind == kind and claim.holds is holds]


def select_compared_rows(rows: Iterable[MetricRow], not_applied: Sequence[str]) -> list[MetricRow]:
    """Remove differences from rows if either series is from a method that was not applied.

    `not_applied` are the names of these methods.
    """
    return [
        row for row in rows if row.minus == MISSING or not {row.series, row.minus} & {*not_applied}
    ]


def select_applied(rows: Iterable[MetricRow], *, applied: bool = True) -> list[str]:
    """Return the methods that were applied or, with ``applied=False``, were not applied.

    `rows` are rows of the evaluation, including the verdict.
    """
    return [row.series for row in rows if row.statistic == APPLIED and (row.value > 0) == applied]
