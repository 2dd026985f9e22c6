"""What the evaluation of a run holds on its series, and what a difference allows to say.

The strongest reference comes first.

A claim is about one series: that it shows true detail (*function*), more of it than its placebos
(*specific*), or better images (*image*); of a series of another program, that it is more accurate
than the acquired one *within* or *beyond* the acquired Nyquist limit. Each rests on the strongest
reference that has values of the series.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from bids_sr.frozen import frozen
from bids_sr.metrics.rows import MISSING, MetricRow
from bids_sr.series import is_variant_of

Decision = Literal["better", "same", "worse", "unclear"]
Status = Literal[
    "more accurate", "not more accurate", "less accurate", "mixed", "not assessed", "not applied"
]
Kind = Literal["function", "specific", "image", "within", "beyond"]
"""What a claim is about."""
Why = Literal["", "smoothed", "size", "nothing", "no control", "no detail", "contrary"]
"""What keeps a difference from the acquired series from being a gain, or a loss from being false
detail.
"""
WORTH: Mapping[Decision, float] = {"better": 1.0, "same": 0.0, "worse": -1.0, "unclear": math.nan}
"""Decisions in the table."""
# of the gap between bspline and measured: a difference within it counts as none
_MARGIN_SHARE = 0.1
APPLIED = "verdict_applied"
_MAIN_TENTHS = 40
ACQUIRED_ACTIVE = "acquired40"
"""Region of voxels that the acquired run shows active, |t| > 4, on the high-resolution grid."""


@frozen
class _ReferenceKind:
    """What series are held against, and by which statistic."""

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
_OTHER = _ReferenceKind(name="otherRun", words="another acquired run of the task")
STRONGEST: Mapping[Kind, tuple[_ReferenceKind, ...]] = {
    "function": (HALVES, KNOWN, MAPS),
    "image": (
        _ReferenceKind(name="measured", words="the measured volumes", statistic="psnr"),
        _ReferenceKind(name="heldOut", words="a held-out pair", statistic="psnr"),
    ),
    # a program may have carried noise of the measured run from one half of the blocks into the
    # other
    "within": (KNOWN, _OTHER, HALVES),
    "beyond": (KNOWN, HALVES),
}
"""References that can carry a claim, the strongest first."""
_BAND: Mapping[Kind, str] = {
    "function": "beyond",
    "image": MISSING,
    "within": "within",
    "beyond": "beyond",
}


def _decide(lower: float, upper: float, margin: float = math.nan) -> Decision:
    """Return what the interval of a difference (larger is better) allows to say.

    Differences within ± margin count as none.

    ``same`` where the interval lies inside the margin, also where it excludes 0 (a difference that
    does not matter); else ``better`` or ``worse`` where it excludes 0; else ``unclear``. NaN: no
    interval, or a margin that is not known.

    `lower`: lower end of the 95 % interval; NaN without one. `upper`: upper end of the 95 %
    interval; NaN without one.
    """
    if not (math.isfinite(lower) and math.isfinite(upper)):
        return "unclear"
    if -margin <= lower and upper <= margin:  # False for NaN
        return "same"
    if lower > 0:
        return "better"
    return "worse" if upper < 0 else "unclear"


def below_zero(row: MetricRow) -> bool:
    """Whether a share's interval, or its value without one, lies below 0; NaN does not.

    True for harm; without an interval the value decides.
    """
    return row.upper < 0 if math.isfinite(row.upper) else row.value < 0


def tenths_of(region: str) -> int:
    """Ten times the |t| of an active region.

    >>> tenths_of("active40"), tenths_of("active"), tenths_of("brain")
    (40, 0, 0)

    Ten times the threshold of |t|; 0 for other regions.
    """
    name, number = region[:6], region[6:]
    return int(number) if name == "active" and number.isdigit() else 0


def main_regions(regions: Iterable[str]) -> tuple[str, ...]:
    """Return the truly active voxels, else those active in the acquired run, then the brain.

    Where neither is there, those of the measured |t| nearest to 4. Most of the brain holds noise
    alone.

    >>> main_regions(["brain", "roi", "active25", "active50"]), main_regions(["roi"])
    (('active50', 'brain'), ('roi',))
    >>> main_regions(["brain", "active40", "acquired40"])
    ('acquired40', 'brain')
    """
    names = list(dict.fromkeys(regions))
    active = [name for name in ("active", ACQUIRED_ACTIVE) if name in names]
    active += sorted(
        filter(tenths_of, names), key=lambda name: abs(tenths_of(name) - _MAIN_TENTHS)
    )
    return tuple(active[:1] + [name for name in names if name == "brain"]) or tuple(names[:1])


@frozen
class Comparison:
    """A difference between two series, and what it allows to say of the first."""

    row: MetricRow
    decision: Decision


@frozen
class Evidence:
    """Agreement of all series with one reference, for one contrast at the least smoothing.

    `band`: spatial frequencies: ``within`` or ``beyond``; ``n/a`` for images. `no_detail`: whether
    the measured reference has no reproducible detail, so that no accuracy is known.
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
        """Region that decides: the brain, or active voxels where the reference lacks detail."""
        return self.regions[-1]

    def row(
        self, series: str, region: str = "", minus: str = MISSING, statistic: str = ""
    ) -> MetricRow | None:
        """Return a value in a region (default: the first), or a difference.

        The difference is turned where the table has it the other way round.

        `region`: name of the region; empty for the first one. `minus`: name of the series that is
        subtracted; ``n/a`` for none. `statistic`: name of the statistic; empty for that of the
        reference.
        """
        place = statistic or self.reference.statistic, region or self.regions[0]
        measured = self.rows.get((place[0], series, minus, place[1]))
        if (
            measured is None
            and (other := self.rows.get((place[0], minus, series, place[1]))) is not None
        ):
            return replace(
                other,
                series=series,
                minus=minus,
                value=-other.value,
                lower=-other.upper,
                upper=-other.lower,
            )
        return measured

    def value(self, series: str, region: str = "", statistic: str = "") -> float:
        """Return it as `row`, the value alone; NaN where there is none.

        `region`: name of the region; empty for the first one. `statistic`: name of the statistic;
        empty for that of the reference.
        """
        found = self.row(series, region, statistic=statistic)
        return math.nan if found is None else found.value

    def known(self, series: str) -> dict[str, MetricRow]:
        """Return values of a series by region, where it has one.

        Rows with a finite value; empty where there is none.
        """
        rows = {region: self.row(series, region) for region in self.regions}
        return {name: row for name, row in rows.items() if row and math.isfinite(row.value)}

    def levels(self) -> list[MetricRow]:
        """Return values of the series themselves, by its statistic."""
        return [row for row in self._own() if row.minus == MISSING]

    def series(self) -> list[str]:
        """All that occur, as values or subtracted."""
        return list(
            dict.fromkeys(name for _, *both, _ in self.rows for name in both if name != MISSING)
        )

    def defines(self, series: Sequence[str]) -> bool:
        """Whether any of the series has a value by its statistic."""
        return any(row.series in series and math.isfinite(row.value) for row in self._own())

    def is_sure(self) -> bool:
        """Whether any difference has an interval."""
        return any(row.minus != MISSING and math.isfinite(row.lower) for row in self._own())

    def _own(self) -> list[MetricRow]:
        return [row for row in self.rows.values() if row.statistic == self.reference.statistic]

    def margin(self, region: str) -> float:
        """A tenth of the gap between bspline and measured; NaN without either or a gap.

        It is the difference that counts as none, in the unit of the statistic. `region`: empty for
        the first one.
        """
        gap = self.value("measured", region) - self.value("bspline", region)
        return _MARGIN_SHARE * gap if gap > 0 else math.nan

    def compare(
        self, series: str, other: str, region: str = "", margin: float = math.nan
    ) -> Comparison:
        """Compare one series with another one.

        Where the table does not compare them, they are compared by their values, and undecided.

        `region`: name of the region; empty for the first one.
        """
        row = self.row(series, region, other)
        if row is None:
            row = MetricRow(
                series=series,
                minus=other,
                statistic=self.reference.statistic,
                band=self.band,
                reference=self.reference.name,
                contrast=self.contrast,
                region=region or self.regions[0],
                value=self.value(series, region) - self.value(other, region),
            )
        return Comparison(row=row, decision=_decide(row.lower, row.upper, margin))


