"""The first screen of a run: one sentence, three numbers, checks, and what to do next.

All of it is read from the verdict and the rows of the evaluation, so that it cannot say anything
else.

Rows of ``index.html``, one for each run.

A row is read from the run's files by the functions of the first screen of its report.
"""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, cast

from markupsafe import Markup

from bids_sr.evaluation import words
from bids_sr.evaluation.evidence import (
    ACQUIRED_ACTIVE,
    APPLIED,
    EARLIER,
    UNCALIBRATED,
    Evidence,
    accuracy,
    applied_methods,
    below_zero,
    derives_from,
    one_level_down,
    strongest,
)
from bids_sr.evaluation.qc_flags import raised_flags
from bids_sr.evaluation.verdict_text import said_first, verdict_line
from bids_sr.evaluation.words import MARKS, MOVED_MM, moved, region_text
from bids_sr.frozen import frozen
from bids_sr.io.atomic_files import read_json
from bids_sr.io.grids import size_text
from bids_sr.io.tables import column
from bids_sr.metrics import (
    FLAGS,
    MISSING,
    MetricRow,
    VerdictFacts,
    interval,
    number,
    read_frame,
    rows_of,
    statistic,
)
from bids_sr.report.html_tables import registration_warnings
from bids_sr.report.sections import render, run_text


@frozen
class RunFacts:
    """Acquisition facts: entities, voxel sizes (mm) before and after, FD (mm) of each volume.

    `described` is what the sidecar of the series says of it (empty for nothing), such as that it
    was simulated from a finer one, `calibrated` whether there is a calibration run (the test one
    level down knows whether it was used), `at_rest` whether seeds take the place of conditions.
    """

    entities: Mapping[str, str]
    acquired_mm: Sequence[float]
    made_mm: Sequence[float]
    displacement: Sequence[float]
    described: str = ""
    calibrated: bool = False
    at_rest: bool = False


class Number(NamedTuple):
    """One of the three numbers: value, what it is, and what it is to be held against.

    `note`: what it is to be held against, in words; may be empty.
    """

    value: str
    label: str
    note: str


class _Check(NamedTuple):
    """A check: passed or not, in words, with the section that tells more."""

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
    """Render header line, sentence, numbers, checks and next steps of one run.

    The arguments are the contents of the JSON files and tables.

    `one_level`: what was tested one level down, as read from JSON; None for nothing.
    """
    status, best = verdict.get("status", "not assessed"), verdict.get("best", "")
    applied = applied_methods(rows)
    idle = verdict.get("not_applied", [])
    detail = strongest("function", rows, applied)
    evidence = accuracy(rows, applied)
    tested = one_level_down(rows, one_level)
    basis = ""
    mark, kind = MARKS.get(status, MARKS["not assessed"])
    if tested is not None:
        failed = (words.share_text(tested.tested[name]) for name in idle if name in tested.tested)
        why = [f"The reason: tested on this run {tested.where_text}, {text}" for text in failed]
        why += (words.untested(tested, name) for name in [*applied, *idle])
        basis = ". ".join(filter(None, why))
    if detail is not None and best:
        mapped = "seed" if run.at_rest else "contrast"
        basis = f"Compared with {detail.reference.words}; {mapped} {detail.contrast}"
    rests = "" if evidence is not None or tested is None else f", tested only {tested.where_text}"
    checks = [
        *motion_checks(run.displacement),
        *registration_checks(registration),
        *flag_checks(rows, idle, rests),
    ]
    if evidence is not None:
        numbers = [_level_number(evidence, best), *_right_number(evidence, best)]
    else:
        numbers = _earlier_number(best, tested is not None and tested.calibrated)
    numbers += _reliable_number(rows, best, contrast)
    undecided = bool(applied) and not (detail is not None and detail.no_detail)
    return render(
        "overview",
        _header_text(run),
        mark,
        kind,
        verdict.get("headline", ""),
        basis,
        said_first(verdict),
        [*numbers, _check_number(checks, measured=evidence is not None)],
        checks,
        _next_steps(verdict, _remedies(rows, idle), undecided, run),
    )


