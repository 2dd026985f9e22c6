"""First screen of a run: verdict, cards with values, checks, cautions and the next steps.

Its contents are computed from the verdict and the rows of the evaluation.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from markupsafe import Markup

from bids_sr.combination import ONLY_RUN
from bids_sr.evaluation import series_text, words
from bids_sr.evaluation.contrast_text import quote_contrast
from bids_sr.evaluation.evidence import HALVES, Evidence, is_below_zero
from bids_sr.evaluation.motion_summary import describe_motion, is_motion_large
from bids_sr.evaluation.run_evidence import RunEvidence
from bids_sr.evaluation.self_test import EARLIER_ACCURACY, UNCALIBRATED_RANGE
from bids_sr.evaluation.statements import Statement
from bids_sr.evaluation.supporting_sentences import list_untested
from bids_sr.evaluation.verdict_lines import leading_sentences
from bids_sr.evaluation.words import MARKS
from bids_sr.frozen import frozen
from bids_sr.io.grids import size_text
from bids_sr.metrics.flags import FLAGS
from bids_sr.metrics.number_text import interval, number
from bids_sr.metrics.rows import MetricRow, VerdictFacts
from bids_sr.report.contrast_table import render_contrasts
from bids_sr.report.markup import render
from bids_sr.report.registration_facts import registration_warnings
from bids_sr.report.sections import run_text
from bids_sr.series import BASELINES, CONTROLS

_SIZE_TOLERANCE_MM = 1e-3  # mm, difference between voxel sizes that count as equal
_MAX_NAMED_CONTRASTS = 6
"""Largest number of contrasts in a caution; with more, the others are named if they are fewer."""
_EXPLAINED_HINT = f"{Statement.DETAIL} {Statement.EXPLAINED}"
_CORRECT_HINT = (
    "Squared correlation between the detail in the map and the true detail. The value is a"
    " fraction of the energy of the detail, not of the voxels."
)
_CALIBRATION_TEXT = (
    "a calibration run (about 20 volumes at the high resolution, with the same slices)"
)
_UNMEASURED_STATUSES = ("not assessed", "recovered", "not supported")
"""Statuses of runs whose accuracy was not measured."""
_MOTION_ADVICE = (
    "Check head motion first. Motion by one voxel or more invalidates fine detail, so exclude or"
    " repeat such a run."
)
_REGISTRATION_PREFIXES = ("bold_t1w_", "bold_pair_")  # keys of registration facts
_FLAG_SECTION = "guards"
"""Section of the page with the details of flags."""
_FLAGS_WITH_SERIES = ("harm", "lost_activation")
"""Flags whose checks name the series that raised the flag."""
_MAX_NEXT_STEPS = 2


@frozen
class MapFiles:
    """Patterns of the stored files of a method at one smoothing width, for all contrasts.

    Patterns are relative to the output directory. `maps` are effects, or maps of the displayed
    statistic if effects are not stored. `total_sds` are total standard deviations of effects, and
    `sign_reliable` and `size_known` masks of these voxels; "" if they are not stored. `fwhm_mm` is
    the smoothing (FWHM).
    """

    fwhm_mm: float
    maps: str
    total_sds: str = ""
    sign_reliable: str = ""
    size_known: str = ""


@frozen
class RunFacts:
    """Facts about the acquisition and the outputs of a run.

    `acquired_mm` and `super_resolved_mm` are voxel sizes (mm) before and after super-resolution.
    `displacement` is the FD (mm) of each volume. `described` is the description in the sidecar of
    the series, such as that it was simulated; "" if there is no description. `calibrated` states
    whether there is a calibration run; whether it was used is part of the self-test results.
    `at_rest` states whether maps are of seeds instead of conditions.

    `files` are the stored files of the best method, by ascending smoothing width. `only_run`
    states whether the run is the only one of its task, so that its map is the participant's map.
    """

    entities: Mapping[str, str]
    acquired_mm: Sequence[float]
    super_resolved_mm: Sequence[float]
    displacement: Sequence[float]
    described: str = ""
    calibrated: bool = False
    at_rest: bool = False
    files: Sequence[MapFiles] = ()
    only_run: bool = False


class Card(NamedTuple):
    """Card of the first screen: a value, a clause about it, and facts, one per line.

    `hint` is a definition that is shown as a tooltip; it may be empty.
    """

    value: str
    label: str
    facts: tuple[str, ...] = ()
    hint: str = ""


def overview_html(
    verdict: VerdictFacts,
    evidence: RunEvidence,
    rows: Sequence[MetricRow],
    registration: Mapping[str, object],
    run: RunFacts,
) -> Markup:
    """Render the first screen of a run from its verdict, and the evidence for the verdict.

    `rows` are rows of the evaluation, and `registration` are facts of the registration.
    """
    status, best, results = verdict["status"], evidence.best, evidence.best_results
    agreement, accuracy = evidence.agreement, evidence.accuracy
    checks = [
        *motion_checks(run.displacement),
        *registration_checks(registration),
        *flag_checks(evidence),
    ]
    # The warning above the headline contains the results of methods that were not applied.
    basis = [
        *(_describe_reference(agreement, run) if agreement is not None and best else ()),
        *(_explain_untested(evidence) if agreement is None or not best else ()),
        _define_methods(
            [name for name in [best, *evidence.methods] if name != best or not results]
        ),
        ONLY_RUN if run.only_run else "",
    ]
    cards = (
        _make_unmeasured_cards(evidence)
        if accuracy is None
        else _make_measured_cards(evidence, accuracy, run)
    )
    # Lines on the contrasts precede the table; comparisons with other series follow it.
    has_table = any(result.has_values for result in results.values())
    lines = verdict["lines"]
    further_lines = [line for line in lines if has_table and line["topic"] != "contrasts"]
    return render(
        "overview",
        _header_text(run),
        words.capitalize(run.described),
        _mark_lines([line for line in lines if line not in further_lines]),
        MARKS[status].css_class,
        _name_basis(evidence, run),
        _mark_lines(further_lines),
        Markup(" ").join(filter(None, basis)),
        leading_sentences(verdict),
        [*cards, _make_check_card(checks, measured=accuracy is not None)],
        render_contrasts(results, rows, best, evidence.self_test, at_rest=run.at_rest),
        checks,
        _write_cautions(evidence),
        _choose_next_steps(
            verdict,
            _list_remedies(evidence),
            run,
            undecided=bool(evidence.methods) and (agreement is None or accuracy is not None),
            recovered=[name for name, result in results.items() if result.state == "recovered"],
        ),
    )


class _Check(NamedTuple):
    """Result of a check, with a text and the section with details."""

    passed: bool
    text: str
    section: str


def motion_checks(displacement: Sequence[float]) -> list[_Check]:
    """Check the framewise displacement (FD, mm) of the volumes, [] if it is unknown."""
    text = describe_motion(displacement)
    return [_Check(not is_motion_large(displacement), text, "motion")] if text else []


def registration_checks(facts: Mapping[str, object]) -> list[_Check]:
    """Check the registrations for warnings, [] if nothing was registered."""
    n_warnings = len(registration_warnings(facts))
    if not n_warnings and not any(key.startswith(_REGISTRATION_PREFIXES) for key in facts):
        return []
    noun = "warnings" if n_warnings > 1 else "warning"
    text = f"Registration: {n_warnings} {noun}" if n_warnings else "Registration"
    return [_Check(not n_warnings, text, "registration")]


def flag_checks(evidence: RunEvidence) -> list[_Check]:
    """Return one check per flag, failed checks first.

    The check of added detail also fails if the best method's detail is worse than no detail in any
    contrast.
    """
    accuracy = evidence.accuracy
    harm_basis = " (self-test)" if accuracy is None else f" (contrast {accuracy.contrast})"
    n_wrong = len(evidence.wrong_rows.get(evidence.best, {}))
    checks = []
    for name, raised_by in evidence.raised_flags.items():
        if name == "harm" and not raised_by and n_wrong:
            text = Statement.WRONG_IN_BRAIN.format(
                series=evidence.best,
                n=n_wrong,
                total=len(evidence.brain_rows[evidence.best]),
                names="",
            )
            checks.append(_Check(False, text, _FLAG_SECTION))
            continue
        series_texts = [
            _name_wrong_series(series, accuracy) if name == "harm" else series
            for series in dict.fromkeys(raised_by)
        ]
        raised_text = (
            f": {', '.join(series_texts)}" if name in _FLAGS_WITH_SERIES and raised_by else ""
        )
        outcome = FLAGS[name].failed if raised_by else FLAGS[name].passed
        text = f"{outcome}{harm_basis if name == 'harm' else ''}{raised_text}"
        checks.append(_Check(not raised_by, text, _FLAG_SECTION))
    return sorted(checks, key=lambda check: check.passed)


def _name_wrong_series(series: str, evidence: Evidence | None) -> str:
    """Return a series with the regions of its wrong detail, if they were measured."""
    wrong_rows = {} if evidence is None else evidence.select_finite_rows(series)
    regions = [
        words.active_words(region)[0] for region, row in wrong_rows.items() if is_below_zero(row)
    ]
    return f"{series} in {' and '.join(regions)}" if regions else series


def _describe_reference(evidence: Evidence, run: RunFacts) -> list[str]:
    """Return sentences on the reference, the comparison and the contrast."""
    map_noun = "seed" if run.at_rest else "contrast"
    sentences = [
        Statement.DETAIL,
        Markup(Statement.REFERENCE).format(
            reference=_name_reference(evidence, run),
            map_noun=map_noun,
            contrast=Markup("<em>{}</em>").format(evidence.contrast),
            smoothing="",
        ),
    ]
    if evidence.reference == HALVES:
        unit = "the run" if run.at_rest else "the task blocks"
        sentences.append(Statement.HALVES.format(unit=unit))
    return sentences


def _explain_untested(evidence: RunEvidence) -> list[str]:
    """Return the reasons why methods have no self-test."""
    untested = list_untested(evidence.self_test, evidence.methods)
    return [sentence.text for sentence in untested]


def _define_methods(methods: Sequence[str]) -> str:
    """Return definitions of the methods' names, such as ``sbl: sparse Bayesian learning.``"""
    summaries = {name: series_text.summarize_method(name) for name in methods if name}
    return " ".join(f"{name}: {summary}." for name, summary in summaries.items() if summary)