@frozen
class Claim:
    """What the evidence says of one series.

    `decision`: better: it holds; None: that cannot be said. `evidence`: agreement with the
    reference that it rests on; None for none. `why`: what keeps a difference from counting; empty
    for nothing.
    """

    kind: Kind
    series: str
    decision: Decision | None
    comparisons: tuple[Comparison, ...] = ()
    evidence: Evidence | None = None
    region: str = MISSING
    why: Why = ""

    @property
    def holds(self) -> bool | None:
        """Whether it may be made; None where that cannot be said."""
        return None if self.decision is None else self.decision == "better"

    @property
    def unbeaten(self) -> list[str]:
        """Return series that this one does not exceed."""
        return list(
            dict.fromkeys(each.row.minus for each in self.comparisons if each.decision != "better")
        )


def _gather(
    kind: Kind, reference: _ReferenceKind, rows: Iterable[MetricRow], series: Sequence[str]
) -> Evidence | None:
    """What the rows hold on any of the series against one reference; None where that is nothing.

    The contrast is ``all`` (every condition against rest) where there is one, else the first, of
    those for which any of the series has a value; the smoothing is the least, regions are those
    with a value.
    """
    every = [row for row in rows if row.reference == reference.name and row.band == _BAND[kind]]
    if kind == "within":
        # the acquired map, which selects these voxels, has the noise of this band
        every = [row for row in every if row.region != ACQUIRED_ACTIVE]
    rows_of_statistic = [row for row in every if row.statistic == reference.statistic]
    asked = [row for row in rows_of_statistic if row.series in series]
    if kind in ("within", "beyond"):  # the acquired series has values wherever this one has any
        rows_of_statistic = asked = [
            row for row in asked if row.minus == MISSING and math.isfinite(row.value)
        ]
    if not asked:
        return None
    order = list(dict.fromkeys(row.contrast for row in rows_of_statistic))
    contrasts = {
        row.contrast for row in [row for row in asked if math.isfinite(row.value)] or asked
    }
    contrast = min(contrasts, key=lambda name: (name != "all", order.index(name)))
    width = min(row.fwhm_mm for row in rows_of_statistic if row.contrast == contrast)
    there = [row for row in rows_of_statistic if (row.contrast, row.fwhm_mm) == (contrast, width)]
    return Evidence(
        reference=reference,
        band=_BAND[kind],
        contrast=contrast,
        fwhm_mm=width,
        regions=main_regions(
            row.region for row in [row for row in there if math.isfinite(row.value)] or there
        ),
        rows={
            (row.statistic, row.series, row.minus, row.region): row
            for row in every
            if (row.contrast, row.fwhm_mm) == (contrast, width)
        },
    )