def _header_text(run: RunFacts) -> str:
    """Participant and run, resolution from and to, what the series is, and volumes."""
    change = f"{size_text(run.acquired_mm, unit='')} → {size_text(run.made_mm)}"
    described = f" ({run.described})" if run.described else ""
    volumes = f"{len(run.displacement)} volumes"
    whose = f"sub-{run.entities['subject']}"
    return " · ".join([whose, run_text(run.entities), change + described, volumes])


def level_text(row: MetricRow | None) -> str:
    """A level: percent of the variance, in words where it is below 0, or a correlation.

    Text such as ``27 %``; n/a for none.
    """
    if row is None or row.statistic == "r" or not math.isfinite(row.value):
        return number(math.nan if row is None else row.value)
    if below_zero(row):
        return words.WORSE
    return number(row.value, ".0%") if row.value > -0.005 else "not above 0 %"


def ends_text(row: MetricRow) -> str:
    """The interval of a level, in its unit; empty without one."""
    return interval(row.lower, row.upper, "" if row.statistic == "r" else ".0%")


def _beside(evidence: Evidence, row: MetricRow, *others: str) -> str:
    """What stands beside a level: its interval, others, and the same over the brain."""
    ends = ends_text(row)
    said = [f"95 % interval over blocks {ends}" if ends else "no interval", *others]
    if evidence.regions[0] != "brain":
        brain = evidence.row(row.series, "brain", statistic=row.statistic)
        said.append(f"whole brain: {level_text(brain)}")
    return "; ".join(said)


def _level_number(evidence: Evidence, best: str) -> Number:
    """Return the best method's detail beyond the acquired Nyquist limit, active voxels first."""
    label = f"{statistic(evidence.reference.statistic).label} {words.BANDS[evidence.band]}"
    where = words.region_text(evidence.regions[0])
    if (row := evidence.known(best).get(evidence.regions[0])) is None:
        return Number("–", label, "not assessed")
    note = _beside(evidence, row, f"B-spline: {level_text(evidence.row('bspline'))}")
    return Number(f"{best} {level_text(row)}", f"{label}, {where}", note)


def _right_number(evidence: Evidence, best: str) -> list[Number]:
    """Return how much of the best method's detail is true, or nothing if unknown."""
    row = evidence.row(best, statistic="correct_fraction")
    if row is None or not math.isfinite(row.value):
        return []
    what = f"correct fraction: of the detail that {best} shows, how much is true"
    label = f"{what}, {words.region_text(evidence.regions[0])}"
    return [Number(f"{best} {level_text(row)}", label, _beside(evidence, row))]


def _earlier_number(best: str, calibrated: bool) -> list[Number]:
    """What measured runs had, where this one has no truth; nothing where no method was applied."""
    if not best:
        return []
    earlier = EARLIER[calibrated]
    text = (
        f"in runs where it was measured ({earlier.where}), sbl explained {earlier.active} of it in"
        f" {words.region_text(ACQUIRED_ACTIVE)} and {earlier.brain} over the brain (adding no"
        " detail: 0 %)"
    )
    label = f"how much of the true fine detail {best} explains in this run"
    return [Number("not measured", label, text if best == "sbl" else "")]


