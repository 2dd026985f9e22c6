"""The first screen of a run: one sentence, three numbers, checks, and what to do next.

All of it is read from the verdict, the rows of the evaluation and the flags, so that it cannot say anything else.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from bids_sr.metrics.long_tables import MetricRow
from bids_sr.reports.markup import render
from bids_sr.reports.tables import evaluation_rows as pick
from bids_sr.reports.tables.html_tables import registration_warnings
from bids_sr.stats.evaluation.evidence import APPLIED, Table, best_table, image_gains

MARKS: Mapping[str, tuple[str, str]] = {
    "more accurate": ("✓", "good"),
    "not more accurate": ("✗", "bad"),
    "not assessed": ("?", "open"),
    "not applied": ("○", "idle"),
}
"""Symbol and class of each status of a verdict; the symbol tells it without the color."""
EVIDENCE_TEXT: Mapping[str, str] = {
    "split": "high-resolution BOLD measured in the other half of the blocks",
    "known": "known (simulated) truth",
    "maps": "high-resolution maps of the same blocks",
    "self": "split halves of the same series: reproducibility, not accuracy",
}
FLAG_NAMES: Mapping[str, str] = {
    "task_not_done": "task compliance",
    "broad": "extent of activation",
    "artifact": "artifacts in the T2* pair",
    "roi_misplaced": "position of the region of interest",
    "distortion": "susceptibility distortion",
    "unrepeated": "unsupported detail",
    "domain": "intensities unlike those of training",
}
MOVED_MM, MOVED_SHARE = 0.5, 0.2
"""Framewise displacement (mm) of a volume that moved, and the share of such volumes that is told."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFacts:
    """What was acquired: name, voxel sizes (mm) before and after, and framewise displacement (mm) of each volume.

    `calibrated` tells whether a calibration run was used, `at_rest` whether seeds take the place of conditions.
    """

    name: str
    acquired_mm: Sequence[float]
    made_mm: Sequence[float]
    displacement: Sequence[float]
    calibrated: bool = False
    at_rest: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Number:
    """One of the three numbers: value, what it is, and what it is to be held against."""

    value: str
    label: str
    note: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Chip:
    """A check: passed or not, in words, with the section that tells more."""

    passed: bool
    text: str
    section: str


def overview_html(
    verdict: Mapping[str, Any], rows: Sequence[MetricRow], flags: Sequence[Mapping[str, Any]],
    registration: Mapping[str, Any], run: RunFacts,
) -> Markup:  # fmt: skip
    """Header line, sentence, numbers, checks and next steps of one run; arguments as their JSON files and tables."""
    status = str(verdict.get("status", "not assessed"))
    applied = [row.series for row in rows if row.measure == APPLIED and row.value > 0]
    table = best_table(rows, applied)
    best = str(verdict.get("best", ""))
    mapped = "seed" if run.at_rest else "contrast"
    mark, kind = MARKS.get(status, MARKS["not assessed"])
    evidence = EVIDENCE_TEXT[table.evidence.name] + f"; {mapped} {table.contrast}" if table and best else ""
    numbers = [level_number(table, best), image_number(rows, best), flag_number(rows, flags)]
    chips = [*motion_chips(run), *registration_chips(registration), *flag_chips(rows, flags)]
    return render(
        "overview", header_text(run), mark, kind, str(verdict.get("headline", "")), evidence,
        str(verdict.get("not_applied_text", "")), numbers, chips,
        next_steps(verdict, flags, table is not None and not table.no_detail, calibrated=run.calibrated),
    )  # fmt: skip


def voxel_text(sizes: Sequence[float]) -> str:
    """Voxel sizes as text, such as ``3 × 3 × 3.3 mm``."""
    return " × ".join(f"{size:.2g}" for size in sizes) + " mm"


def header_text(run: RunFacts) -> str:
    """Participant and run, resolution from and to, and volumes."""
    name = " · ".join(part.partition("-")[2] if part.startswith("task-") else part for part in run.name.split("_"))
    change = f"{voxel_text(run.acquired_mm).removesuffix(' mm')} → {voxel_text(run.made_mm)}"
    return f"{name} · {change} · {len(run.displacement)} volumes"


def _share(row: MetricRow | None, as_percent: bool) -> str:
    """A level: percent of the variance, or a correlation."""
    if row is None or not math.isfinite(row.value):
        return "n/a"
    return f"{round(100 * row.value):d} %".replace("-", "−") if as_percent else pick.value_text(row.value)


def _ends(row: MetricRow | None, as_percent: bool) -> str:
    if row is None or not (math.isfinite(row.lower) and math.isfinite(row.upper)):
        return "no interval"
    ends = f"[{round(100 * row.lower):d}, {round(100 * row.upper):d}]".replace("-", "−")
    return f"95 % interval {ends if as_percent else pick.interval_text(row)}"


