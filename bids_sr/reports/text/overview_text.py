"""The first screen of a run: one sentence, three numbers, checks, and what to do next.

All of it is read from the verdict, the rows of the evaluation and the flags, so that it cannot say anything else.
"""

import math
from collections.abc import Mapping, Sequence

from markupsafe import Markup

from bids_sr.frozen import frozen
from bids_sr.io.grids import size_text
from bids_sr.io.json_values import texts
from bids_sr.metrics.long_tables import MetricRow
from bids_sr.reports.markup import render
from bids_sr.reports.tables import evaluation_rows as pick
from bids_sr.reports.tables.html_tables import registration_warnings
from bids_sr.stats.controls.qc_flags import flag_text
from bids_sr.stats.evaluation.evidence import APPLIED, Table, below_zero, best_table, stands_for
from bids_sr.stats.evaluation.tested_share import (
    EARLIER,
    UNCALIBRATED,
    one_level_down,
    percent_text,
    share_text,
    untested_text,
)
from bids_sr.stats.evaluation.verdict_text import MOVED_MM, MOVED_SHARE, moved

MARKS: Mapping[str, tuple[str, str]] = {
    "more accurate": ("✓", "good"),
    "not more accurate": ("✗", "bad"),
    "not assessed": ("?", "open"),
    "not applied": ("○", "idle"),
}
"""Symbol and class of each status of a verdict; the symbol tells it without the color."""
EVIDENCE_TEXT: Mapping[str, str] = {
    "split": "Compared with a measured high-resolution run (independent blocks)",
    "known": "Compared with the known (simulated) truth",
    "maps": "Compared with high-resolution maps of the same blocks",
}
WORSE = "worse than adding no detail"


@frozen
class RunFacts:
    """What was acquired: name, voxel sizes (mm) before and after, and framewise displacement (mm) of each volume.

    `described` is what the sidecar of the series says of it, such as that it was simulated from a finer one,
    `warnings` what the plan warned of;
    `calibrated` tells whether there is a calibration run (the test one level down knows
    whether it was used), `at_rest` whether seeds take the place of conditions.
    """

    name: str
    acquired_mm: Sequence[float]
    made_mm: Sequence[float]
    displacement: Sequence[float]
    described: str = ""
    warnings: Sequence[str] = ()
    calibrated: bool = False
    at_rest: bool = False


@frozen
class Number:
    """One of the three numbers: value, what it is, and what it is to be held against."""

    value: str
    label: str
    note: str


@frozen
class Chip:
    """A check: passed or not, in words, with the section that tells more."""

    passed: bool
    text: str
    section: str


def overview_html(
    verdict: Mapping[str, object], rows: Sequence[MetricRow], flags: Sequence[Mapping[str, object]],
    registration: Mapping[str, object], run: RunFacts, one_level: Mapping[str, object] | None = None,
) -> Markup:  # fmt: skip
    """Header line, sentence, numbers, checks and next steps of one run; arguments as their JSON files and tables."""
    status = str(verdict.get("status", "not assessed"))
    applied = [row.series for row in rows if row.measure == APPLIED and row.value > 0]
    table, tested = best_table(rows, applied), one_level_down(rows, one_level)
    best = str(verdict.get("best", ""))
    mapped = "seed" if run.at_rest else "contrast"
    mark, kind = MARKS.get(status, MARKS["not assessed"])
    known = table is not None and table.evidence.is_truth
    idle, evidence = texts(verdict.get("not_applied")), ""
    if tested is not None:
        failed = (share_text(tested.tested[name]) for name in idle if name in tested.tested)
        why = [*(f"The reason: tested on this run {tested.where_text}, {text}" for text in failed)]
        evidence = ". ".join([*why, untested_text(tested, [*applied, *idle])]).rstrip(". ")
    if table is not None and known and best:
        evidence = f"{EVIDENCE_TEXT[table.evidence.name]}; {mapped} {table.contrast}"
    flags = [flag for flag in flags if not stands_for(str(flag.get("series", "run")), idle)]
    measured = table is not None and table.shows_accuracy
    rests = "" if measured else f", tested only {tested.where_text}" if tested is not None else ""
    chips = [*motion_chips(run), *registration_chips(registration), *flag_chips(rows, flags, rests)]
    if table is not None and measured:
        numbers = [level_number(table, best), *right_number(table, best)]
    else:
        numbers = earlier_number(best, tested is not None and tested.calibrated)
    return render(
        "overview", header_text(run), mark, kind, str(verdict.get("headline", "")), evidence,
        [*run.warnings, *(str(verdict[key]) for key in ("motion_text", "not_applied_text") if verdict.get(key))],
        [*numbers, check_number(chips, measured=measured)], chips,
        next_steps(verdict, flags, bool(applied) and (table is None or not table.no_detail), run),
    )  # fmt: skip