def _make_unmeasured_cards(evidence: RunEvidence) -> list[Card]:
    """Return a card with the accuracy in earlier runs if the run was neither measured nor tested.

    The list is empty if contrasts were tested or no method was applied.
    """
    if any(result.has_values for result in evidence.best_results.values()):
        return []
    return _make_earlier_cards(
        evidence.best,
        calibrated=evidence.self_test.calibrated,
        no_detail=evidence.agreement is not None,
    )


def _make_earlier_cards(best: str, *, calibrated: bool, no_detail: bool) -> list[Card]:
    """Return a card with the accuracy of a method in earlier runs; [] if no method was applied.

    `calibrated` is True if a calibration run was used, and `no_detail` if the run has a reference
    without reproducible detail.
    """
    if not best:
        return []
    earlier = EARLIER_ACCURACY[calibrated]
    label = (
        "The high-resolution reference has no reproducible detail."
        if no_detail
        else "This run has no high-resolution reference."
    )
    text = (
        f"In other runs, sbl explained {earlier.active} of the true detail in active voxels and"
        f" {earlier.brain} in the whole brain ({earlier.where})."
    )
    return [Card("not measured", label, (text,) if best == "sbl" else (), _EXPLAINED_HINT)]


def _make_measured_cards(evidence: RunEvidence, accuracy: Evidence, run: RunFacts) -> list[Card]:
    """Return cards with the measured accuracy of the best method."""
    unit = "segments" if run.at_rest else "blocks"
    result = evidence.best_results.get(accuracy.contrast)
    state = "" if result is None else result.state
    return [
        _make_level_card(accuracy, evidence.best, unit, evidence.methods, state),
        *_make_correct_cards(accuracy, evidence.best, unit),
    ]


