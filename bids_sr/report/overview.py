"""First screen of a run: the verdict, cards with values, checks, cautions and the next step.

All of them are computed from the verdict and the rows of the evaluation.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from markupsafe import Markup

from bids_sr.evaluation import motion_text, series_text, words
from bids_sr.evaluation.evidence import (
    HALVES,
    Evidence,
    accuracy,
    applied_methods,
    below_zero,
    derives_from,
    strongest,
)
from bids_sr.evaluation.motion_text import MOVED_MM
from bids_sr.evaluation.qc_flags import raised_flags
from bids_sr.evaluation.self_test import EARLIER, UNCALIBRATED, one_level_down
from bids_sr.evaluation.verdict_text import said_first
from bids_sr.evaluation.words import MARKS
from bids_sr.frozen import frozen
from bids_sr.io.grids import size_text
from bids_sr.metrics.flags import FLAGS
from bids_sr.metrics.number_text import interval, number
from bids_sr.metrics.rows import MISSING, MetricRow, VerdictFacts
from bids_sr.report.markup import render
from bids_sr.report.participant_overview import ONLY_RUN
from bids_sr.report.registration_facts import registration_warnings
from bids_sr.report.sections import run_text
from bids_sr.series import BASELINES, CONTROLS


@frozen
class RunFacts:
    """Acquisition facts: entities, voxel sizes (mm) before and after, FD (mm) of each volume.

    `described`: description in the sidecar of the series, such as that it was simulated; "" if it
    has none. `calibrated`: whether there is a calibration run (the self-test knows whether it was
    used). `at_rest`: whether maps are of seeds instead of conditions. `maps`, `masks`: file
    patterns of the best method's maps and of their reliable regions, relative to the output
    directory; "" if they are not stored. `only_run`: whether it is the only run of its task, whose
    map is the participant's.
    """

    entities: Mapping[str, str]
    acquired_mm: Sequence[float]
    made_mm: Sequence[float]
    displacement: Sequence[float]
    described: str = ""
    calibrated: bool = False
    at_rest: bool = False
    maps: str = ""
    masks: str = ""
    only_run: bool = False


class Card(NamedTuple):
    """Card of the first screen: a value, a clause that says what it is, and facts, one per line.

    `hint`: definition, shown as a tooltip; may be empty.
    """

    value: str
    label: str
    facts: tuple[str, ...] = ()
    hint: str = ""


class _Check(NamedTuple):
    """A check: passed or not, in words, with the section that has the details."""

    passed: bool
    text: str
    section: str


def overview_html(
    verdict: VerdictFacts,
    rows: Sequence[MetricRow],
    registration: Mapping[str, object],
    run: RunFacts,
    one_level: Mapping[str, object] | None = None,
    contrast: str = "",
) -> Markup:
    """Render the first screen of a run.

    `verdict`, `rows`, `registration`: contents of the JSON files and tables. `one_level`: results
    of the self-test as read from JSON; None if it was not run. `contrast`: contrast of the
    reliable voxels.
    """
    status, best = verdict.get("status", "not assessed"), verdict.get("best", "")
    applied = applied_methods(rows)
    idle = verdict.get("not_applied", [])
    detail = strongest("function", rows, applied)
    evidence = accuracy(rows, applied)
    tested = one_level_down(rows, one_level)
    basis: list[str] = []
    if detail is not None and best:
        basis = _reference_sentences(detail, run)
    elif tested is not None:
        # the warning above has the test of methods that were not applied
        untested = (words.untested(tested, name) for name in applied)
        basis = [f"{text}." for text in untested if text]
    checks = [
        *motion_checks(run.displacement),
        *registration_checks(registration),
        *flag_checks(rows, idle, best=best, self_test=evidence is None and tested is not None),
    ]
    unit = "segments" if run.at_rest else "blocks"
    if evidence is not None:
        cards = [_level_card(evidence, best, unit, applied), *_correct_card(evidence, best, unit)]
    else:
        calibrated = tested is not None and tested.calibrated
        cards = _earlier_card(best, calibrated, no_detail=detail is not None)
    cards += _reliable_card(
        rows, best, contrast, "self-test" if tested is None else tested.test_text
    )
    caution = _cautions(rows, evidence, best)
    is_best_wrong = any(value < 0 for value in _brain_values(rows, evidence, best).values())
    undecided = bool(applied) and not (detail is not None and detail.no_detail)
    lines = verdict.get("lines") or [{"text": verdict.get("headline", ""), "status": status}]
    return render(
        "overview",
        _header_text(run),
        " ".join([*filter(None, [words.capital(run.described)]), *[ONLY_RUN] * run.only_run]),
        [(_mark(line["status"]), line["text"]) for line in lines],
        MARKS.get(status, MARKS["not assessed"])[1],
        Markup(" ").join(basis),
        _definitions([best, *applied]),
        said_first(verdict),
        [*cards, _check_card(checks, measured=evidence is not None)],
        checks,
        caution,
        _next_steps(verdict, _remedies(rows, idle), undecided, run, cautioned=is_best_wrong),
    )


def _definitions(methods: Sequence[str]) -> str:
    """Define the names of methods: ``sbl: sparse Bayesian learning, …``."""
    summaries = {name: series_text.summary_of(name) for name in methods if name}
    return " ".join(f"{name}: {summary}." for name, summary in summaries.items() if summary)


def _mark(status: str) -> str:
    return MARKS.get(status, MARKS["not assessed"])[0]


def _header_text(run: RunFacts) -> str:
    """Return participant, run, volumes, and voxel sizes before and after."""
    sizes = f"{size_text(run.acquired_mm)} → {size_text(run.made_mm)}"
    participant = f"sub-{run.entities['subject']}"
    volumes = f"{len(run.displacement)} volumes"
    return " · ".join([participant, run_text(run.entities), volumes, sizes])


def _reference_sentences(evidence: Evidence, run: RunFacts) -> list[str]:
    """Return what the reference is, what was compared, and for which contrast."""
    finer = [
        made
        for made, acquired in zip(run.made_mm, run.acquired_mm, strict=True)
        if abs(made - acquired) > _SAME_MM
    ] or list(run.made_mm)
    at = size_text(finer[:1] if max(finer) - min(finer) < _SAME_MM else finer)
    what = evidence.reference.words.replace("at the high resolution", f"at {at}")
    mapped = "seed" if run.at_rest else "contrast"
    sentences = [
        _DETAIL,
        Markup("The reference is {}, and the {} is <em>{}</em>.").format(
            what, mapped, evidence.contrast
        ),
    ]
    if evidence.reference is HALVES:
        parts = "the run" if run.at_rest else "the task blocks"
        sentences.append(
            f"Each series in one half of {parts} is compared with the reference in the other half."
        )
    return sentences


def level_text(row: MetricRow | None) -> str:
    """Return a level in percent of the variance, or a correlation; ``n/a`` if it is not known."""
    if row is None or row.statistic == "r" or not math.isfinite(row.value):
        return number(math.nan if row is None else row.value)
    return number(row.value, ".0%")


def ends_text(row: MetricRow, *, unit: bool = True) -> str:
    """Return the interval of a level, with its unit or without; "" if it has none."""
    return interval(row.lower, row.upper, "" if row.statistic == "r" else ".0%", unit=unit)


def estimate_text(row: MetricRow | None) -> str:
    """Return a level with its interval: ``35 % [22, 42]``."""
    if row is None:
        return level_text(row)
    return unbroken(f"{level_text(row)} {ends_text(row, unit=False)}".strip())


def _region_facts(evidence: Evidence, row: MetricRow, unit: str, *others: str) -> tuple[str, ...]:
    """Return interval and region of a level, the level in the whole brain, and other facts."""
    ends = ends_text(row)
    over = f"95 % interval over {unit}: {unbroken(ends)}" if ends else "No confidence interval"
    name, definition = words.active_words(evidence.regions[0])
    where = words.capital(name) + (f" ({definition})" if definition else "")
    facts = [f"Region: {where[:1].lower()}{where[1:]}", over, *others]
    if evidence.regions[0] != "brain":
        brain = evidence.row(row.series, "brain", statistic=row.statistic)
        facts.append(f"Whole brain: {estimate_text(brain)}")
    return tuple(facts)


def _rivals(evidence: Evidence, best: str, applied: Sequence[str]) -> list[str]:
    """Return the levels of B-spline, of the strongest baseline, and of the other methods."""
    levels = {row.series: row for row in evidence.levels() if row.region == evidence.regions[0]}
    plain = {
        name: row
        for name, row in levels.items()
        if (name in BASELINES or name in CONTROLS)
        and row.statistic == evidence.reference.statistic
        and math.isfinite(row.value)
    }
    entries = [f"B-spline interpolation: {level_text(evidence.row('bspline'))}"]
    strongest_name = max(plain, key=lambda name: plain[name].value, default="bspline")
    if strongest_name != "bspline":
        title = CONTROLS.get(strongest_name, strongest_name)
        entries.append(f"Strongest baseline ({title}): {level_text(plain[strongest_name])}")
    entries += [
        f"{name}: {level_text(evidence.row(name))}"
        for name in applied
        if name != best and evidence.row(name) is not None
    ]
    return entries


def _level_card(evidence: Evidence, best: str, unit: str, applied: Sequence[str]) -> Card:
    """Return the best method's level in active voxels, and the levels of other series."""
    explains = evidence.reference.statistic == "ev"
    hint = _EXPLAINED if explains else _CORRELATION
    label = (
        f"of the true detail is explained by {best} (explained variance)"
        if explains
        else f"correlation between detail in the {best} map and detail in the reference"
    )
    if (row := evidence.known(best).get(evidence.regions[0])) is None:
        return Card("–", label, ("Not assessed",), hint)
    if explains and below_zero(row):
        label += ": wrong detail"
    others = _rivals(evidence, best, applied)
    return Card(level_text(row), label, _region_facts(evidence, row, unit, *others), hint)


