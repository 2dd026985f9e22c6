"""Verdict of a run: better than, the same as, or worse than what, in which metric, and how sure.

*Image quality* says that single images look more like those of a finer acquisition; a network must beat ``inject``,
which plainly carries static detail over. *Function* says that the map of activity shows true BOLD detail (of neurons or
of the veins that drain them); it may be claimed only against a truth, by a method that explains variance of it, and
more than every baseline, denoising control and the plain arithmetic there is (`zerofill`, `sdmod`, `wmn`), each by an
interval above 0. What a placebo reaches as well is not attributable to this subject's own data. A method that fell back
to zero filling was not applied: it is named first and not compared. How well a series reproduces itself compares
nothing; without a truth the verdict has the test of the run one level of resolution down in its place.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from bids_sr.frozen import frozen
from bids_sr.metrics.long_tables import MISSING, MetricRow
from bids_sr.series import CONTROLS, IMAGE_REFERENCES
from bids_sr.stats.controls.negative_controls import claims, subject_specific
from bids_sr.stats.evaluation import verdict_text as told
from bids_sr.stats.evaluation.evidence import (
    APPLIED,
    PLAIN,
    WORTH,
    Table,
    best_table,
    compared,
    decide,
    image_gains,
    interval_words,
    rounded,
    stands_for,
    where_text,
)
from bids_sr.stats.evaluation.tested_share import OneLevelDown, one_level_down, share_text
from bids_sr.stats.evaluation.verdict_text import Sentence


@frozen
class Verdict:
    """What can be said of a run."""

    headline: str  # one or two sentences on the methods that were applied
    status: told.Status  # what the headline says, in a word
    best: str  # the applied method that explains most, of the truth or else one level down; "" where none was applied
    not_applied: tuple[str, ...]  # methods that fell back to zero filling: said first, in no comparison
    sentences: tuple[Sentence, ...]  # what it rests on
    limits: tuple[str, ...]  # what it cannot say
    motion: str  # what is said before all else, where the head moved much; else ""
    rows: tuple[MetricRow, ...]  # of the evaluation: verdict, verdict_{function,image,specific}, verdict_margin

    def to_json(self) -> dict[str, object]:
        """Headline, status, sentences and limits as plain values; numbers that are not defined are None."""
        plain = [
            {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in asdict(each).items()}
            for each in self.sentences
        ]
        said = {"status": self.status, "best": self.best, "not_applied": list(self.not_applied)}
        if self.motion:
            said["motion_text"] = self.motion
        if self.not_applied:
            said["not_applied_text"] = told.idle_text(self.not_applied).strip()
        return {"headline": self.headline, **said, "sentences": plain, "limits": list(self.limits)}


def _compare(table: Table, method: str, other: str, region: str, margin: float) -> Sentence:
    """One method beside one other series."""
    row = table.gain(method, other, region)
    if row is None:
        own, its = table.level(method, region), table.level(other, region)
        value = math.nan if own is None or its is None else own.value - its.value
        row = MetricRow(
            series=method, against=other, measure=table.evidence.gain, value=value, contrast=table.contrast,
            region=region,
        )  # fmt: skip
    # beside its own plain form any difference that is sure counts: both exceed the baselines by more than the margin
    decision = decide(row.lower, row.upper, math.nan if other == "wmn" else margin)
    if math.isfinite(row.value):
        text = f"{method} {compared(decision)} {other}: {interval_words(row)}, {where_text(region)}."
    else:
        text = f"{method} was not compared with {other}, {where_text(region)}."
    return Sentence.of(text, row, decision)


def _between(table: Table, methods: Sequence[str], margins: Mapping[str, float]) -> list[Sentence]:
    """The methods beside one another, where the table compares them; no claim rests on it."""
    return [
        _compare(table, one, other, region, margins[region])
        for region in table.regions
        for k, one in enumerate(methods)
        for other in methods[k + 1 :]
        if table.gain(one, other, region) is not None and not {one, other} & set(PLAIN)
    ]


def _function(
    table: Table, method: str, references: Sequence[str], margins: Mapping[str, float]
) -> tuple[list[Sentence], bool | None]:
    """All comparisons of one method, and whether function may be claimed; None where the evidence cannot say."""
    if not table.shows_accuracy:
        return [], None
    sentences = [
        _compare(table, method, other, region, margins[region]) for region in table.regions for other in references
    ]
    main, rest = sentences[: len(references)], sentences[len(references) :]
    level = table.level(method, table.regions[0])
    explains = not table.evidence.above_zero or (level is not None and level.lower > 0)
    beats = explains and bool(main) and all(each.decision == "better" for each in main)
    return sentences, beats and all(each.decision != "worse" for each in rest)


def _level_sentences(table: Table, names: Iterable[str]) -> list[Sentence]:
    """How much of the detail each series has, in active voxels first."""
    found = []
    for series in names:
        known = [
            row for region in dict.fromkeys((table.lead, table.regions[0]))
            if (row := table.level(series, region)) is not None and math.isfinite(row.value)
        ]  # fmt: skip
        if known:
            row = known[0]
            others = [f"{words} {rounded(value, '.3f')}" for words, value in table.beside(series, row.region)]
            beside = f"; {', '.join(others)}" if others else ""
            beside += "".join(f"; {where_text(other.region)} {rounded(other.value, '.3f')}" for other in known[1:])
            text = f"{series}: {interval_words(row, sign=False)}, {where_text(row.region)}{beside}."
            found.append(Sentence.of(text, row))
    return found


def _image(rows: Sequence[MetricRow], method: str) -> tuple[list[Sentence], bool | None]:
    """Image quality against measured volumes, else on a second pair; None where either reference is absent."""
    sentences = []
    for row, where in image_gains(rows, method):
        decision = decide(row.lower, row.upper)
        text = f"Images: {method} {compared(decision)} {row.against}: {interval_words(row, 2)} dB {where}."
        sentences.append(Sentence.of(text, replace(row, contrast=MISSING, region=MISSING), decision))
    better = [each.decision == "better" for each in sentences]
    if len(sentences) < len(IMAGE_REFERENCES):
        return sentences, None if all(better) else False
    return sentences, all(better)


def _specific(rows: Sequence[MetricRow], table: Table, method: str) -> tuple[list[Sentence], bool | None]:
    """Whether method - control excludes 0, for every placebo there is; None without any."""
    place = method, table.contrast, table.fwhm_mm, table.regions[0]
    found = [
        each
        for each in claims(rows)
        if (each.row.series, each.row.contrast, each.row.fwhm_mm, each.row.region) == place
    ]
    if not found:
        return [], None
    sentences = [Sentence.of(each.words, each.row, decide(each.row.lower, each.row.upper)) for each in found]
    together = subject_specific(found)[0]
    return [*sentences, Sentence(text=together.words, series=method)], together.holds


def _tested(found: OneLevelDown | None, methods: Sequence[str]) -> list[Sentence]:
    """What was tested one level down, with its warning where the map was calibrated; it compares nothing."""
    if found is None:
        return []
    rows = [found.tested[name] for name in methods if name in found.tested]
    out = [Sentence.of(f"Tested on this run {found.where_text}: {share_text(row)}.", row) for row in rows]
    for name, text in found.calibrations.items():
        if name in methods:
            out.append(Sentence(text=f"{name}: {text}.", series=name))
    for name, why in found.reasons.items():
        if name in methods:
            out.append(Sentence(text=f"{name} was not tested {found.where_text}: {why.rstrip('.')}.", series=name))
    return out


def _as_rows(
    table: Table | None, decided: Sequence[Sentence], found: Mapping[str, dict[str, bool | None]],
    margins: Mapping[str, float],
) -> list[MetricRow]:  # fmt: skip
    out = []
    if table is not None:
        place: dict[str, Any] = {"contrast": table.contrast, "fwhm_mm": table.fwhm_mm}
        for each in decided:
            own: dict[str, Any] = {"series": each.series, "against": each.against, "region": each.region}
            out.append(MetricRow(measure="verdict", value=WORTH[each.decision], **own, **place))
        for region, margin in margins.items():
            out.append(MetricRow(series="run", measure="verdict_margin", value=margin, region=region, **place))
    for claim, by_method in found.items():
        out += [
            MetricRow(series=method, measure=f"verdict_{claim}", value=math.nan if holds is None else float(holds))
            for method, holds in by_method.items()
        ]
    return out


def make_verdict(
    rows: Sequence[MetricRow], *, methods: Sequence[str], baselines: Sequence[str], margin: float | None = None,
    not_applied: Sequence[str] = (), advice: told.Advice = told.PROGRAM, displacement: Sequence[float] = (),
    one_level: Mapping[str, object] | None = None,
) -> Verdict:  # fmt: skip
    """Say what the evaluation of a run allows to say.

    The main region is the brain, or where the reference has no reproducible detail there, active voxels, and the
    headline says so; in the active region a method may be unclear, but not worse, to claim function.

    Parameters
    ----------
    rows : of the evaluation, of all tables
    methods, baselines : under evaluation; all baselines and controls must be beaten before function may be claimed
    margin : differences within ± this count as none, in the unit of the evidence; None: a tenth of the gap between
        bspline and measured
    not_applied : methods that fell back to zero filling; they, their placebos and their members are left out
    advice : how the reader gets what the limits name as missing
    displacement : (V,) framewise displacement of each volume (mm); NaN where it is not known
    one_level : facts of the test one level down, as `bids_sr.stats.evaluation.tested_share.one_level_down` takes them
    """
    idle = [method for method in methods if method in not_applied]
    methods = [method for method in methods if method not in idle]
    rows = [row for row in rows if not (stands_for(row.series, idle) or stands_for(row.against, idle))]
    table, tested = best_table(rows, methods), one_level_down(rows, one_level)
    sentences: list[Sentence] = []
    decided: list[Sentence] = []
    margins: dict[str, float] = {}
    found: dict[str, dict[str, bool | None]] = {"function": {}, "image": {}, "specific": {}}
    if table is not None:
        present = {r.series for r in (*table.levels, *table.gains)} | {r.against for r in table.gains}
        references = list(dict.fromkeys([*baselines, *(name for name in (*PLAIN, *CONTROLS) if name in present)]))
        smooth = f", {table.fwhm_mm:g} mm FWHM" if table.fwhm_mm else ""
        if table.shows_accuracy:
            margins = {region: table.margin(region) if margin is None else margin for region in table.regions}
            over = "; intervals are over blocks" if table.evidence.above_zero else ""
            sentences.append(Sentence(text=f"{table.evidence.words}; contrast {table.contrast}{smooth}{over}."))
            sentences += _level_sentences(table, (*methods, "bspline", "measured"))
        for method in methods:
            others = [name for name in references if name != method]
            against, found["function"][method] = _function(table, method, others, margins)
            own, found["specific"][method] = _specific(rows, table, method) if table.shows_accuracy else ([], None)
            sentences += [*against, *own]
            decided += against
        sentences += _between(table, methods, margins) if table.shows_accuracy else []
    sentences += _tested(tested, methods)
    for method in methods:
        own, found["image"][method] = _image(rows, method)
        sentences += own
    applied = [MetricRow(series=name, measure=APPLIED, value=1.0) for name in methods]
    applied += [MetricRow(series=name, measure=APPLIED, value=0.0) for name in idle]
    nothing = told.NOTHING_APPLIED if idle else told.NOTHING_COMPARED
    return Verdict(
        headline=told.headline(table, found, sentences, tested) if methods else nothing,
        status=told.status_of(table, found) if methods else "not applied" if idle else "not assessed",
        best=told.best_of(table, methods, found["function"], tested),
        not_applied=tuple(idle),
        sentences=tuple(sentences),
        limits=tuple(told.limits_of(rows, table, found, next(iter(margins.values()), math.nan), advice, tested)),
        motion=told.motion_text(displacement),
        rows=(*_as_rows(table, decided, found, margins), *applied),
    )  # fmt: skip