def _make_level_card(
    evidence: Evidence, best: str, unit: str, applied_methods: Sequence[str], state: str = ""
) -> Card:
    """Return a card with the accuracy of the best method and of other series in active voxels.

    `state` is the result in the table of contrasts; "" if there is no table.
    """
    is_explained_variance = evidence.reference.statistic == "ev"
    hint = _EXPLAINED_HINT if is_explained_variance else Statement.CORRELATION
    label = (
        f"of the true detail of {quote_contrast(evidence.contrast)} is explained by {best}"
        " (explained variance)"
        if is_explained_variance
        else f"correlation between detail in the {best} map and detail in the reference"
    )
    if (row := evidence.select_finite_rows(best).get(evidence.regions[0])) is None:
        return Card("–", label, ("Not assessed",), hint)
    state_text = f": {state}" if state else ""
    rival_facts = _list_rivals(evidence, best, applied_methods)
    facts = _list_region_facts(evidence, row, unit, *rival_facts)
    return Card(level_text(row), f"{label}{state_text}", facts, hint)


def _list_rivals(evidence: Evidence, best: str, applied_methods: Sequence[str]) -> list[str]:
    """Return the accuracy of the series that the best method competes with, one per line.

    These are B-spline, the most accurate baseline or control, and the other methods.
    """
    levels = {row.series: row for row in evidence.levels() if row.region == evidence.regions[0]}
    baseline_levels = {
        name: row
        for name, row in levels.items()
        if (name in BASELINES or name in CONTROLS)
        and row.statistic == evidence.reference.statistic
        and math.isfinite(row.value)
    }
    entries = [f"B-spline interpolation: {level_text(evidence.row('bspline'))}"]
    strongest_name = max(
        baseline_levels, key=lambda name: baseline_levels[name].value, default="bspline"
    )
    if strongest_name != "bspline":
        title = CONTROLS.get(strongest_name, strongest_name)
        entries.append(
            f"Strongest baseline ({title}): {level_text(baseline_levels[strongest_name])}"
        )
    entries += [
        f"{name}: {level_text(evidence.row(name))}"
        for name in applied_methods
        if name != best and evidence.row(name) is not None
    ]
    return entries


