"""Verdict on series of other programs: is each more accurate than the acquired series, in which band, by how much?

A series is held against the acquired one (`zerofill`, whose band is that of the acquisition, untouched) and against the
acquired one smoothed to the same resolution (`NORDICSame`), by the variance of a reference that they explain, in the
voxels in which it has signal. *Within* the acquired Nyquist limit it must explain some and exceed both to be more
accurate: smoothing, and noise removal that smoothing does as well, are no gain. *Beyond* the limit, where the
acquisition saw nothing, its detail must explain variance of the reference; detail that explains less than none is
invented. A series on the acquired grid has no detail there, and none is looked for. Where noise exceeds the effect, any
smaller copy of a series explains more: within the limit a gain counts only where the correlation rises, too.

References, the best first: known activation; for detail beyond the limit a series measured at the high resolution; for
the band within it another acquired run of the task. A measured series of the same scan holds, within the acquired band,
the noise of the acquired series, and a program that has seen the whole run carries noise of one half of the blocks into
the other: there a gain is said and not counted, while a loss, which this cannot explain, is. Halves of a series against
one another are never counted, for the same reason.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

from bids_sr.frozen import frozen
from bids_sr.metrics.long_tables import MetricRow
from bids_sr.series import ACQUIRED_BAND, MEASURED, OTHER_RUN, same_name
from bids_sr.stats.evaluation.evidence import (
    Decision,
    below_zero,
    decide,
    rounded,
    tenths_of,
    where_text,
)
from bids_sr.stats.evaluation.verdict_text import Advice

Band = Literal["within", "beyond"]
Status = Literal["more accurate", "not more accurate", "less accurate", "mixed", "not assessed"]
Why = Literal["", "smoothed", "size", "nothing", "no control", "no detail"]
"""What keeps a gain over the acquired series from being one, or a loss from being false detail."""
MARGIN = 0.02
"""Differences of explained variance below it count as none."""
BANDS: Mapping[Band, str] = {"within": "within the acquired band", "beyond": "beyond the acquired band"}
ON_ACQUIRED = "acquired"
"""What the facts of a series say of its grid where that is the acquired one."""
NO_DETAIL = f"{BANDS['beyond']} it has no detail: it is on the acquired grid"
COMPARED = "compared_fwhm"
"""The measure that every compared series of a run has in its table."""
WORTH: Mapping[str, float] = {"better": 1.0, "same": 0.0, "worse": -1.0}


@frozen
class Reference:
    """What a band of a series may be held against."""

    stem: str  # of its measures
    against: str  # in the rows of levels
    words: str
    counts: bool = True  # whether a gain over the acquired series is one


KNOWN = Reference(stem="truth_ev", against="truth", words="known activation")
OTHER = Reference(stem="other_ev", against=OTHER_RUN, words="another acquired run of the task")
SCAN = Reference(
    stem="split_ev", against=MEASURED, words="the measured high-resolution series (other half of the blocks)"
)
SAME_SCAN = Reference(stem=SCAN.stem, against=SCAN.against, words=SCAN.words, counts=False)
REFERENCES: Mapping[Band, tuple[Reference, ...]] = {"within": (KNOWN, OTHER, SAME_SCAN), "beyond": (KNOWN, SCAN)}
NOT_COUNTED = (
    "a gain there is not counted: the measured series is of the same scan and shares its noise, which a program that "
    "has seen the whole run carries from one half of the blocks into the other"
)


@frozen
class OfBand:
    """What is found of one series in one band."""

    band: Band
    reference: Reference
    decision: Decision  # better: more accurate than the acquired series; worse: less accurate
    region: str
    level: MetricRow  # of the series itself
    acquired: MetricRow | None  # difference to the acquired series
    same: MetricRow | None  # difference to the acquired series at the same resolution
    why: Why = ""  # what the decision rests on beside the differences
    # where regions decide otherwise: difference to the acquired series in the other one
    denied: MetricRow | None = None
    finer: bool = True  # whether it can have detail beyond the acquired band


@frozen
class ComparedVerdict:
    """What can be said of one series."""

    name: str
    status: Status
    headline: str  # the answer in a sentence
    text: str  # the same with bands and numbers, and what to scan where something is not assessed
    found: tuple[OfBand, ...]
    fwhm_mm: float  # smoothing of the control at the same resolution; NaN: there is none
    facts: Mapping[str, object]  # how it lies on the run

    def to_json(self) -> dict[str, object]:
        """As plain values; no width of a control that is not there."""
        return {
            "name": self.name, "status": self.status, "headline": self.headline, "text": self.text,
            "decisions": {each.band: each.decision for each in self.found},
            "references": {each.band: each.reference.words for each in self.found},
            "same_resolution_fwhm_mm": self.fwhm_mm if math.isfinite(self.fwhm_mm) else None,
            "frame": dict(self.facts),
        }  # fmt: skip

    @property
    def rows(self) -> list[MetricRow]:
        """For the table of the evaluation."""
        rows = [MetricRow(series=self.name, measure=COMPARED, value=self.fwhm_mm)]
        for each in self.found:
            rows.append(MetricRow(
                series=self.name, measure=f"compared_{each.band}", against=ACQUIRED_BAND, region=each.region,
                contrast=each.level.contrast, value=WORTH.get(each.decision, math.nan),
            ))  # fmt: skip
        return rows


def compared_verdict(
    name: str, rows: Sequence[MetricRow], *, fwhm_mm: float, facts: Mapping[str, object], advice: Advice,
    margin: float | None = None,
) -> ComparedVerdict:  # fmt: skip
    """Say whether a series is more accurate than the acquired one.

    Parameters
    ----------
    name : of the series
    rows : of the evaluation
    fwhm_mm : smoothing of the control at the same resolution; NaN: there is none
    facts : how it lies on the run, as `bids_sr.registration.compared_frame.Alignment.facts` tells it
    advice : how the reader gets a reference
    margin : differences of explained variance below it count as none; None: `MARGIN`
    """
    least = MARGIN if margin is None else margin
    found = []
    for band, references in REFERENCES.items():
        for reference in references:
            one = _of_band(name, rows, band, reference, fwhm_mm, least, finer=facts.get("grid") != ON_ACQUIRED)
            if one is not None:
                found.append(one)
                break
    status = _status(found)
    headline = f"{HEADS[status].format(name)}."
    return ComparedVerdict(
        name=name, status=status, headline=headline, text=_text(headline, found, fwhm_mm, facts, advice),
        found=tuple(found), fwhm_mm=fwhm_mm, facts=facts,
    )  # fmt: skip


def _of_band(
    name: str, rows: Sequence[MetricRow], band: Band, reference: Reference, fwhm_mm: float, margin: float, *,
    finer: bool,
) -> OfBand | None:  # fmt: skip
    """What a reference says of a band; None where it has no value.

    Active voxels are asked first, as most of the brain holds noise alone; the whole brain may not say the contrary.
    """
    measure = f"{reference.stem}_{band}"
    levels = [
        row
        for row in rows
        if (row.series, row.against, row.measure) == (name, reference.against, measure) and math.isfinite(row.value)
    ]
    contrasts = sorted(dict.fromkeys(row.contrast for row in levels), key=lambda each: each != "all")
    by_region = {row.region: row for row in levels if row.contrast == contrasts[0]}
    if not (regions := _regions(list(by_region))):
        return None
    gains = {
        (row.against, row.region): row
        for row in rows
        if (row.series, row.measure, row.contrast) == (name, f"gain_{measure}", contrasts[0])
    }
    likeness = {
        row.region: row
        for row in rows
        if (row.series, row.against, row.contrast) == (name, ACQUIRED_BAND, contrasts[0])
        and row.measure == f"gain_{reference.stem.replace('_ev', '_r')}_{band}"
    }
    control = same_name(name) if band == "within" else ""
    each = {
        region: _within(by_region[region], gains.get((ACQUIRED_BAND, region)), gains.get((control, region)),
                        likeness.get(region), margin)
        if band == "within" else _beyond(by_region[region], gains.get((ACQUIRED_BAND, region)), margin, finer=finer)
        for region in regions
    }  # fmt: skip
    decision, shown = _together(each)
    return OfBand(
        band=band, reference=reference, decision=decision, region=shown, level=by_region[shown],
        acquired=gains.get((ACQUIRED_BAND, shown)), same=gains.get((control, shown)),
        why=each[shown][1],
        denied=gains.get((ACQUIRED_BAND, regions[-1])) if _contrary(each) else None, finer=finer,
    )  # fmt: skip


def _together(each: Mapping[str, tuple[Decision, Why]]) -> tuple[Decision, str]:
    """Decision over regions, and the region to show for it: one that decides, else the first; contraries undo it."""
    found = {region: decision for region, (decision, _) in each.items()}
    sure = [region for region, decision in found.items() if decision in ("better", "worse")]
    if _contrary(each):
        return "unclear", next(iter(found))
    told = [region for region, (_, why) in each.items() if why]
    lead = next(iter([*sure, *told, *found]))
    return found[lead], lead


def _contrary(each: Mapping[str, tuple[Decision, Why]]) -> bool:
    """Whether a series is more accurate in one region and less accurate in another."""
    return {"better", "worse"} <= {decision for decision, _ in each.values()}


def _regions(found: Sequence[str]) -> list[str]:
    """Active voxels (those of the truth, or |t| nearest to 4), then the brain, as far as there are values."""
    active = [r for r in found if r == "active"] or sorted(
        filter(tenths_of, found), key=lambda r: abs(tenths_of(r) - 40)
    )
    return active[:1] + [r for r in ("brain",) if r in found]


def _sure(row: MetricRow | None, margin: float) -> Decision:
    """What a difference says; one that is sure and smaller than the margin is none."""
    if row is None:
        return "unclear"
    found = decide(row.lower, row.upper, margin)
    return "same" if found in ("better", "worse") and abs(row.value) < margin else found


def _within(
    level: MetricRow, acquired: MetricRow | None, same: MetricRow | None, likeness: MetricRow | None, margin: float
) -> tuple[Decision, Why]:
    """Whether a series is more accurate in the acquired band, and what keeps its gain from being one."""
    over = _sure(acquired, margin)
    if over != "better":
        return over, ""
    if likeness is not None and not likeness.lower > 0:
        return "same", "size"
    if same is None:
        return "unclear", "no control"
    if _sure(same, margin) != "better":
        return "same", "smoothed"
    return ("better", "") if level.lower > 0 else ("same", "nothing")


def _beyond(level: MetricRow, acquired: MetricRow | None, margin: float, *, finer: bool) -> tuple[Decision, Why]:
    """Whether a series has true detail beyond the acquired band; less noise than the acquired series leaks is none."""
    over = _sure(acquired, margin)
    if not finer or (over == "worse" and abs(level.value) < margin):
        return "same", "no detail"
    if over == "worse":
        return ("worse" if below_zero(level) else "unclear"), ""
    return ("better" if level.lower > 0 else "same", "") if over == "better" else (over, "")


def _status(found: Sequence[OfBand]) -> Status:
    counted = {"same" if each.decision == "better" and not each.reference.counts else each.decision for each in found}
    judged = any(each.reference.counts or each.why == "smoothed" for each in found)
    lacking = any(each.why == "no control" for each in found)
    if not found or (counted == {"same"} and not judged) or (lacking and not counted & {"better", "worse"}):
        return "not assessed"
    if {"better", "worse"} <= counted:
        return "mixed"
    return "more accurate" if "better" in counted else "less accurate" if "worse" in counted else "not more accurate"


HEADS: Mapping[Status, str] = {
    "more accurate": "{} is more accurate than the acquired series",
    "not more accurate": "{} is not shown to be more accurate than the acquired series",
    "less accurate": "{} is less accurate than the acquired series",
    "mixed": "{} is more accurate than the acquired series in one band and less accurate in the other",
    "not assessed": "{}: not assessed",
}


def _text(headline: str, found: Sequence[OfBand], fwhm_mm: float, facts: Mapping[str, object], advice: Advice) -> str:
    parts = [_band_text(each, fwhm_mm) for each in found]
    lacking = [band for band in REFERENCES if band not in {each.band for each in found}]
    text = headline
    text += "".join(f" {part[:1].upper()}{part[1:]}." for part in parts)
    text += "".join(_lacking_text(band, advice, facts) for band in lacking)
    if any(each.band == "within" and each.decision == "better" and not each.reference.counts for each in found):
        text += f" To judge it there, {advice.other_run}."
    if facts.get("shift") and facts.get("frame") == "as acquired":
        text += f" It lies {facts['shift']} (of the acquired grid) from the run."
    if left_out := int(str(facts.get("left_out", 0))):
        total = int(str(facts["brain_voxels"]))
        text += (
            f" It was judged without {left_out:,} of {total:,} brain voxels ({100 * left_out / total:.2g} %), "
            "in which it or the acquired series has no signal."
        )
    return text


def _lacking_text(band: Band, advice: Advice, facts: Mapping[str, object]) -> str:
    """Why a band is not assessed, and what to scan."""
    if band == "beyond" and facts.get("grid") == ON_ACQUIRED:
        return f" {NO_DETAIL[:1].upper()}{NO_DETAIL[1:]}."
    way = advice.other_run if band == "within" else advice.fine_run
    need = "this takes a second run of the same task" if band == "within" else "this takes a high-resolution reference"
    return f" {BANDS[band][:1].upper()}{BANDS[band][1:]}: not assessed; {need} ({way})."


def _band_text(each: OfBand, fwhm_mm: float) -> str:
    """What is found in one band, with its numbers."""
    if not each.finer and each.band == "beyond":
        return NO_DETAIL
    where = "the brain" if each.region == "brain" else where_text(each.region)
    numbers = [f"explained variance {_ends(each.level)} in {where}"]
    numbers += [f"{_ends(each.acquired, sign=True)} over acquired"] if each.acquired is not None else []
    if each.same is not None and fwhm_mm:
        numbers.append(f"{_ends(each.same, sign=True)} over acquired {_smoothing(fwhm_mm)}")
    if each.denied is not None:
        ahead = each.acquired is not None and each.acquired.value > 0
        contrary = "its noise or wrong detail outweighs that" if ahead else "it is more accurate"
        said = f"{'more' if ahead else 'less'} accurate in {where}, but over the whole brain {contrary}"
        numbers.append(f"{_ends(each.denied, sign=True)} over acquired in the brain")
    elif each.why:
        said = WHY[each.why]
    elif each.band == "beyond":
        said = {
            "better": "it shows true detail that the acquired series lacks",
            "worse": "the detail that it adds is not true",
            "unclear": "true detail is not shown for sure",
        }.get(each.decision, "it shows no true detail")
    else:
        said = {
            "better": "closer to the reference than the acquired series"
            + (", also at the same resolution" if fwhm_mm else ""),
            "worse": "farther from the reference than the acquired series",
            "same": "as accurate as the acquired series",
        }.get(each.decision, "no detectable difference from the acquired series")
    caveat = f" ({NOT_COUNTED})" if each.decision == "better" and not each.reference.counts else ""
    return f"{BANDS[each.band]} {said}{caveat}: {', '.join(numbers)}, against {each.reference.words}"


WHY: Mapping[Why, str] = {
    "smoothed": "not more accurate than the acquired series smoothed to the same resolution",
    "size": "closer to the reference in amplitude alone, as any smaller copy of a noisy series is",
    "nothing": "closer to the reference than the acquired series, and not shown to explain any of it",
    "no control": "not assessed, as its smoothness, and so the control at the same resolution, could not be told",
    "no detail": "it adds no detail",
}


def _smoothing(fwhm_mm: float) -> str:
    """The control at the same resolution."""
    return f"smoothed to about its resolution ({fwhm_mm:.1f} mm)"


def _ends(row: MetricRow, *, sign: bool = False) -> str:
    """A value with the ends of its interval, in two decimals."""
    text = rounded(row.value, "+.2f" if sign else ".2f")
    if not row.has_interval:
        return f"{text} (no interval)"
    return f"{text} [{rounded(row.lower, '.2f')}, {rounded(row.upper, '.2f')}]"