def _correct_card(evidence: Evidence, best: str, unit: str) -> list[Card]:
    """Return how much of the best method's detail is true; no card if it is not known."""
    row = evidence.row(best, statistic="correct_fraction")
    if row is None or not math.isfinite(row.value):
        return []
    label = (
        f"of the detail in the {best} map is correct (squared correlation with the true detail)"
    )
    return [Card(level_text(row), label, _region_facts(evidence, row, unit), _CORRECT)]


def _earlier_card(best: str, calibrated: bool, *, no_detail: bool) -> list[Card]:
    """Return the accuracy in other runs; no card if no method was applied.

    `no_detail`: this run has a reference, which has no reproducible detail.
    """
    if not best:
        return []
    earlier = EARLIER[calibrated]
    label = (
        "The high-resolution reference has no reproducible detail."
        if no_detail
        else "This run has no high-resolution reference."
    )
    text = (
        f"In other runs, sbl explained {earlier.active} of the true detail in active voxels and"
        f" {earlier.brain} in the whole brain ({earlier.where})."
    )
    return [Card("not measured", label, (text,) if best == "sbl" else (), _EXPLAINED)]


def _reliable_card(rows: Sequence[MetricRow], best: str, contrast: str, test: str) -> list[Card]:
    """Return how many voxels of the best method's map are reliable; no card without an SD map.

    `test`: name of the self-test, with its voxel sizes.
    """
    of_best = [row for row in rows if (row.series, row.contrast) == (best, contrast)]
    widths = [row.fwhm_mm for row in of_best if row.statistic == "expected_wrong"]
    if not widths:
        return []
    values = {
        (row.statistic, row.threshold): row.value for row in of_best if row.fwhm_mm == min(widths)
    }
    covered = [row.value for row in of_best if row.statistic == "coverage_one_level_down"]
    smoothing = f"smoothed with a {min(widths):g} mm FWHM kernel" if min(widths) else "unsmoothed"
    where = f"Map: {best}, contrast {contrast}, {smoothing}"
    significant = values["voxels", "fdr"]
    kept = values.get(("voxels", "reliable"))
    if not significant:
        return [Card("0", "significant voxels", ("No voxel passes FDR .05.", where))]
    wrong = number(values["expected_wrong", "fdr"], ".0%")
    expected = (
        f"If reconstruction error is included, {wrong} of all significant voxels are expected to"
        " have the wrong sign."
    )
    label = "significant voxels are reliable"
    noise = (
        "Significant voxels pass FDR .05, which accounts for noise but not for reconstruction"
        " error."
    )
    if kept is None:
        none = "No voxels are marked as reliable because the self-test was not possible."
        if covered:
            none = (
                f"No voxels are marked as reliable because the {test} failed: the 95 % intervals"
                f" contained the acquired effect in only {number(covered[0], '.0%')} of the"
                " voxels."
            )
        return [Card("none", f"of the {significant:,.0f} {label}", (where, noise, none, expected))]
    held = [
        f"In the {test}, the 95 % intervals contained the acquired effect in"
        f" {number(share, '.0%')} of the voxels."
        for share in covered
    ]
    facts = (where, noise, _RELIABLE, expected, *held)
    return [Card(f"{kept:,.0f} of {significant:,.0f}", label, facts)]