def _make_correct_cards(evidence: Evidence, best: str, unit: str) -> list[Card]:
    """Return a card with the correct fraction of the best method's detail, [] if it is unknown."""
    row = evidence.row(best, statistic="correct_fraction")
    if row is None or not math.isfinite(row.value):
        return []
    label = (
        f"of the detail in the {best} map is correct (squared correlation with the true detail)"
    )
    return [Card(level_text(row), label, _list_region_facts(evidence, row, unit), _CORRECT_HINT)]


def _list_region_facts(
    evidence: Evidence, row: MetricRow, unit: str, *details: str
) -> tuple[str, ...]:
    """Return facts on a level of accuracy, one per line of the card.

    They are its region, its confidence interval, `details`, and the level in the whole brain.
    """
    ends = level_interval_text(row)
    interval_text = (
        f"95 % interval over {unit}: {with_non_breaking_spaces(ends)}"
        if ends
        else "No confidence interval"
    )
    name, definition = words.active_words(evidence.regions[0])
    region = words.capitalize(name) + (f" ({definition})" if definition else "")
    facts = [f"Region: {region[:1].lower()}{region[1:]}", interval_text, *details]
    if evidence.regions[0] != "brain":
        brain = evidence.row(row.series, "brain", statistic=row.statistic)
        facts.append(f"Whole brain: {estimate_text(brain)}")
    return tuple(facts)


def estimate_text(row: MetricRow | None) -> str:
    """Return the accuracy of a series with its confidence interval, such as ``35 % [22, 42]``."""
    if row is None:
        return level_text(row)
    return with_non_breaking_spaces(
        f"{level_text(row)} {level_interval_text(row, unit=False)}".strip()
    )


def level_text(row: MetricRow | None) -> str:
    """Return the accuracy of a series as text: explained variance in percent, or a correlation.

    The text is ``n/a`` if the accuracy is unknown.
    """
    if row is None or row.statistic == "r" or not math.isfinite(row.value):
        return number(math.nan if row is None else row.value)
    return number(row.value, ".0%")


def level_interval_text(row: MetricRow, *, unit: bool = True) -> str:
    """Return the confidence interval of a level as text; "" if there is no interval."""
    return interval(row.lower, row.upper, "" if row.statistic == "r" else ".0%", unit=unit)


def _header_text(run: RunFacts) -> str:
    """Return participant, run, number of volumes, and voxel sizes before and after."""
    sizes = f"{size_text(run.acquired_mm)} → {size_text(run.super_resolved_mm)}"
    participant = f"sub-{run.entities['subject']}"
    volumes = f"{len(run.displacement)} volumes"
    return " · ".join([participant, run_text(run.entities), volumes, sizes])