def _reliable_number(rows: Sequence[MetricRow], best: str, contrast: str) -> list[Number]:
    """Which voxels of the best method's map to believe; nothing where no error is known."""
    of_best = [row for row in rows if (row.series, row.contrast) == (best, contrast)]
    widths = [row.fwhm_mm for row in of_best if row.statistic == "expected_wrong"]
    if not widths:
        return []
    values = {
        (row.statistic, row.threshold): row.value for row in of_best if row.fwhm_mm == min(widths)
    }
    tested = [row.value for row in of_best if row.statistic == "coverage_one_level_down"]
    smoothing = f"smoothed by {min(widths):g} mm" if min(widths) else "not smoothed"
    active = values["voxels", "fdr"]
    kept = values.get(("voxels", "reliable"))
    label = f"voxels of {best} to believe: {contrast}, {smoothing}"
    if not active:
        return [Number("0", label, "no voxel is active at a false discovery rate of .05")]
    wrong = number(values["expected_wrong", "fdr"], ".0%")
    note = (
        f"of the {active:.0f} voxels active at a false discovery rate of .05 {wrong} are expected"
        " to have the opposite sign, by noise and error of the reconstruction together"
    )
    held = (
        f"its 95 % intervals held in {number(tested[0], '.0%')} of the voxels"
        if tested
        else "its intervals could not be tested"
    )
    where = f"{held} one level of resolution down"
    if kept is None:
        return [Number("none", label, f"{note}; {where}: no region is called reliable")]
    if kept:
        note += f"; of the reliable ones {number(values['expected_wrong', 'reliable'], '.0%')}"
    return [Number(f"{kept:.0f} of {active:.0f} reliable", label, f"{note}; {where}")]


def _check_number(checks: Sequence[_Check], *, measured: bool) -> Number:
    """How many of all checks passed, which did not, and what they do not tell."""
    failed = [each.text for each in checks if not each.passed]
    passed = "" if measured else "they do not tell whether the fine detail is true"
    note = f"failed: {'; '.join(failed)}" if failed else passed
    return Number(f"{len(checks) - len(failed)} of {len(checks)}", "checks passed", note)


def motion_checks(displacement: Sequence[float]) -> list[_Check]:
    """Mean framewise displacement.

    `displacement`: framewise displacement (FD) of each volume (mm).
    """
    if (found := words.moved(displacement)) is None:
        return []
    mean, share = found
    above = f", {number(share, '.0%')} of volumes above {MOVED_MM:g} mm" if share else ""
    return [
        _Check(
            not words.moved_much(displacement), f"motion: mean FD {mean:.2f} mm{above}", "motion"
        )
    ]


_REGISTERED = ("bold_t1w_", "bold_pair_")


def registration_checks(facts: Mapping[str, object]) -> list[_Check]:
    """Whether the registrations look right; no check where nothing was registered."""
    count = len(registration_warnings(facts))
    if not count and not any(key.startswith(_REGISTERED) for key in facts):
        return []
    text = f"registration: {count} warning{'s' * (count > 1)}" if count else "registration"
    return [_Check(not count, text, "registration")]


def flag_checks(
    rows: Sequence[MetricRow], not_applied: Sequence[str] = (), harm_tested: str = ""
) -> list[_Check]:
    """Return one check per flag, failed ones first.

    A method with wrong detail is named, as is where that was tested.

    `not_applied`: names of methods that fell back to zero filling.
    """
    checks = []
    rows = [row for row in rows if not derives_from(row.series, not_applied)]
    for name, up in raised_flags(rows).items():
        whose = f"{', '.join(dict.fromkeys(up))}: " if name == "harm" and up else ""
        text = f"{whose}{FLAGS[name].failed if up else FLAGS[name].passed}"
        text += f"{harm_tested}{_below_over_brain(rows)}" if name == "harm" else ""
        checks.append(_Check(not up, text, "guards"))
    return sorted(checks, key=lambda each: each.passed)


def _below_over_brain(rows: Sequence[MetricRow]) -> str:
    """In how many contrasts each applied method explains less than nothing over the brain."""
    text = ""
    for method in applied_methods(rows):
        values = {
            row.contrast: row.value
            for row in rows
            if (row.series, row.statistic, row.band) == (method, "ev", "beyond")
            and (row.region, row.minus) == ("brain", MISSING)
        }
        if below := sum(value < 0 for value in values.values()):
            text += f"; over the brain {method} is below 0 in {below} of {len(values)} contrasts"
    return text


