"""Verdict on series of other programs: is each truer than the acquired series, in which band, and by how much?

A series is held against the acquired one (`zerofill`, whose band is that of the acquisition, untouched) and against the
acquired one smoothed to the same resolution (`NORDICSame`), by the variance of a reference that they explain. *Within*
the acquired Nyquist limit it must exceed both to be truer: smoothing and noise removal that smoothing does as well are
no gain. *Beyond* the limit, where the acquisition saw nothing, its detail must explain variance of the reference;
detail that explains less than none is invented. A series on the acquired grid has no detail there: what it explains
leaks from within the limit, where volumes were interpolated, and counts as none. Where noise exceeds the effect, any
smaller copy of a series explains more: within the limit a gain counts only where the correlation rises, too.

References, the best first: known activation; for detail beyond the limit a series measured at the high resolution; for
the band within it another acquired run of the task. A measured series of the same scan holds, within the acquired band,
the noise of the acquired series, and a program that has seen the whole run carries noise of one half of the blocks into
the other: there a gain is said and not counted, while a loss, which this cannot explain, is. Halves of a series against
one another are never counted, for the same reason.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Literal

from bids_sr.frozen import frozen
from bids_sr.metrics.long_tables import MetricRow
from bids_sr.series import ACQUIRED_BAND, MEASURED, OTHER_RUN, same_name
from bids_sr.stats.evaluation.effects_of_run import SAME_RATIOS
from bids_sr.stats.evaluation.evidence import Decision, decide, interval_words, rounded, tenths_of, where_text
from bids_sr.stats.evaluation.verdict_text import Advice, Sentence

Band = Literal["within", "beyond"]
Status = Literal["truer", "no truer", "less true", "mixed", "not assessed"]
MARGIN = 0.02
"""Differences of explained variance below it count as none."""
LEAST_MM = 0.5
"""Smoothing below it leaves the resolution as it is: then there is no control at the same resolution."""
BANDS: Mapping[Band, str] = {"within": "within the acquired band", "beyond": "beyond the acquired band"}
ON_ACQUIRED = "acquired"
"""What the facts of a series say of its grid where that is the acquired one."""
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
    decision: Decision  # better: truer than the acquired series; worse: less true
    region: str
    level: MetricRow  # of the series itself
    acquired: MetricRow | None  # difference to the acquired series
    same: MetricRow | None  # difference to the acquired series at the same resolution
    beside: tuple[MetricRow, ...] = ()  # level in further regions
    as_smoothed: bool = False  # whether it exceeds the acquired series and not its smoothed copy
    # where regions decide otherwise: difference to the acquired series in the other one
    denied: MetricRow | None = None
    in_size: bool = False  # whether it explains more than the acquired series and is no more like the reference


@frozen
class ComparedVerdict:
    """What can be said of one series."""

    name: str
    status: Status
    headline: str  # the answer in a sentence
    text: str  # the same with bands and numbers, and what to scan where something is not assessed
    sentences: tuple[Sentence, ...]
    found: tuple[OfBand, ...]
    fwhm_mm: float  # smoothing that gives the acquired series its smoothness
    facts: Mapping[str, object]  # how it lies on the run

    def to_json(self) -> dict[str, object]:
        """As plain values; numbers that are not defined are None."""
        plain = [
            {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in asdict(each).items()}
            for each in self.sentences
        ]
        said = {each.band: each.decision for each in self.found}
        refs = {each.band: each.reference.words for each in self.found}
        return {
            "name": self.name, "status": self.status, "headline": self.headline, "text": self.text,
            "decisions": said, "references": refs,
            "same_resolution_fwhm_mm": self.fwhm_mm, "frame": dict(self.facts), "sentences": plain,
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
    """Say whether a series is truer than the acquired one.

    Parameters
    ----------
    name : of the series
    rows : of the evaluation
    fwhm_mm : smoothing that gives the acquired series its smoothness
    facts : how it lies on the run, as `bids_sr.registration.compared_frame.Seen.facts` tells it
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
    sentences = [sentence for each in found for sentence in _sentences(name, each, fwhm_mm)]
    return ComparedVerdict(
        name=name, status=status, headline=headline, text=_text(headline, found, fwhm_mm, facts, advice),
        sentences=tuple(sentences), found=tuple(found), fwhm_mm=fwhm_mm, facts=facts,
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
    control = same_name(name) if fwhm_mm >= LEAST_MM and band == "within" else ""
    each = {
        region: _decided(band, by_region[region], gains.get((ACQUIRED_BAND, region)), gains.get((control, region)),
                         margin, controlled=bool(control), finer=finer, likeness=likeness.get(region))
        for region in regions
    }  # fmt: skip
    decision, shown = _together(each)
    gained = _sure(gains.get((ACQUIRED_BAND, shown)), margin) == "better"
    return OfBand(
        band=band, reference=reference, decision=decision, region=shown, level=by_region[shown],
        acquired=gains.get((ACQUIRED_BAND, shown)), same=gains.get((control, shown)),
        beside=tuple(by_region[r] for r in regions if r != shown), as_smoothed=each[shown][1],
        denied=gains.get((ACQUIRED_BAND, regions[-1])) if _contrary(each) else None,
        in_size=band == "within" and gained and decision == "same" and not each[shown][1],
    )  # fmt: skip


def _together(each: Mapping[str, tuple[Decision, bool]]) -> tuple[Decision, str]:
    """Decision over regions, and the region to show for it: one that decides, else the first; contraries undo it."""
    found = {region: decision for region, (decision, _) in each.items()}
    sure = [region for region, decision in found.items() if decision in ("better", "worse")]
    if _contrary(each):
        return "unclear", next(iter(found))
    smoothed = [region for region, (_, as_smoothed) in each.items() if as_smoothed]
    lead = next(iter([*sure, *smoothed, *found]))
    return found[lead], lead


def _contrary(each: Mapping[str, tuple[Decision, bool]]) -> bool:
    """Whether a series is truer in one region and less true in another."""
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


def _decided(
    band: Band, level: MetricRow, acquired: MetricRow | None, same: MetricRow | None, margin: float, *,
    controlled: bool, finer: bool, likeness: MetricRow | None,
) -> tuple[Decision, bool]:  # fmt: skip
    """Whether a series is truer in a band, and whether smoothing alone would do as much (or more)."""
    over = _sure(acquired, margin)
    if over != "better":
        return over, False
    if band == "beyond":  # less noise than the acquired series leaks there is no detail
        return ("better" if finer and level.lower > 0 else "same"), False
    if likeness is not None and not likeness.lower > 0:
        return "same", False
    if controlled and _sure(same, margin) != "better":
        return "same", True
    return "better", False


def _status(found: Sequence[OfBand]) -> Status:
    counted = {"same" if each.decision == "better" and not each.reference.counts else each.decision for each in found}
    if not found or (counted == {"same"} and not any(e.reference.counts or e.as_smoothed for e in found)):
        return "not assessed"
    if {"better", "worse"} <= counted:
        return "mixed"
    return "truer" if "better" in counted else "less true" if "worse" in counted else "no truer"


HEADS: Mapping[Status, str] = {
    "truer": "{} is truer than the acquired series",
    "no truer": "{} is not shown to be truer than the acquired series",
    "less true": "{} is less true than the acquired series",
    "mixed": "{} is truer than the acquired series in one band and less true in the other",
    "not assessed": "{}: not assessed",
}


def _text(headline: str, found: Sequence[OfBand], fwhm_mm: float, facts: Mapping[str, object], advice: Advice) -> str:
    parts = [_band_text(each, fwhm_mm) for each in found]
    lacking = [band for band in REFERENCES if band not in {each.band for each in found}]
    text = headline
    text += "".join(f" {part[:1].upper()}{part[1:]}." for part in parts)
    text += "".join(_lacking_text(band, advice) for band in lacking)
    if any(each.band == "within" and each.decision == "better" and not each.reference.counts for each in found):
        text += f" To judge it there, {advice.other_run}."
    shift = [float(str(size)) for size in facts.get("shift_voxels", ())]  # type: ignore[attr-defined]
    if facts.get("frame") == "as acquired" and any(abs(size) >= SAID_SHIFT for size in shift):
        text += f" It lies {_shift_text(shift)} from the run."
    return text


SAID_SHIFT = 0.1
"""Of an acquired voxel, along any axis: a shift above it is said."""


def _shift_text(shift: Sequence[float]) -> str:
    parts = [
        f"{rounded(size, '+.2f')} acquired voxels along {axis}"
        for axis, size in zip("xyz", shift, strict=True)
        if abs(size) >= SAID_SHIFT
    ]
    return " and ".join(parts)


def _lacking_text(band: Band, advice: Advice) -> str:
    """Why a band is not assessed, and what to scan."""
    way = advice.other_run if band == "within" else advice.fine_run
    need = "this takes a second run of the same task" if band == "within" else "this takes a high-resolution reference"
    return f" {BANDS[band][:1].upper()}{BANDS[band][1:]}: not assessed; {need} ({way})."


def _band_text(each: OfBand, fwhm_mm: float) -> str:
    """What is found in one band, with its numbers."""
    where = "the brain" if each.region == "brain" else where_text(each.region)
    numbers = [f"explained variance {_ends(each.level)} in {where}"]
    numbers += [f"{_ends(each.acquired, sign=True)} over acquired"] if each.acquired is not None else []
    if each.same is not None:
        numbers.append(f"{_ends(each.same, sign=True)} over acquired smoothed {_widths(fwhm_mm)}")
    if each.denied is not None:
        ahead = each.acquired is not None and each.acquired.value > 0
        contrary = "its noise or wrong detail outweighs that" if ahead else "it is truer"
        said = f"{'truer' if ahead else 'less true'} in {where}, but over the whole brain {contrary}"
        numbers.append(f"{_ends(each.denied, sign=True)} over acquired in the brain")
    elif each.band == "beyond":
        said = {
            "better": "it shows true detail that the acquired series lacks",
            "worse": "the detail that it adds is not true",
            "unclear": "true detail is not shown for sure",
        }.get(each.decision, "it shows no true detail")
    elif each.in_size:
        said = "closer to the reference in amplitude alone, as any smaller copy of a noisy series is"
    elif each.as_smoothed:
        said = "no truer than the acquired series smoothed to the same resolution"
    else:
        said = {
            "better": "closer to the reference than the acquired series"
            + (", also at the same resolution" if each.same else ""),
            "worse": "farther from the reference than the acquired series",
            "same": "as true as the acquired series",
        }.get(each.decision, "no detectable difference from the acquired series")
    caveat = f" ({NOT_COUNTED})" if each.decision == "better" and not each.reference.counts else ""
    return f"{BANDS[each.band]} {said}{caveat}: {', '.join(numbers)}, against {each.reference.words}"


def _widths(fwhm_mm: float) -> str:
    """The widths of the control at the same resolution."""
    return f"to about its resolution (the best of {', '.join(f'{ratio * fwhm_mm:.1f}' for ratio in SAME_RATIOS)} mm)"


def _ends(row: MetricRow, *, sign: bool = False) -> str:
    """A value with the ends of its interval, in two decimals."""
    text = rounded(row.value, "+.2f" if sign else ".2f")
    if not row.has_interval:
        return f"{text} (no interval)"
    return f"{text} [{rounded(row.lower, '.2f')}, {rounded(row.upper, '.2f')}]"


def _sentences(name: str, each: OfBand, fwhm_mm: float) -> list[Sentence]:
    """The values that a band rests on."""
    where = f"{BANDS[each.band]}, {where_text(each.region)}"
    out = [Sentence.of(f"{name}: explained variance {interval_words(each.level, sign=False)}, {where}.", each.level)]
    for row in each.beside:
        out.append(Sentence.of(
            f"{name}: explained variance {interval_words(row, sign=False)}, {BANDS[each.band]}, "
            f"{where_text(row.region)}.", row,
        ))  # fmt: skip
    for gain, what in ((each.acquired, "acquired"), (each.same, f"acquired smoothed {_widths(fwhm_mm)}")):
        if gain is not None:
            decision = decide(gain.lower, gain.upper)
            out.append(Sentence.of(f"{name} less {what}: {interval_words(gain)}, {where}.", gain, decision))
    return out
