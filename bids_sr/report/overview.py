"""First screen of a run: verdict, cards with values, checks, cautions and the next steps.

Its contents are computed from the verdict and the rows of the evaluation.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from markupsafe import Markup

from bids_sr.combination import ONLY_RUN
from bids_sr.evaluation import motion_text, series_text, words
from bids_sr.evaluation.detail_support import COVERAGE, ContrastSupport, classify_detail
from bids_sr.evaluation.evidence import (
    ACQUIRED_ACTIVE,
    HALVES,
    KNOWN,
    Evidence,
    accuracy_evidence,
    derives_from,
    find_strongest,
    is_below_zero,
    select_applied,
)
from bids_sr.evaluation.motion_text import MOVED_MM
from bids_sr.evaluation.qc_flags import find_raised_flags
from bids_sr.evaluation.self_test import (
    EARLIER_ACCURACY,
    UNCALIBRATED_RANGE,
    SelfTestResults,
    parse_self_test,
)
from bids_sr.evaluation.support_text import BLIND_SPOT, main_contrast
from bids_sr.evaluation.verdict_text import leading_sentences
from bids_sr.evaluation.words import MARKS
from bids_sr.frozen import frozen
from bids_sr.io.grids import size_text
from bids_sr.metrics.flags import FLAGS
from bids_sr.metrics.number_text import interval, number
from bids_sr.metrics.rows import MISSING, MetricRow, VerdictFacts
from bids_sr.report.markup import ColumnHead, render, table
from bids_sr.report.registration_facts import registration_warnings
from bids_sr.report.sections import run_text
from bids_sr.series import BASELINES, CONTROLS

_SIZE_TOLERANCE_MM = 1e-3  # mm, difference between voxel sizes that count as equal
_MAX_NAMED_CONTRASTS = 6
"""Largest number of contrasts in a caution; with more, the others are named if they are fewer."""
_DETAIL_TEXT = (
    "Detail is the part of the effect that is finer than the acquired voxels (above the acquired"
    " Nyquist frequency)."
)
_EXPLAINED_HINT = (
    "Explained variance above the acquired Nyquist frequency. A value of 100 % means that all of"
    " the true detail is recovered, 0 % that none is, and a value below 0 that the detail is"
    " wrong."
)
_CORRELATION_HINT = "Correlation between the maps above the acquired Nyquist frequency."
_CORRECT_HINT = (
    "Squared correlation between the detail in the map and the true detail. The value is a"
    " fraction of the energy of the detail, not of the voxels."
)
_RELIABLE_TEXT = (
    "Reliable voxels are the most significant voxels, selected such that at most 5 % of them are"
    " expected to have the wrong sign."
)
_CALIBRATION_TEXT = (
    "a calibration run (about 20 volumes at the high resolution, with the same slices)"
)
SELF_TEST_EXPLANATION = (
    "In the {test}, the acquired run was downsampled, super-resolved to the acquired resolution"
    " and compared with the acquired run. The values do not measure the accuracy at the final"
    " resolution, and values below 0 mean that the added detail is wrong. Only detail of contrasts"
    " that were tested may be interpreted, and only in reliable voxels."
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
class RunFacts:
    """Facts about the acquisition and the outputs of a run.

    Attributes
    ----------
    entities : Mapping[str, str]
        Entities of the run.
    acquired_mm, super_resolved_mm : Sequence[float]
        Voxel sizes (mm) before and after super-resolution.
    displacement : Sequence[float]
        FD (mm) of each volume.
    described : str
        Description in the sidecar of the series, such as that it was simulated; "" without
        description.
    calibrated : bool
        Whether there is a calibration run. Whether it was used is part of the self-test results.
    at_rest : bool
        Whether maps are of seeds instead of conditions.
    maps, masks : str
        Patterns of the best method's maps and masks of reliable voxels, relative to the output
        directory; "" if they are not stored.
    only_run : bool
        Whether the run is the only one of its task, so that its map is the participant's map.
    """

    entities: Mapping[str, str]
    acquired_mm: Sequence[float]
    super_resolved_mm: Sequence[float]
    displacement: Sequence[float]
    described: str = ""
    calibrated: bool = False
    at_rest: bool = False
    maps: str = ""
    masks: str = ""
    only_run: bool = False


class Card(NamedTuple):
    """Card of the first screen: a value, a clause about it, and facts, one per line.

    `hint` is a definition that is shown as a tooltip; it may be empty.
    """

    value: str
    label: str
    facts: tuple[str, ...] = ()
    hint: str = ""


class _Check(NamedTuple):
    """Result of a check, with a text and the section with details."""

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

    Parameters
    ----------
    verdict : VerdictFacts
        Verdict of the run.
    rows : Sequence[MetricRow]
        Rows of the evaluation.
    registration : Mapping[str, object]
        Registration facts.
    run : RunFacts
        Facts about the run.
    one_level : Mapping[str, object], optional
        Self-test results from JSON; None if the self-test was not run.
    contrast : str
        Contrast of the reliable voxels.
    """
    status, best = verdict.get("status", "not assessed"), verdict.get("best", "")
    applied_methods = select_applied(rows)
    unapplied_methods = verdict.get("not_applied", [])
    detail = find_strongest("function", rows, applied_methods)
    evidence = accuracy_evidence(rows, applied_methods)
    self_test = parse_self_test(rows, one_level)
    has_self_test_only = evidence is None and self_test is not None
    checks = [
        *motion_checks(run.displacement),
        *registration_checks(registration),
        *flag_checks(rows, unapplied_methods, best=best, self_test=has_self_test_only),
    ]
    # The warning above the basis contains the results of methods that were not applied.
    basis = (
        _describe_reference(detail, run)
        if detail is not None and best
        else _explain_untested(self_test, applied_methods)
    )
    supports = classify_detail(rows, best) if best else {}
    test_name = "self-test" if self_test is None else self_test.test_text
    if evidence is not None:
        cards = _make_measured_cards(evidence, best, applied_methods, run)
    else:
        cards = _make_unmeasured_cards(best, supports, self_test, no_detail=detail is not None)
    reliable_cards = _make_reliable_cards(rows, best, contrast, test_name, supports)
    test_explanation = [SELF_TEST_EXPLANATION.format(test=test_name), BLIND_SPOT]
    explanations = [
        *(test_explanation if supports and evidence is None else ()),
        *(_explain_reliable(rows, best, contrast, test_name) if reliable_cards else ()),
    ]
    is_best_wrong = any(value < 0 for value in _select_brain_values(rows, evidence, best).values())
    has_no_detail = detail is not None and detail.no_detail
    return render(
        "overview",
        _header_text(run),
        _describe_run(run),
        _mark_lines(verdict),
        MARKS.get(status, MARKS["not assessed"]).css_class,
        Markup(" ").join(basis),
        _define_methods([best, *applied_methods]),
        leading_sentences(verdict),
        [*cards, *reliable_cards, _make_check_card(checks, measured=evidence is not None)],
        explanations,
        _render_contrasts(supports, rows, best),
        checks,
        _write_cautions(rows, evidence, best),
        _choose_next_steps(
            verdict,
            _list_remedies(rows, unapplied_methods),
            run,
            undecided=bool(applied_methods) and not has_no_detail,
            cautioned=is_best_wrong,
        ),
    )