def _remedies(rows: Sequence[MetricRow], not_applied: Sequence[str] = ()) -> list[str]:
    """What to do about each flag that is up.

    `not_applied`: names of methods that fell back to zero filling. Sentences for flags that have a
    remedy; empty for none.
    """
    remedies = (
        FLAGS[name].remedy.format(series=series)
        for name, up in raised_flags(rows).items()
        for series in up
        if not derives_from(series, not_applied)
    )
    return list(filter(None, remedies))


_CALIBRATION = "scan a calibration (about 20 volumes at the high resolution, same slices)"
_MOVE_LESS = (
    "Look at head motion first: fine detail cannot be trusted where the head moves by a voxel;"
    " exclude this run, or acquire it again."
)


def _next_steps(
    verdict: VerdictFacts, remedies: Sequence[str], undecided: bool, run: RunFacts
) -> list[str]:
    """Return at most two next steps, the most useful first.

    A run that has a calibration is not told to acquire one.

    `undecided`: a method was applied, and the run has no reference, rather than one without
    detail.
    """
    status, best = verdict.get("status", "not assessed"), verdict.get("best", "")
    steps = [_MOVE_LESS] * bool(verdict.get("motion_text")) + list(remedies)
    if verdict.get("not_applied") and not run.calibrated:
        steps.append(
            f"To have a method applied, {_CALIBRATION}: with one, it is applied in more runs."
        )
    if status == "not assessed" and undecided:
        above = [was**2 / is_now for was, is_now in zip(run.acquired_mm, run.made_mm, strict=True)]
        made, acquired, coarser = (
            size_text(size) for size in (run.made_mm, run.acquired_mm, above)
        )
        steps.append(
            f"To see how {best or 'a method'} does in this participant and task, scan one run at"
            f" {made} and process it with --retrospective, which downsamples it and compares the"
            " result with what was measured. Without a scan, --retrospective on this run shows"
            f" how well {acquired} is recovered from {coarser}."
        )
        if best == "sbl" and not run.calibrated:
            had = (
                f"sbl explained {EARLIER[True].active} of the true detail in voxels active in the"
                f" acquired run, without one {UNCALIBRATED}"
            )
            steps.append(
                f"To improve the maps of another session, {_CALIBRATION}: with one, {had}"
                f" ({EARLIER[True].where})."
            )
    if status == "not more accurate":
        steps.append(
            "Interpret the B-spline maps; fine detail in the other maps is not shown to be"
            " accurate here."
        )
    if status == "more accurate":
        folders = [f"sub-{run.entities['subject']}"]
        folders += [f"ses-{run.entities['session']}"] if "session" in run.entities else []
        maps = "/".join([*folders, "func", f"*desc-{best}*_statmap.nii.gz"])
        steps.append(f"Use {maps}, and test at the group level whether the result generalizes.")
    return list(dict.fromkeys(steps))[:2]


VERDICT, TABLE = "_desc-verdict_metrics.json", "_desc-evaluation_metrics.tsv"
CONFOUNDS, REGISTRATION = "_desc-confounds_timeseries.tsv", "_desc-registration_metrics.json"
NOT_EVALUATED = "No run was evaluated."
MEASURED = "explained variance"
HEADS: Mapping[str, str] = {
    "participant": "",
    "run": "",
    "not applied": "zero filling instead",
    MEASURED: "beyond the acquired Nyquist limit",
    "mean FD (mm)": "",
    f"volumes with FD > {MOVED_MM:g} mm": "",
    "failed checks": "",
    "verdict": "",
}
"""Columns of the table, with what they mean; those that are empty in all rows are left out."""
SHOWN = frozenset({"participant", "run", "verdict"})
"""Columns that are never left out."""
NUMBERS = frozenset({"mean FD (mm)", f"volumes with FD > {MOVED_MM:g} mm"})
"""Columns of plain numbers."""
READING = (
    "Explained variance: of the best method of each run in active voxels, with its 95 % interval;"
    " it needs a high-resolution reference."
)
RunSummary = dict[str, str]
"""Cells of one run by the head of their column; what there is nothing to tell of is absent or
empty.
"""