def strongest(kind: Kind, rows: Sequence[MetricRow], series: Sequence[str]) -> Evidence | None:
    """Return the rows' strongest evidence on any series; on methods, preferably with intervals.

    A measured reference whose halves have no detail in common has no values: then no map of it is
    evidence, as its detail is noise (`Evidence.no_detail`).

    `kind`: what the claim is about, such as ``function`` or ``within``. Returns None where no row
    is about it.
    """
    every = (_gather(kind, reference, rows, series) for reference in STRONGEST[kind])
    candidates = [each for each in every if each is not None]
    defined = [each for each in candidates if each.defines(series)]
    noisy = kind == "function" and any(
        each.reference is HALVES for each in candidates if each not in defined
    )
    usable = [each for each in defined if not (noisy and each.reference is MAPS)]
    sure = [each for each in usable if kind == "function" and each.is_sure()]
    evidence = next(iter([*sure, *usable, *candidates]), None)
    return (
        evidence
        if evidence is None
        else replace(evidence, no_detail=noisy and evidence.reference is not KNOWN)
    )


def accuracy(rows: Sequence[MetricRow], methods: Sequence[str]) -> Evidence | None:
    """Return the strongest evidence on the methods' function, None if accuracy is not known.

    Agreement with one reference beyond the acquired Nyquist limit, or None.
    """
    found = strongest("function", rows, methods)
    return None if found is None or found.no_detail else found


def was_applied(card: Mapping[str, object]) -> bool:
    """Whether, by its card, a model applies what was found instead of zero filling."""
    held_out = card.get("held_out")
    model = held_out.get("model", "") if isinstance(held_out, Mapping) else ""
    return card.get("applied") is not False and not str(model).lower().startswith("zero filling")


def derives_from(series: str, not_applied: Sequence[str]) -> bool:
    """Whether a series is from a method not applied, its placebo, or its other-seed member.

    `not_applied`: names of methods that fell back to zero filling.
    """
    return series in not_applied or is_variant_of(series, not_applied)


def applied_methods(rows: Iterable[MetricRow], *, applied: bool = True) -> list[str]:
    """Return methods that the rows of the verdict say were applied, or were not."""
    return [row.series for row in rows if row.statistic == APPLIED and (row.value > 0) == applied]


def compared_rows(rows: Iterable[MetricRow]) -> list[MetricRow]:
    """Return the rows without those of comparisons with methods not applied."""
    rows = list(rows)
    idle = applied_methods(rows, applied=False)
    return [
        row
        for row in rows
        if row.minus == MISSING
        or not any(derives_from(each, idle) for each in (row.series, row.minus))
    ]
