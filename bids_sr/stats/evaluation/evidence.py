"""Evidence of the evaluation that can carry a verdict, the strongest kind first; methods that were not applied."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from bids_sr.frozen import frozen
from bids_sr.metrics.long_tables import MISSING, MetricRow
from bids_sr.series import IMAGE_REFERENCES, is_variant_of

Decision = Literal["better", "same", "worse", "unclear"]
PLAIN = ("zerofill", "sdmod", "wmn")
"""Simple arithmetic that every method must beat where the run has it, whether it stands as a baseline or a method."""
MARGIN_SHARE = 0.1  # of the gap between bspline and measured: a difference within it counts as none
TOO_LITTLE = "too little reproducible detail (its two halves correlate below .5)"
"""Why what a measured half explains of the other, 2 - 1/r, has no value where it would be below 0."""
WORTH: dict[str, float] = {"better": 1.0, "same": 0.0, "worse": -1.0, "unclear": math.nan}
_COMPARED: Mapping[str, str] = {
    "better": "is more accurate than", "same": "is as accurate as", "worse": "is less accurate than",
    "unclear": "does not differ detectably from",
}  # fmt: skip
"""What a decision says; series are compared with one another by their agreement with a truth alone."""


@frozen
class Evidence:
    """One kind of evidence on function."""

    name: str  # short name
    # level, gain: measures of a series, and of the difference to another series
    level: str
    gain: str  # empty where series are not compared by it
    against: str  # what the level is compared with in the table
    words: str  # what is measured
    is_truth: bool = True  # whether it can show that detail is true; repeatability alone cannot
    above_zero: bool = False  # whether a claim needs the level itself above 0: a map that explains nothing is no detail
    beside: tuple[tuple[str, str], ...] = ()  # measures told beside the level, each with its name


def _beside(stem: str) -> tuple[tuple[str, str], ...]:
    names = {"r": "r", "amplitude": "recovered amplitude", "right": "correct fraction"}
    return tuple((f"{stem}_{name}_beyond", words) for name, words in names.items())


_SCALE = "1 = all, 0 = none, below 0 = wrong detail"
EVIDENCE = (
    Evidence(
        name="split", level="split_ev_beyond", gain="gain_split_ev_beyond", against="measured", above_zero=True,
        words="Compared with a measured high-resolution run (independent blocks): explained variance beyond the "
        f"acquired resolution, corrected for noise in the reference; {_SCALE}",
        beside=_beside("split"),
    ),
    Evidence(
        name="known", level="truth_ev_beyond", gain="gain_truth_ev_beyond", against="truth", above_zero=True,
        words=f"Compared with the known truth: explained variance beyond the acquired resolution; {_SCALE}",
        beside=_beside("truth"),
    ),
    Evidence(
        name="maps", level="truth_r_beyond", gain="gain_truth_r_beyond", against="measured",
        words="Compared with the high-resolution map of the same blocks: correlation beyond the acquired resolution "
        "(shared noise counts as agreement)",
    ),
)  # fmt: skip


# What can carry a claim on images, the stronger first, and over what its gain was found
IMAGE_EVIDENCE = {"gain_truth_psnr": "against the measured volumes", "pair_gain_psnr": "on a pair not trained on"}


def image_gains(rows: Sequence[MetricRow], method: str) -> list[tuple[MetricRow, str]]:
    """Gains of a method over bspline and inject, and over what they were found, by the best evidence it has."""
    for measure, words in IMAGE_EVIDENCE.items():
        found = {r.against: r for r in rows if r.measure == measure and r.series == method}
        if found:
            return [(found[other], words) for other in IMAGE_REFERENCES if other in found]
    return []


def compared(decision: str) -> str:
    """What a decision on a difference says of the first series."""
    return _COMPARED.get(decision, decision)


def decide(lower: float, upper: float, margin: float = math.nan) -> Decision:
    """What an interval of a difference (larger is better) allows to say; differences within ± margin count as none.

    ``same`` where the interval lies inside the margin, also where it excludes 0 (a difference that does not matter);
    else ``better`` or ``worse`` where it excludes 0; else ``unclear``. NaN: no interval, or a margin that is not known.
    """
    if not (math.isfinite(lower) and math.isfinite(upper)):
        return "unclear"
    if -margin <= lower and upper <= margin:  # False for NaN
        return "same"
    if lower > 0:
        return "better"
    return "worse" if upper < 0 else "unclear"


def interval_words(row: MetricRow, digits: int = 3, sign: bool = True) -> str:
    """A value with its interval in a sentence."""
    value = rounded(row.value, f"+.{digits}f" if sign else f".{digits}f")
    if row.has_interval:
        low, high = (rounded(end, f".{digits}f") for end in (row.lower, row.upper))
        return f"{value} (95 % interval {low} to {high})"
    return f"{value} (no interval)"


def rounded(value: float, form: str) -> str:
    """A number with a true minus, and no negative zero."""
    text = f"{value:{form}}"
    return (text if float(text) else text.lstrip("+-")).replace("-", "−")


def tenths_of(region: str) -> int:
    """Ten times the |t| of an active region.

    >>> tenths_of("active40"), tenths_of("active"), tenths_of("brain")
    (40, 0, 0)
    """
    name, number = region[:6], region[6:]
    return int(number) if name == "active" and number.isdigit() else 0


def where_text(region: str) -> str:
    """A region of the evaluation in words."""
    if tenths := tenths_of(region):
        return f"active voxels, |t| > {tenths / 10:g}"
    return {"roi": "region of interest", "active": "truly active voxels", MISSING: "all voxels"}.get(region, region)


def below_zero(row: MetricRow) -> bool:
    """Whether a share lies below 0: its whole interval, or where it has none its value. NaN does not."""
    return row.upper < 0 if math.isfinite(row.upper) else row.value < 0


@frozen
class Table:
    """Rows of one kind of evidence for one contrast at one smoothing."""

    evidence: Evidence  # the kind
    # contrast, fwhm_mm: for which the verdict is given
    contrast: str
    fwhm_mm: float
    regions: tuple[str, ...]  # brain first, then the active region nearest to |t| > 4, or the truly active voxels
    # levels, gains: rows
    levels: tuple[MetricRow, ...]
    gains: tuple[MetricRow, ...]
    others: tuple[MetricRow, ...] = ()  # rows of the measures that are told beside the level
    no_detail: bool = False  # whether the measured reference has no reproducible detail, so that no accuracy is known

    @property
    def shows_accuracy(self) -> bool:
        """Whether it can show that detail is true; repeatability, or a reference of noise, cannot."""
        return self.evidence.is_truth and not self.no_detail

    @property
    def is_of_brain(self) -> bool:
        """Whether the verdict is on the brain, or without regions; else it is on where the reference has detail."""
        return not self.regions or not self.regions[0].startswith("active")

    @property
    def lead(self) -> str:
        """The region that is told first: active voxels where they are known, as most of the brain holds only noise."""
        return self.regions[-1]

    def beside(self, series: str, region: str) -> list[tuple[str, float]]:
        """Name and value of what is told beside a series' level, as far as it is known."""
        found = {r.measure: r.value for r in self.others if (r.series, r.region) == (series, region)}
        return [
            (words, found[name]) for name, words in self.evidence.beside if math.isfinite(found.get(name, math.nan))
        ]

    def level(self, series: str, region: str) -> MetricRow | None:
        """Metric of a series itself."""
        return next((r for r in self.levels if (r.series, r.region) == (series, region)), None)

    def gain(self, series: str, against: str, region: str) -> MetricRow | None:
        """Difference of two series; where the table has it the other way round, turned."""
        for row in self.gains:
            if (row.series, row.against, row.region) == (series, against, region):
                return row
        for row in self.gains:
            if (row.series, row.against, row.region) == (against, series, region):
                return replace(
                    row, series=series, against=against, value=-row.value, lower=-row.upper, upper=-row.lower
                )
        return None

    def margin(self, region: str) -> float:
        """A tenth of the gap between bspline and measured; NaN where either is absent or there is no gap."""
        low, high = self.level("bspline", region), self.level("measured", region)
        gap = math.nan if low is None or high is None else high.value - low.value
        return MARGIN_SHARE * gap if gap > 0 else math.nan