def _make_measured_cards(
    evidence: Evidence, best: str, applied_methods: Sequence[str], run: RunFacts
) -> list[Card]:
    """Return cards with the measured accuracy of the best method."""
    unit = "segments" if run.at_rest else "blocks"
    return [
        _make_level_card(evidence, best, unit, applied_methods),
        *_make_correct_cards(evidence, best, unit),
    ]


def _make_unmeasured_cards(
    best: str,
    supports: Mapping[str, ContrastSupport],
    self_test: SelfTestResults | None,
    *,
    no_detail: bool,
) -> list[Card]:
    """Return a card for a run whose accuracy was not measured; [] if no method was applied.

    The card contains tested detail or, without tested detail, the accuracy in earlier runs.
    `no_detail` is True if the run has a reference without reproducible detail.
    """
    if supports:
        return [_make_tested_card(best, supports, self_test or SelfTestResults())]
    is_calibrated = self_test is not None and self_test.calibrated
    return _make_earlier_cards(best, calibrated=is_calibrated, no_detail=no_detail)


def _mark_lines(verdict: VerdictFacts) -> list[tuple[str, str]]:
    """Return the symbol and the text of each line of the verdict."""
    lines = verdict.get("lines") or [
        {"text": verdict.get("headline", ""), "status": verdict.get("status", "not assessed")}
    ]
    return [(_get_status_symbol(line["status"]), line["text"]) for line in lines]