def level_number(table: Table | None, best: str) -> Number:
    """What the best method has of the detail beyond the acquired Nyquist limit, in active voxels first."""
    if table is None or not best:
        return Number(value="–", label="explained variance beyond the acquired Nyquist limit", note="not assessed")
    percent = "_ev_" in table.evidence.level
    row, plain = table.level(best, table.lead), table.level("bspline", table.lead)
    where = pick.region_text(table.lead)
    what = "explained variance" if percent else "correlation with the measured map" if table.evidence.is_truth else ""
    label = f"{what or 'split-half correlation (reproducibility, not accuracy)'} beyond the acquired Nyquist limit"
    if not pick.known(row):
        why = ": no reproducible detail in the reference" if table.no_detail else ""
        return Number(value="–", label=label, note=f"not assessed{why}")
    beside = [_ends(row, percent), f"B-spline {_share(plain, percent)}"]
    if table.lead != "brain":
        beside.append(f"whole brain {_share(table.level(best, 'brain'), percent)}")
    return Number(value=f"{best} {_share(row, percent)}", label=f"{label}, {where}", note="; ".join(beside))


def image_number(rows: Sequence[MetricRow], best: str) -> Number:
    """Gain of single images over B-spline (dB); over inject, which carries static detail alone, beside it."""
    label = "image quality over B-spline (PSNR)"
    found = {row.against: (row, where) for row, where in image_gains(rows, best) if pick.known(row)}
    if "bspline" not in found:
        return Number(value="–", label=label, note="not assessed: needs measured volumes, or a second pair")
    row, where = found["bspline"]
    notes = [where, *([f"95 % interval {ends}"] if (ends := pick.interval_text(row)) else [])]
    if "inject" in found:
        notes.append(f"over static detail alone (inject) {_decibel(found['inject'][0])}")
    return Number(value=f"{best} {_decibel(row)}", label=label, note="; ".join(notes))


def _decibel(row: MetricRow) -> str:
    return f"{round(row.value, 1) + 0.0:+.1f} dB".replace("-", "−")  # + 0.0: there is no negative zero


def _raised(rows: Sequence[MetricRow], flags: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[str]]:
    """Names of the flags that are up, and of those that were looked for and are down."""
    states = [(str(flag.get("name")), flag.get("raised")) for flag in flags]
    told = {name for name, _ in states}
    states += [
        (name, row.value > 0)
        for row in rows
        if row.measure.startswith("flag_") and pick.known(row) and (name := row.measure[5:]) not in told
    ]
    up = list(dict.fromkeys(name for name, raised in states if raised))
    return up, [name for name in dict.fromkeys(n for n, raised in states if raised is not None) if name not in up]


def _plural(number: int) -> str:
    return "" if number == 1 else "s"


def flag_number(rows: Sequence[MetricRow], flags: Sequence[Mapping[str, Any]]) -> Number:
    """Quality checks that failed."""
    up, down = _raised(rows, flags)
    names = ", ".join(FLAG_NAMES.get(name, name.replace("_", " ")) for name in up)
    passed = f"{len(down)} quality check{_plural(len(down))} passed"
    return Number(value=str(len(up)), label=f"flag{_plural(len(up))} raised", note=names or passed)


def motion_chips(run: RunFacts) -> list[Chip]:
    """Mean framewise displacement."""
    known = [value for value in run.displacement if math.isfinite(value)]
    if not known:
        return []
    mean, moved = sum(known) / len(known), sum(value > MOVED_MM for value in known) / len(known)
    text = f"motion: mean FD {mean:.2f} mm" + (f", {moved:.0%} of volumes above {MOVED_MM:g} mm" if moved else "")
    return [Chip(passed=mean < MOVED_MM and moved < MOVED_SHARE, text=text, section="motion")]


def registration_chips(facts: Mapping[str, Any]) -> list[Chip]:
    """Whether the registrations look right."""
    if not facts:
        return []
    warnings = registration_warnings(facts)
    text = f"registration: {len(warnings)} warning{_plural(len(warnings))}" if warnings else "registration"
    return [Chip(passed=not warnings, text=text, section="registration")]


def flag_chips(rows: Sequence[MetricRow], flags: Sequence[Mapping[str, Any]]) -> list[Chip]:
    """One chip a flag that is up, and one for all that are down."""
    up, down = _raised(rows, flags)
    chips = [Chip(passed=False, text=FLAG_NAMES.get(name, name), section="guards") for name in up]
    if down:
        chips.append(Chip(passed=True, text=", ".join(FLAG_NAMES.get(name, name) for name in down), section="guards"))
    return chips


def next_steps(
    verdict: Mapping[str, Any], flags: Sequence[Mapping[str, Any]], compared: bool, *, calibrated: bool = False
) -> list[str]:
    """What to do next, the most useful first; at most two. A run that has a calibration is not told to acquire one."""
    status, best = str(verdict.get("status", "not assessed")), str(verdict.get("best", ""))
    steps = [str(flag["remedy"]) for flag in flags if flag.get("raised") and flag.get("remedy")]
    if verdict.get("not_applied") and not calibrated:
        steps.append(
            "Acquire a calibration run (about 20 volumes at the high resolution, same slices): with it, a method can "
            "be applied in more runs."
        )
    if status == "not assessed" and compared:
        steps.append(
            "Assess accuracy: --retrospective downsamples this run and compares the result with the original; --truth "
            "DIR uses a measured high-resolution run."
        )
    if status == "not more accurate":
        steps.append("Interpret the B-spline maps; fine detail in the other maps is not shown to be accurate here.")
    if status == "more accurate":
        steps.append(f"Use the maps desc-{best} in func/, and test at the group level whether the result generalizes.")
    return list(dict.fromkeys(steps))[:2]