def _check_card(checks: Sequence[_Check], *, measured: bool) -> Card:
    """Return how many checks passed, and which failed."""
    failed = [each.text for each in checks if not each.passed]
    facts = [f"Failed: {text}" for text in failed]
    facts += ["These checks do not measure accuracy."] * (not measured)
    passed = len(checks) - len(failed)
    return Card(f"{passed} of {len(checks)}", "checks passed", tuple(facts))


def motion_checks(displacement: Sequence[float]) -> list[_Check]:
    """Check the framewise displacement (FD, mm) of the volumes; no check if it is not known."""
    if (found := motion_text.moved(displacement)) is None:
        return []
    mean, share = found
    above = f", above {MOVED_MM:g} mm in {number(share, '.0%')} of the volumes" if share else ""
    text = f"Head motion: mean framewise displacement {mean:.2f} mm{above}"
    return [_Check(not motion_text.moved_much(displacement), text, "motion")]


_REGISTERED = ("bold_t1w_", "bold_pair_")


def registration_checks(facts: Mapping[str, object]) -> list[_Check]:
    """Check the registrations for warnings; no check if nothing was registered."""
    count = len(registration_warnings(facts))
    if not count and not any(key.startswith(_REGISTERED) for key in facts):
        return []
    text = f"Registration: {count} warning{'s' * (count > 1)}" if count else "Registration"
    return [_Check(not count, text, "registration")]