def _regions(rows: Sequence[MetricRow]) -> tuple[str, ...]:
    found = list(dict.fromkeys(row.region for row in rows))
    active = sorted(filter(tenths_of, found), key=lambda r: abs(tenths_of(r) - 40))
    active += [r for r in found if r == "active"]
    return tuple([r for r in ("brain",) if r in found] + active[:1]) or tuple(found[:1])


def best_table(rows: Sequence[MetricRow], methods: Sequence[str]) -> Table | None:
    """The strongest evidence that the rows hold on any of the methods, preferably with an interval.

    The contrast is ``all`` (every condition against rest) where there is one, else the first, of those for which any
    method has a value; the smoothing is the least, regions are those with a value. A measured reference whose halves
    have no detail in common has no values: then no map of it is evidence, as its detail is noise (`no_detail`).
    """
    with_measured = any(row.measure == "truth_r_beyond" and row.against == "measured" for row in rows)
    candidates = []
    for kind in EVIDENCE:
        levels = [r for r in rows if r.measure == kind.level and r.against == kind.against]
        # differences of maps do not name their truth: they are to the measured one where there is one
        own = kind.name not in ("known", "maps") or (kind.name == "maps") == with_measured
        both = [*levels, *(r for r in rows if own and r.measure == kind.gain)]
        if any(r.series in methods for r in both):
            candidates.append(_table_of(kind, both, rows, methods))
    noisy = any(each.evidence.name == "split" and not _is_defined(each, methods) for each in candidates)
    usable = [t for t in candidates if _is_defined(t, methods) and not (noisy and t.evidence.name == "maps")]
    sure = [t for t in usable if t.evidence.is_truth and any(math.isfinite(r.lower) for r in t.gains)]
    found = next(iter([*sure, *usable, *candidates]), None)
    return found if found is None else replace(found, no_detail=noisy and found.evidence.name != "known")