def run_summary(verdict_file: Path, label: str) -> RunSummary:
    """Return the row of a verdict's run; missing or truncated files leave their cells empty."""
    stem = verdict_file.name.removesuffix(VERDICT)
    return _summary(
        stem, label, tuple(zip(_files(verdict_file), stamps_of(verdict_file), strict=True))
    )


def name_below(run: str, label: str) -> str:
    """Name of a run (``sub-01_task-tap``) without its participant."""
    return run.removeprefix(f"sub-{label}_")


def compared_of(verdict_file: Path) -> list[str]:
    """What the verdict of a run says of series of other programs, a line each.

    Sentences; empty for none.
    """
    return [each["text"] for each in _read_verdict(verdict_file).get("compared", [])]


def _read_verdict(file: Path) -> VerdictFacts:
    return cast("VerdictFacts", read_json(file))


def stamps_of(verdict_file: Path) -> tuple[int, ...]:
    """When each file of a row was changed (ns); 0 for one that is missing.

    Times of verdict, evaluation, confounds and registration (ns).
    """
    return tuple(_stamp(file) for file in _files(verdict_file))


def _files(verdict_file: Path) -> list[Path]:
    stem = verdict_file.name.removesuffix(VERDICT)
    return [
        verdict_file.with_name(stem + suffix)
        for suffix in (VERDICT, TABLE, CONFOUNDS, REGISTRATION)
    ]


def _stamp(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return 0


@lru_cache(maxsize=65536)
def _summary(stem: str, label: str, stamped: tuple[tuple[Path, int], ...]) -> RunSummary:
    """Return `run_summary`, read again only where a file has changed.

    The page is rewritten until nothing changes.
    """
    verdict_file, table_file, confounds_file, registration_file = (file for file, _ in stamped)
    verdict = _read_verdict(verdict_file)
    rows = _rows(table_file)
    displacement = _displacement(confounds_file)
    idle = verdict.get("not_applied", [])
    evidence = accuracy(rows, applied_methods(rows))
    checks = [*motion_checks(displacement), *registration_checks(read_json(registration_file))]
    checks += flag_checks(
        rows, idle, "" if evidence is not None else ", tested only one level down"
    )
    failed = [each.text for each in checks if not each.passed]
    motion = moved(displacement)
    cells = (
        name_below(stem, label),
        ", ".join(idle),
        "" if evidence is None else _accuracy(evidence, verdict.get("best", "")),
        f"{motion[0]:.2f}" if motion else "",
        number(motion[1], ".0%") if motion else "",
        "; ".join(failed) or ("none" if checks else ""),
        verdict_line(verdict),
    )
    return dict(zip(list(HEADS)[1:], cells, strict=True))


def _accuracy(evidence: Evidence, best: str) -> str:
    if (row := evidence.known(best).get(evidence.regions[0])) is None:
        return ""
    nbsp = "\N{NO-BREAK SPACE}"
    where = "" if row.region != "brain" else f", {region_text(row.region)}"
    ends = "" if below_zero(row) and row.statistic != "r" else ends_text(row)
    value = f"{'r ' * (row.statistic == 'r')}{level_text(row)} {ends}".strip()
    return f"{best} {value.replace(' ', nbsp)}{where}"


def _rows(file: Path) -> list[MetricRow]:
    """Rows of the few metrics that are shown, of the thousands of a table."""
    try:
        table = read_frame(file)
    except (OSError, ValueError):
        return []
    return rows_of(
        table[(table.band == "beyond") | table.statistic.str.startswith(("flag_", APPLIED))]
    )


def _displacement(file: Path) -> list[float]:
    cells = column(file, "framewise_displacement")
    try:
        return [math.nan if cell == MISSING else float(cell) for cell in cells]
    except ValueError:
        return []