def _describe_run(run: RunFacts) -> str:
    """Return the description of the run, and a remark if it is the only run of its task."""
    remarks = [words.capitalize(run.described), ONLY_RUN if run.only_run else ""]
    return " ".join(filter(None, remarks))


def _explain_untested(self_test: SelfTestResults | None, methods: Sequence[str]) -> list[str]:
    """Return the reasons why methods were not tested, [] without a self-test."""
    if self_test is None:
        return []
    reasons = (words.untested_reason(self_test, name) for name in methods)
    return [f"{reason}." for reason in reasons if reason]


def _define_methods(methods: Sequence[str]) -> str:
    """Return definitions of the methods' names, such as ``sbl: sparse Bayesian learning.``"""
    summaries = {name: series_text.summarize_method(name) for name in methods if name}
    return " ".join(f"{name}: {summary}." for name, summary in summaries.items() if summary)


def _get_status_symbol(status: str) -> str:
    """Return the symbol of a status."""
    return MARKS.get(status, MARKS["not assessed"]).symbol


def _header_text(run: RunFacts) -> str:
    """Return participant, run, number of volumes, and voxel sizes before and after."""
    sizes = f"{size_text(run.acquired_mm)} → {size_text(run.super_resolved_mm)}"
    participant = f"sub-{run.entities['subject']}"
    volumes = f"{len(run.displacement)} volumes"
    return " · ".join([participant, run_text(run.entities), volumes, sizes])


def _describe_reference(evidence: Evidence, run: RunFacts) -> list[str]:
    """Return sentences on the reference, the comparison and the contrast."""
    changed_mm = [
        new_size
        for new_size, acquired_size in zip(run.super_resolved_mm, run.acquired_mm, strict=True)
        if abs(new_size - acquired_size) > _SIZE_TOLERANCE_MM
    ] or list(run.super_resolved_mm)
    is_isotropic = max(changed_mm) - min(changed_mm) < _SIZE_TOLERANCE_MM
    resolution_text = size_text(changed_mm[:1] if is_isotropic else changed_mm)
    reference_text = evidence.reference.words.replace(
        "at the high resolution", f"at {resolution_text}"
    )
    map_noun = "seed" if run.at_rest else "contrast"
    sentences = [
        _DETAIL_TEXT,
        Markup("The reference is {}, and the {} is <em>{}</em>.").format(
            reference_text, map_noun, evidence.contrast
        ),
    ]
    if evidence.reference is HALVES:
        resampling_unit = "the run" if run.at_rest else "the task blocks"
        sentences.append(
            f"Each series in one half of {resampling_unit} is compared with the reference in the"
            " other half."
        )
    return sentences


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


def estimate_text(row: MetricRow | None) -> str:
    """Return the accuracy of a series with its confidence interval, such as ``35 % [22, 42]``."""
    if row is None:
        return level_text(row)
    return with_non_breaking_spaces(
        f"{level_text(row)} {level_interval_text(row, unit=False)}".strip()
    )


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


def _make_level_card(
    evidence: Evidence, best: str, unit: str, applied_methods: Sequence[str]
) -> Card:
    """Return a card with the accuracy of the best method and of other series in active voxels."""
    is_explained_variance = evidence.reference.statistic == "ev"
    hint = _EXPLAINED_HINT if is_explained_variance else _CORRELATION_HINT
    label = (
        f"of the true detail is explained by {best} (explained variance)"
        if is_explained_variance
        else f"correlation between detail in the {best} map and detail in the reference"
    )
    if (row := evidence.select_finite_rows(best).get(evidence.regions[0])) is None:
        return Card("–", label, ("Not assessed",), hint)
    warning = ": wrong detail" if is_explained_variance and is_below_zero(row) else ""
    rival_facts = _list_rivals(evidence, best, applied_methods)
    facts = _list_region_facts(evidence, row, unit, *rival_facts)
    return Card(level_text(row), f"{label}{warning}", facts, hint)


def _make_correct_cards(evidence: Evidence, best: str, unit: str) -> list[Card]:
    """Return a card with the correct fraction of the best method's detail, [] if it is unknown."""
    row = evidence.row(best, statistic="correct_fraction")
    if row is None or not math.isfinite(row.value):
        return []
    label = (
        f"of the detail in the {best} map is correct (squared correlation with the true detail)"
    )
    return [Card(level_text(row), label, _list_region_facts(evidence, row, unit), _CORRECT_HINT)]


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