def header_text(run: RunFacts) -> str:
    """Participant and run, resolution from and to, what the series is, and volumes."""
    name = " · ".join(part.partition("-")[2] if part.startswith("task-") else part for part in run.name.split("_"))
    change = f"{size_text(run.acquired_mm).removesuffix(' mm')} → {size_text(run.made_mm)}"
    described = f" ({run.described})" if run.described else ""
    return f"{name} · {change}{described} · {len(run.displacement)} volumes"


def _share(row: MetricRow | None, as_percent: bool) -> str:
    """A level: percent of the variance, in words where it is below 0, or a correlation."""
    if row is None or not math.isfinite(row.value):
        return "n/a"
    if not as_percent:
        return pick.value_text(row.value)
    if below_zero(row):
        return WORSE
    return percent_text(row.value) if row.value > -0.005 else "not above 0 %"


def _ends(row: MetricRow | None, as_percent: bool) -> str:
    if row is None or not row.has_interval:
        return "no interval"
    ends = f"[{round(100 * row.lower):d}, {round(100 * row.upper):d}]".replace("-", "−")
    return f"95 % interval over blocks {ends if as_percent else pick.interval_text(row)}"


def level_number(table: Table, best: str) -> Number:
    """What the best method has of the detail beyond the acquired Nyquist limit, in active voxels first."""
    percent = "_ev_" in table.evidence.level
    row, plain = table.level(best, table.lead), table.level("bspline", table.lead)
    where = pick.region_text(table.lead)
    what = "explained variance" if percent else "correlation with the measured map"
    label = f"{what} beyond the acquired Nyquist limit"
    if not best or not pick.known(row):
        return Number(value="–", label=label, note="not assessed")
    beside = [_ends(row, percent), f"B-spline: {_share(plain, percent)}"]
    if table.lead != "brain":
        beside.append(f"whole brain: {_share(table.level(best, 'brain'), percent)}")
    return Number(value=f"{best} {_share(row, percent)}", label=f"{label}, {where}", note="; ".join(beside))


def right_number(table: Table, best: str) -> list[Number]:
    """How much of the detail that the best method shows is true; nothing where that is not known."""
    found = {row.region: row for row in table.others if row.series == best and row.measure.endswith("_right_beyond")}
    row = found.get(table.lead)
    if row is None or not pick.known(row):
        return []
    beside = [_ends(row, True)]
    if table.lead != "brain" and "brain" in found:
        beside.append(f"whole brain: {_share(found['brain'], True)}")
    label = f"correct fraction: of the detail that {best} shows, how much is true, {pick.region_text(table.lead)}"
    return [Number(value=f"{best} {_share(row, True)}", label=label, note="; ".join(beside))]


def earlier_number(best: str, calibrated: bool) -> list[Number]:
    """What measured runs had, where this one has no truth; nothing where no method was applied."""
    if not best:
        return []
    earlier = EARLIER[calibrated]
    told = (
        f"in runs where it was measured ({earlier.where}), sbl explained {earlier.active} of it in active voxels and "
        f"{earlier.brain} over the brain (adding no detail: 0 %)"
    )
    label = f"how much of the true fine detail {best} explains in this run"
    return [Number(value="not measured", label=label, note=told if best == "sbl" else "")]


def _raised(rows: Sequence[MetricRow], flags: Sequence[Mapping[str, object]]) -> tuple[list[str], list[str]]:
    """Names of the flags that are up, and of those that were looked for and are down."""
    states = [(str(flag.get("name")), flag.get("raised")) for flag in flags]
    told = {name for name, _ in states}
    states += [
        (name, row.value > 0)
        for row in rows
        if row.parts.family == "flag" and pick.known(row) and (name := row.parts.figure) not in told
    ]
    up = list(dict.fromkeys(name for name, raised in states if raised))
    return up, [name for name in dict.fromkeys(n for n, raised in states if raised is not None) if name not in up]


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def check_number(chips: Sequence[Chip], *, measured: bool) -> Number:
    """How many of all checks passed, which did not, and what they do not tell."""
    failed = [chip.text for chip in chips if not chip.passed]
    passed = "" if measured else "they do not tell whether the fine detail is true"
    note = f"failed: {'; '.join(failed)}" if failed else passed
    return Number(value=f"{len(chips) - len(failed)} of {len(chips)}", label="checks passed", note=note)