class _MarkedLine(NamedTuple):
    """Line of the verdict after its symbol."""

    mark: str
    text: str


def _mark_lines(lines: Iterable[Mapping[str, str]]) -> list[_MarkedLine]:
    """Return the symbol and the text of lines of the verdict."""
    return [_MarkedLine(_get_status_symbol(line["status"]), line["text"]) for line in lines]


def _get_status_symbol(status: str) -> str:
    """Return the symbol of a status."""
    return MARKS.get(status, MARKS["not assessed"]).symbol


def _name_basis(evidence: RunEvidence, run: RunFacts) -> str:
    """Return a short sentence on the basis of the headline, "" if there are no results."""
    if evidence.accuracy is not None:
        return f"Basis: comparison with {_name_reference(evidence.accuracy, run)}."
    if not any(result.has_values for result in evidence.best_results.values()):
        return ""
    test_text = Statement.SINGLE_RUN_TEST.format(sizes=evidence.self_test.levels_text)
    return f"Basis: {test_text}. Accuracy at the final resolution was not measured."


def _name_reference(evidence: Evidence, run: RunFacts) -> str:
    """Return the reference in words, with its voxel size."""
    changed_mm = [
        new_size
        for new_size, acquired_size in zip(run.super_resolved_mm, run.acquired_mm, strict=True)
        if abs(new_size - acquired_size) > _SIZE_TOLERANCE_MM
    ] or list(run.super_resolved_mm)
    is_isotropic = max(changed_mm) - min(changed_mm) < _SIZE_TOLERANCE_MM
    resolution_text = size_text(changed_mm[:1] if is_isotropic else changed_mm)
    return evidence.reference.words.replace("at the high resolution", f"at {resolution_text}")


def _make_check_card(checks: Sequence[_Check], *, measured: bool) -> Card:
    """Return a card with the number of passed checks, and the failed checks."""
    failed_texts = [check.text for check in checks if not check.passed]
    facts = [f"Failed: {text}" for text in failed_texts]
    if not measured:
        facts.append("These checks do not measure accuracy.")
    n_passed = len(checks) - len(failed_texts)
    return Card(f"{n_passed} of {len(checks)}", "checks passed", tuple(facts))


def _write_cautions(evidence: RunEvidence) -> str:
    """Name the contrasts with wrong detail in the whole brain, per method other than the best.

    Results of the best method are in the table of contrasts. The text is empty if no explained
    variance is below 0.
    """
    cautions = []
    for method, wrong_rows in evidence.wrong_rows.items():
        if method == evidence.best:
            continue
        brain_rows = evidence.brain_rows[method]
        contrasts = _name_contrasts(
            {name: row.value for name, row in wrong_rows.items()},
            [name for name in brain_rows if name not in wrong_rows],
        )
        cautions.append(
            Markup(f"{Statement.WRONG_IN_BRAIN}.").format(
                series=method,
                n=len(wrong_rows),
                total=len(brain_rows),
                names=Markup(": {}").format(contrasts),
            )
        )
    return Markup(" ").join(cautions)


def _name_contrasts(wrong_values: Mapping[str, float], other_contrasts: Sequence[str]) -> str:
    """Name contrasts with wrong detail: each with its value or, if there are many, the others.

    `wrong_values` are the explained variances of contrasts with wrong detail. `other_contrasts`
    are the contrasts without wrong detail, which the text excludes from "every contrast".
    """
    if len(wrong_values) <= max(_MAX_NAMED_CONTRASTS, len(other_contrasts)):
        entries = [
            Markup("<em>{}</em> {}").format(name, with_non_breaking_spaces(number(value, ".0%")))
            for name, value in wrong_values.items()
        ]
        return Markup(", ").join(entries)
    if not other_contrasts:
        return "every contrast"
    return Markup("every contrast other than {}").format(
        Markup(", ").join(Markup("<em>{}</em>").format(name) for name in other_contrasts)
    )