def _make_tested_card(
    best: str, supports: Mapping[str, ContrastSupport], self_test: SelfTestResults
) -> Card:
    """Return a card with the tested detail of the main contrast of the best method."""
    support = supports[main_contrast(supports)]
    if support.state == "not testable" or support.active.row is None:
        label = f"detail of contrast “{support.contrast}” in the {best} map"
        return Card("not testable", label, (words.capitalize(support.active.reason) + ".",))
    value_text = number(support.active.row.value, ".0%")
    warning = ": not supported" if support.state == "not supported" else ""
    label = (
        f"of the detail of contrast “{support.contrast}” in active voxels was recovered by {best}"
        f" at half the resolution{self_test.levels_text}{warning}"
    )
    return Card(value_text, label, (f"95 % interval: {level_interval_text(support.active.row)}",))


def _render_contrasts(
    supports: Mapping[str, ContrastSupport], rows: Sequence[MetricRow], best: str
) -> Markup:
    """Render the tested detail of all contrasts, next to the measured detail if there is any."""
    measured_rows = {
        (row.contrast, row.region): row
        for row in rows
        if (row.series, row.statistic, row.band, row.minus) == (best, "ev", "beyond", MISSING)
        and row.reference in (HALVES.name, KNOWN.name)
        and math.isfinite(row.value)
    }
    regions = (("active voxels", ACQUIRED_ACTIVE), ("whole brain", "brain"))
    heads: list[ColumnHead] = ["contrast", ("result", "active voxels")]
    heads += [("recovered", name) for name, _ in regions]
    if measured_rows:
        heads += [("measured", name) for name, _ in regions]
    table_rows = []
    for contrast, support in supports.items():
        reason = f": {support.active.reason}" if support.active.reason else ""
        cells = [contrast, f"{support.state}{reason}"]
        cells += [
            estimate_text(None if result.state == "not testable" else result.row)
            for result in (support.active, support.brain)
        ]
        if measured_rows:
            cells += [
                estimate_text(measured_rows.get((contrast, region))) for _, region in regions
            ]
        table_rows.append(cells)
    return table(
        f"Detail recovered by {best} at half the resolution, per contrast (95 % interval)",
        heads,
        table_rows,
        texts=(1,),
    )


class _ErrorValues(NamedTuple):
    """Values of a map with an error estimate, by statistic and threshold, and its FWHM (mm)."""

    fwhm_mm: float
    values: Mapping[tuple[str, str], float]


def _find_error_values(rows: Sequence[MetricRow], best: str, contrast: str) -> _ErrorValues | None:
    """Return the values of a contrast at its smallest smoothing; None if there is no SD map."""
    best_rows = [
        row
        for row in rows
        if (row.series, row.contrast, row.reference) == (best, contrast, MISSING)
    ]
    widths = [row.fwhm_mm for row in best_rows if row.statistic == "expected_wrong"]
    if not widths:
        return None
    smallest_width = min(widths)
    values = {
        (row.statistic, row.threshold): row.value
        for row in best_rows
        if row.fwhm_mm == smallest_width
    }
    return _ErrorValues(smallest_width, values)


def _make_reliable_cards(
    rows: Sequence[MetricRow],
    best: str,
    contrast: str,
    test_name: str,
    supports: Mapping[str, ContrastSupport],
) -> list[Card]:
    """Return a card with the number of reliable voxels in the best method's map.

    The list is empty if the map has no SD map. `test_name` is the name of the self-test, with its
    voxel sizes.
    """
    if (error_values := _find_error_values(rows, best, contrast)) is None:
        return []
    width, values = error_values
    n_significant = values["voxels", "fdr"]
    smoothing = f"smoothed with a {width:g} mm FWHM kernel" if width else "unsmoothed"
    map_text = f"Map: {best}, contrast {contrast}, {smoothing}"
    if not n_significant:
        return [Card("0", "significant voxels", (map_text,))]
    n_reliable = values.get(("voxels", "reliable"))
    label = "significant voxels are reliable"
    if n_reliable is not None:
        return [Card(f"{n_reliable:,.0f} of {n_significant:,.0f}", label, (map_text,))]
    coverages = [row.value for row in _select_coverage_rows(rows, best, contrast)]
    reason = "The self-test was not possible."
    if contrast in supports and supports[contrast].state == "not supported":
        reason = f"The {test_name} does not support the detail of this contrast."
    elif coverages:
        reason = (
            f"The {test_name} failed: the 95 % intervals contained the acquired effect in only"
            f" {number(coverages[0], '.0%')} of the voxels."
        )
    return [Card("none", f"of the {n_significant:,.0f} {label}", (map_text, reason))]