def _table_of(
    kind: Evidence, both: Sequence[MetricRow], rows: Sequence[MetricRow], methods: Sequence[str]
) -> Table:  # fmt: skip
    """The table of one kind of evidence: rows on level and gain in `both`, those told beside them in `rows`."""
    contrasts = sorted(dict.fromkeys(r.contrast for r in both), key=lambda name: name != "all")
    valued = {r.contrast for r in both if r.series in methods and math.isfinite(r.value)}
    contrast = next((name for name in contrasts if name in valued), contrasts[0])
    width = min(r.fwhm_mm for r in both if r.contrast == contrast)
    keep = [r for r in both if r.contrast == contrast and r.fwhm_mm == width]
    defined = [r for r in keep if math.isfinite(r.value)]
    return Table(
        evidence=kind, contrast=contrast, fwhm_mm=width, regions=_regions(defined or keep),
        levels=tuple(r for r in keep if r.measure == kind.level),
        gains=tuple(r for r in keep if r.measure == kind.gain),
        others=tuple(
            r for r in rows
            if r.measure in dict(kind.beside)
            and (r.against, r.contrast, r.fwhm_mm) == (kind.against, contrast, width)
        ),
    )  # fmt: skip


def _is_defined(table: Table, methods: Sequence[str]) -> bool:
    """Whether any of the methods has a value."""
    return any(math.isfinite(r.value) for r in (*table.levels, *table.gains) if r.series in methods)


APPLIED = "verdict_applied"


def was_applied(card: Mapping[str, object]) -> bool:
    """Whether a model's card says that what was found is used, and not zero filling in its place."""
    held_out = card.get("held_out")
    model = held_out.get("model", "") if isinstance(held_out, Mapping) else ""
    return card.get("applied") is not False and not str(model).lower().startswith("zero filling")


def stands_for(series: str, not_applied: Sequence[str]) -> bool:
    """Whether a series is that of a method that was not applied, or its placebo, or its member of another seed."""
    return series in not_applied or is_variant_of(series, not_applied)


def compared_rows(rows: Iterable[MetricRow]) -> list[MetricRow]:
    """Rows without the comparisons of methods that the rows tell were not applied, nor those with them."""
    rows = list(rows)
    idle = [row.series for row in rows if row.measure == APPLIED and row.value == 0]
    return [
        row for row in rows if not (row.parts.is_gain and any(stands_for(s, idle) for s in (row.series, row.against)))
    ]