def flag_checks(
    rows: Sequence[MetricRow],
    not_applied: Sequence[str] = (),
    *,
    best: str = "",
    self_test: bool = False,
) -> list[_Check]:
    """Return one check per flag, failed ones first.

    The check of added detail also fails if the best method's detail is worse than none in any
    contrast. `not_applied`: names of methods whose series are zero filled; their flags are
    ignored. `best`: best method of the verdict; "" if there is no such method. `self_test`:
    added detail was assessed by the self-test only.
    """
    checks = []
    rows = [row for row in rows if not derives_from(row.series, not_applied)]
    evidence = accuracy(rows, applied_methods(rows))
    contrast = f" (contrast {evidence.contrast})" if evidence is not None else ""
    values = _brain_values(rows, evidence, best)
    wrong = sum(value < 0 for value in values.values())
    for name, up in raised_flags(rows).items():
        text = FLAGS[name].failed if up else FLAGS[name].passed
        passed = not up
        if name == "harm" and passed and wrong:
            passed = False
            text = f"Detail added by {best} is wrong in {wrong} of {len(values)} contrasts"
        elif name == "harm":
            text += " (self-test)" if self_test else contrast
            text += f": {', '.join(dict.fromkeys(up))}" if up else ""
        checks.append(_Check(passed, text, "guards"))
    return sorted(checks, key=lambda each: each.passed)


def _cautions(rows: Sequence[MetricRow], evidence: Evidence | None, best: str) -> str:
    """Name the contrasts in which a method's detail is worse than none over the whole brain.

    The best method comes first; "" if there is no such contrast, or no explained variance.
    """
    if evidence is None or evidence.reference.statistic != "ev":
        return ""
    cautions = []
    for method in sorted(applied_methods(rows), key=lambda name: name != best):
        values = _brain_values(rows, evidence, method)
        below = {name: value for name, value in values.items() if value < 0}
        if below:
            which = _which_contrasts(below, [name for name in values if name not in below])
            cautions.append(
                Markup(
                    "In the whole brain, the detail added by {} is wrong (explained variance below"
                    " 0) in {} of {} contrasts: {}."
                ).format(method, len(below), len(values), which)
            )
    return Markup(" ").join(cautions)


def _brain_values(
    rows: Sequence[MetricRow], evidence: Evidence | None, method: str
) -> dict[str, float]:
    """Return a method's explained variance over the brain, by contrast, if it was evaluated."""
    if evidence is None or evidence.reference.statistic != "ev":
        return {}
    return {
        row.contrast: row.value
        for row in rows
        if (row.series, row.statistic, row.band) == (method, "ev", evidence.band)
        and (row.region, row.minus) == ("brain", MISSING)
        and row.reference == evidence.reference.name
        and math.isfinite(row.value)
    }


def _which_contrasts(below: Mapping[str, float], others: Sequence[str]) -> str:
    """Name contrasts with their values; of many, those that are not among them."""
    if len(below) <= max(_NAMED, len(others)):
        entries = [
            Markup("<em>{}</em> {}").format(name, unbroken(number(value, ".0%")))
            for name, value in below.items()
        ]
        return Markup(", ").join(entries)
    if not others:
        return "every contrast"
    return Markup("every contrast other than {}").format(
        Markup(", ").join(Markup("<em>{}</em>").format(name) for name in others)
    )