def _select_coverage_rows(rows: Sequence[MetricRow], best: str, contrast: str) -> list[MetricRow]:
    """Return the rows with the coverage of the intervals of a contrast in the self-test."""
    cells = (best, contrast, COVERAGE)
    return [row for row in rows if (row.series, row.contrast, row.statistic) == cells]


def _explain_reliable(
    rows: Sequence[MetricRow], best: str, contrast: str, test_name: str
) -> list[str]:
    """Return sentences that explain the card of reliable voxels."""
    error_values = _find_error_values(rows, best, contrast)
    if error_values is None or not error_values.values["voxels", "fdr"]:
        return ["No voxel passes FDR .05."]
    values = error_values.values
    wrong_text = number(values["expected_wrong", "fdr"], ".0%")
    sentences = [
        "Significant voxels pass FDR .05, which accounts for noise but not for reconstruction"
        f" error. If reconstruction error is included, {wrong_text} of all significant voxels are"
        " expected to have the wrong sign."
    ]
    if ("voxels", "reliable") in values:
        sentences.append(_RELIABLE_TEXT)
        sentences += [
            f"In the {test_name}, the 95 % intervals contained the acquired effect in"
            f" {number(row.value, '.0%')} of the voxels."
            for row in _select_coverage_rows(rows, best, contrast)
        ]
    return sentences


def _make_check_card(checks: Sequence[_Check], *, measured: bool) -> Card:
    """Return a card with the number of passed checks, and the failed checks."""
    failed_texts = [check.text for check in checks if not check.passed]
    facts = [f"Failed: {text}" for text in failed_texts]
    if not measured:
        facts.append("These checks do not measure accuracy.")
    n_passed = len(checks) - len(failed_texts)
    return Card(f"{n_passed} of {len(checks)}", "checks passed", tuple(facts))


def motion_checks(displacement: Sequence[float]) -> list[_Check]:
    """Check the framewise displacement (FD, mm) of the volumes, [] if it is unknown."""
    if (motion := motion_text.motion_summary(displacement)) is None:
        return []
    mean, moved_fraction = motion
    threshold_text = (
        f", above {MOVED_MM:g} mm in {number(moved_fraction, '.0%')} of the volumes"
        if moved_fraction
        else ""
    )
    text = f"Head motion: mean framewise displacement {mean:.2f} mm{threshold_text}"
    return [_Check(not motion_text.is_motion_large(displacement), text, "motion")]


def registration_checks(facts: Mapping[str, object]) -> list[_Check]:
    """Check the registrations for warnings, [] if nothing was registered."""
    n_warnings = len(registration_warnings(facts))
    if not n_warnings and not any(key.startswith(_REGISTRATION_PREFIXES) for key in facts):
        return []
    noun = "warnings" if n_warnings > 1 else "warning"
    text = f"Registration: {n_warnings} {noun}" if n_warnings else "Registration"
    return [_Check(not n_warnings, text, "registration")]


def flag_checks(
    rows: Sequence[MetricRow],
    not_applied: Sequence[str] = (),
    *,
    best: str = "",
    self_test: bool = False,
) -> list[_Check]:
    """Return one check per flag, failed checks first.

    The check of added detail also fails if the best method's detail is worse than no detail in any
    contrast.

    Parameters
    ----------
    rows : Sequence[MetricRow]
        Rows of the evaluation.
    not_applied : Sequence[str]
        Methods whose series are zero filled; their flags are ignored.
    best : str
        Best method of the verdict; "" if there is none.
    self_test : bool
        Whether added detail was only assessed by the self-test.
    """
    checks = []
    applied_rows = [row for row in rows if not derives_from(row.series, not_applied)]
    evidence = accuracy_evidence(applied_rows, select_applied(applied_rows))
    contrast_text = f" (contrast {evidence.contrast})" if evidence is not None else ""
    values = _select_brain_values(applied_rows, evidence, best)
    n_wrong = sum(value < 0 for value in values.values())
    for name, raised_by in find_raised_flags(applied_rows).items():
        if name == "harm" and not raised_by and n_wrong:
            text = f"Detail added by {best} is wrong in {n_wrong} of {len(values)} contrasts"
            checks.append(_Check(False, text, _FLAG_SECTION))
            continue
        basis_text = (" (self-test)" if self_test else contrast_text) if name == "harm" else ""
        raised_text = (
            f": {', '.join(dict.fromkeys(raised_by))}"
            if name in _FLAGS_WITH_SERIES and raised_by
            else ""
        )
        outcome = FLAGS[name].failed if raised_by else FLAGS[name].passed
        text = f"{outcome}{basis_text}{raised_text}"
        checks.append(_Check(not raised_by, text, _FLAG_SECTION))
    return sorted(checks, key=lambda check: check.passed)