def with_non_breaking_spaces(text: str) -> str:
    """Return a text with non-breaking spaces."""
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def _choose_next_steps(
    verdict: VerdictFacts,
    remedies: Sequence[str],
    run: RunFacts,
    *,
    undecided: bool,
    recovered: Sequence[str] = (),
) -> list[str]:
    """Return at most two next steps, the most useful first.

    `undecided` is True if a method was applied and the run has no reference, rather than a
    reference without detail. `recovered` are the contrasts of the best method whose detail is
    recovered in active voxels.
    """
    status, best = verdict.get("status", "not assessed"), verdict.get("best", "")
    steps = [_MOTION_ADVICE] if verdict.get("motion_text") else []
    steps += remedies
    if verdict.get("not_applied") and not run.calibrated:
        steps.append(
            f"Acquire {_CALIBRATION_TEXT}. With a calibration run, methods can be applied to more"
            " runs."
        )
    if status == "more accurate" or (status in _UNMEASURED_STATUSES and recovered):
        steps.append(_advise_maps(best, run))
    if status in _UNMEASURED_STATUSES and undecided:
        steps += _advise_measurement(best, run)
    if status == "not more accurate" and recovered:
        steps.append(
            f"Interpret the {best} maps as stated in the table, but simpler series may be as"
            " accurate (see Evidence)."
        )
    elif status == "not more accurate":
        steps.append(
            "Use the B-spline maps, because finer detail in the other maps was not found to be"
            " accurate in this run."
        )
    return list(dict.fromkeys(steps))[:_MAX_NEXT_STEPS]


def _advise_maps(best: str, run: RunFacts) -> str:
    """Advise which maps to use for what, and how to test them next."""
    if not run.files:
        advice = Markup(
            "The {} maps were not stored. To store them, rerun with --level standard."
        ).format(best)
    else:
        least, *_ = run.files
        advice = Markup(
            "Use the {} maps (<code>{}</code>) as stated in the table of contrasts."
        ).format(best, least.maps)
        if least.total_sds:
            advice += Markup(
                " Their 95 % intervals are ± 1.96 of the total SD (<code>{}</code>)."
            ).format(least.total_sds)
        if least.sign_reliable:
            advice += Markup(
                " Interpret the sign of single voxels only in the masks of sign reliable voxels"
                " (<code>{}</code>), and the size of their effects, which is too large on average,"
                " only in the masks of size known voxels (<code>{}</code>)."
            ).format(least.sign_reliable, least.size_known)
        smoothed = [
            files for files in run.files if files.sign_reliable and files.fwhm_mm > least.fwhm_mm
        ]
        if smoothed:
            advice += Markup(
                " To find active regions, use the masks of the maps that are smoothed with {} mm"
                " FWHM (<code>{}</code>), whose errors are smaller."
            ).format(f"{smoothed[0].fwhm_mm:g}", smoothed[0].sign_reliable)
    return advice + " Test at the group level whether the result generalizes."


def _advise_measurement(best: str, run: RunFacts) -> list[str]:
    """Advise how to measure the accuracy of a method, and how to improve the maps of sbl."""
    coarser_mm = [
        acquired_size**2 / new_size
        for acquired_size, new_size in zip(run.acquired_mm, run.super_resolved_mm, strict=True)
    ]
    steps = [
        f"To measure the accuracy of {best or 'a method'} in this participant and task, acquire a"
        f" run at {size_text(run.super_resolved_mm)} and process this run with --retrospective:"
        " the run is then downsampled, super-resolved and compared with the acquired data."
        " Without another scan, use --retrospective with the present run to see how well"
        f" {size_text(run.acquired_mm)} is recovered from {size_text(coarser_mm)}."
    ]
    if best == "sbl" and not run.calibrated:
        earlier = EARLIER_ACCURACY[True]
        steps.append(
            f"To improve the maps in another session, acquire {_CALIBRATION_TEXT}. In earlier"
            f" data ({earlier.where}), sbl explained {earlier.active} of the true detail in"
            f" active voxels with a calibration run and {UNCALIBRATED_RANGE} without one."
        )
    return steps


def _list_remedies(evidence: RunEvidence) -> list[str]:
    """Return advice for each raised quality-control flag."""
    remedies = (
        FLAGS[name].remedy.format(series=series)
        for name, raised_by in evidence.raised_flags.items()
        for series in raised_by
    )
    return list(filter(None, remedies))