def unbroken(text: str) -> str:
    """Return a value without places for a line break."""
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def _remedies(rows: Sequence[MetricRow], not_applied: Sequence[str] = ()) -> list[str]:
    """Return what to do about each raised flag that has a remedy.

    `not_applied`: names of methods whose series are zero filled; their flags are ignored.
    """
    remedies = (
        FLAGS[name].remedy.format(series=series)
        for name, up in raised_flags(rows).items()
        for series in up
        if not derives_from(series, not_applied)
    )
    return list(filter(None, remedies))


_SAME_MM = 1e-3
_NAMED = 6
"""Contrasts that a caution names; of more, it names the others if these are fewer."""
_DETAIL = (
    "Detail is the part of the effect that is finer than the acquired voxels (above the acquired"
    " Nyquist frequency)."
)
_EXPLAINED = (
    "Explained variance above the acquired Nyquist frequency. A value of 100 % means that all of"
    " the true detail is recovered, 0 % that none is, and a value below 0 that the detail is"
    " wrong."
)
_CORRELATION = "Correlation between the maps above the acquired Nyquist frequency."
_CORRECT = (
    "Squared correlation between the detail in the map and the true detail. The value is a"
    " fraction of the energy of the detail, not of the voxels."
)
_RELIABLE = (
    "Reliable voxels are the most significant voxels, selected such that at most 5 % of them are"
    " expected to have the wrong sign."
)
_CALIBRATION = "a calibration run (about 20 volumes at the high resolution, with the same slices)"
_MOVE_LESS = (
    "Check head motion first. Motion by one voxel or more invalidates fine detail, so exclude or"
    " repeat such a run."
)


def _next_steps(
    verdict: VerdictFacts,
    remedies: Sequence[str],
    undecided: bool,
    run: RunFacts,
    *,
    cautioned: bool = False,
) -> list[str]:
    """Return at most two next steps, the most useful first.

    `undecided`: a method was applied, and the run has no reference (rather than a reference
    without detail). `cautioned`: whether the best method's
    detail is wrong in some contrasts.
    """
    status, best = verdict.get("status", "not assessed"), verdict.get("best", "")
    steps = [_MOVE_LESS] * bool(verdict.get("motion_text")) + list(remedies)
    if verdict.get("not_applied") and not run.calibrated:
        steps.append(
            f"Acquire {_CALIBRATION}. With a calibration run, methods can be applied to more runs."
        )
    if status == "not assessed" and undecided:
        above = [was**2 / is_now for was, is_now in zip(run.acquired_mm, run.made_mm, strict=True)]
        made, acquired, coarser = (
            size_text(size) for size in (run.made_mm, run.acquired_mm, above)
        )
        steps.append(
            f"To measure the accuracy of {best or 'a method'} in this participant and task,"
            f" acquire a run at {made} and process this run with --retrospective: the run is then"
            " downsampled, super-resolved and compared with the acquired data. Without another"
            f" scan, use --retrospective with the present run to see how well {acquired} is"
            f" recovered from {coarser}."
        )
        if best == "sbl" and not run.calibrated:
            steps.append(
                f"To improve the maps in another session, acquire {_CALIBRATION}. In earlier data"
                f" ({EARLIER[True].where}), sbl explained {EARLIER[True].active} of the true"
                f" detail in active voxels with a calibration run and {UNCALIBRATED} without one."
            )
    if status == "not more accurate":
        steps.append(
            "Use the B-spline maps, because finer detail in the other maps was not found to be"
            " accurate in this run."
        )
    if status == "more accurate":
        steps.append(_use_maps(best, run, cautioned=cautioned))
    return list(dict.fromkeys(steps))[:2]


def _use_maps(best: str, run: RunFacts, *, cautioned: bool = False) -> str:
    """Return which files to use, and what to test next.

    `cautioned`: whether the best method's
    detail is wrong in some contrasts.
    """
    limit = (
        " In the contrasts that are listed under Caution, do not interpret detail finer than the"
        " acquired voxels."
    )
    if not run.maps:
        use = Markup(
            "The {} maps were not stored. To store them, rerun with --level standard."
        ).format(best)
    elif not run.masks:
        use = Markup("Use the {} maps (<code>{}</code>).").format(best, run.maps)
    else:
        use = Markup(
            "Use the {} maps (<code>{}</code>) within the masks of reliable voxels"
            " (<code>{}</code>)."
        ).format(best, run.maps, run.masks)
    return use + limit * cautioned + " Test at the group level whether the result generalizes."