def motion_chips(run: RunFacts) -> list[Chip]:
    """Mean framewise displacement."""
    if (found := moved(run.displacement)) is None:
        return []
    mean, part = found
    text = f"motion: mean FD {mean:.2f} mm" + (
        f", {percent_text(part)} of volumes above {MOVED_MM:g} mm" if part else ""
    )
    return [Chip(passed=mean < MOVED_MM and part < MOVED_SHARE, text=text, section="motion")]


_REGISTERED = ("bold_t1w_", "bold_pair_")


def registration_chips(facts: Mapping[str, object]) -> list[Chip]:
    """Whether the registrations look right; no check where nothing was registered."""
    warnings = registration_warnings(facts)
    if not warnings and not any(key.startswith(_REGISTERED) for key in facts):
        return []
    text = f"registration: {_counted(len(warnings), 'warning')}" if warnings else "registration"
    return [Chip(passed=not warnings, text=text, section="registration")]


def flag_chips(rows: Sequence[MetricRow], flags: Sequence[Mapping[str, object]], harm_tested: str = "") -> list[Chip]:
    """One chip a check, those that failed first; a method with wrong detail is named, and where that was tested."""
    up, down = _raised(rows, flags)
    rests = {"harm": harm_tested}
    chips = []
    for name in up:
        own = [flag for flag in flags if flag.get("name") == name == "harm" and flag.get("raised")]
        about = f"{', '.join(dict.fromkeys(str(flag['series']) for flag in own))}: " if own else ""
        chips.append(Chip(passed=False, text=about + flag_text(name) + rests.get(name, ""), section="guards"))
    passed = (flag_text(name, raised=False) + rests.get(name, "") for name in down)
    return chips + [Chip(passed=True, text=text, section="guards") for text in passed]


CALIBRATION = "scan a calibration (about 20 volumes at the high resolution, same slices)"
MOVE_LESS = (
    "Look at head motion first: fine detail cannot be trusted where the head moves by a voxel; exclude "
    "this run, or acquire it again."
)


def next_steps(
    verdict: Mapping[str, object], flags: Sequence[Mapping[str, object]], compared: bool, run: RunFacts
) -> list[str]:
    """What to do next, the most useful first; at most two. A run that has a calibration is not told to acquire one."""
    status, best = str(verdict.get("status", "not assessed")), str(verdict.get("best", ""))
    steps = [MOVE_LESS] if verdict.get("motion_text") else []
    steps += [str(flag["remedy"]) for flag in flags if flag.get("raised") and flag.get("remedy")]
    if verdict.get("not_applied") and not run.calibrated:
        steps.append(f"To have a method applied, {CALIBRATION}: with one, it is applied in more runs.")
    if status == "not assessed" and compared:
        above = [was**2 / is_now for was, is_now in zip(run.acquired_mm, run.made_mm, strict=True)]
        made, acquired, coarser = (size_text(size) for size in (run.made_mm, run.acquired_mm, above))
        steps.append(
            f"To see how {best or 'a method'} does in this participant and task, scan one run at {made} and process "
            f"it with --retrospective, which downsamples it and compares the result with what was measured. Without a "
            f"scan, --retrospective on this run shows how well {acquired} is recovered from {coarser}."
        )
        if best == "sbl" and not run.calibrated:
            had = (
                f"sbl explained {EARLIER[True].active} of the true detail in active voxels, without one {UNCALIBRATED}"
            )
            steps.append(
                f"To improve the maps of another session, {CALIBRATION}: with one, {had} ({EARLIER[True].where})."
            )
    if status == "not more accurate":
        steps.append("Interpret the B-spline maps; fine detail in the other maps is not shown to be accurate here.")
    if status == "more accurate":
        own = [part for part in run.name.split("_") if part.startswith(("sub-", "ses-"))]
        maps = "/".join([*own, "func", f"*desc-{best}*_statmap.nii.gz"])
        steps.append(f"Use {maps}, and test at the group level whether the result generalizes.")
    return list(dict.fromkeys(steps))[:2]