def _write_cautions(rows: Sequence[MetricRow], evidence: Evidence | None, best: str) -> str:
    """Name the contrasts with wrong detail in the whole brain, per method.

    The best method comes first. The text is empty if no explained variance is below 0.
    """
    if evidence is None or evidence.reference.statistic != "ev":
        return ""
    cautions = []
    for method in sorted(select_applied(rows), key=lambda name: name != best):
        values = _select_brain_values(rows, evidence, method)
        wrong_values = {name: value for name, value in values.items() if value < 0}
        if wrong_values:
            contrasts = _name_contrasts(
                wrong_values, [name for name in values if name not in wrong_values]
            )
            cautions.append(
                Markup(
                    "In the whole brain, the detail added by {} is wrong (explained variance below"
                    " 0) in {} of {} contrasts: {}."
                ).format(method, len(wrong_values), len(values), contrasts)
            )
    return Markup(" ").join(cautions)


def _select_brain_values(
    rows: Sequence[MetricRow], evidence: Evidence | None, method: str
) -> dict[str, float]:
    """Return a method's explained variance in the brain by contrast, {} if not evaluated."""
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


def _list_remedies(rows: Sequence[MetricRow], not_applied: Sequence[str] = ()) -> list[str]:
    """Return advice for each raised quality-control flag.

    `not_applied` are methods whose series are zero filled; their flags are ignored.
    """
    remedies = (
        FLAGS[name].remedy.format(series=series)
        for name, raised_by in find_raised_flags(rows).items()
        for series in raised_by
        if not derives_from(series, not_applied)
    )
    return list(filter(None, remedies))


def _choose_next_steps(
    verdict: VerdictFacts,
    remedies: Sequence[str],
    run: RunFacts,
    *,
    undecided: bool,
    cautioned: bool = False,
) -> list[str]:
    """Return at most two next steps, the most useful first.

    `undecided` is True if a method was applied and the run has no reference, rather than a
    reference without detail. `cautioned` is True if the best method's detail is wrong in some
    contrasts.
    """
    status, best = verdict.get("status", "not assessed"), verdict.get("best", "")
    steps = [_MOTION_ADVICE] if verdict.get("motion_text") else []
    steps += remedies
    if verdict.get("not_applied") and not run.calibrated:
        steps.append(
            f"Acquire {_CALIBRATION_TEXT}. With a calibration run, methods can be applied to more"
            " runs."
        )
    if status in _UNMEASURED_STATUSES and undecided:
        steps += _advise_measurement(best, run)
    if status == "not more accurate":
        steps.append(
            "Use the B-spline maps, because finer detail in the other maps was not found to be"
            " accurate in this run."
        )
    if status == "more accurate":
        steps.append(_advise_maps(best, run, cautioned=cautioned))
    return list(dict.fromkeys(steps))[:_MAX_NEXT_STEPS]


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


def _advise_maps(best: str, run: RunFacts, *, cautioned: bool = False) -> str:
    """Advise which maps to use, and how to test them next.

    `cautioned` is True if the best method's detail is wrong in some contrasts.
    """
    if not run.maps:
        advice = Markup(
            "The {} maps were not stored. To store them, rerun with --level standard."
        ).format(best)
    elif not run.masks:
        advice = Markup("Use the {} maps (<code>{}</code>).").format(best, run.maps)
    else:
        advice = Markup(
            "Use the {} maps (<code>{}</code>) within the masks of reliable voxels"
            " (<code>{}</code>)."
        ).format(best, run.maps, run.masks)
    limitation = (
        " In the contrasts that are listed under Caution, do not interpret detail finer than the"
        " acquired voxels."
        if cautioned
        else ""
    )
    return advice + limitation + " Test at the group level whether the result generalizes."
