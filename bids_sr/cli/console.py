"""Console output before and after processing: plan, verdicts, reports and outputs."""

import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bids_sr.config import Settings
from bids_sr.io.notices import RECORD, Notice, read_record
from bids_sr.io.word_lists import format_count

if TYPE_CHECKING:
    from bids_sr.engine.execute import RunOutcome
    from bids_sr.survey.preflight.plan import Plan

_MAX_NAMES = 6
_INDENT_WIDTH = 12
_LINE_WIDTH = 118


def make_start_lines(plan: "Plan", settings: Settings) -> Iterator[str]:
    """Yield warnings, directories, runs, methods, contrasts and notes of a call."""
    from bids_sr.survey.bids.label_lists import list_some
    from bids_sr.survey.preflight.plan_text import choice_lines, notes

    paths = settings.paths
    notices = notes(plan, settings)
    yield from (format_notice(notice) for notice in notices if notice.level == "warning")
    yield format_item("dataset", str(paths.bids_dir))
    yield format_item("output", str(paths.output_dir))
    yield format_item("settings", str(settings.log_dir))
    yield format_item("work", f"{paths.work_dir} (intermediate files)")
    runs = [run.stem for run in plan.runs]
    scans = [
        f"sub-{subject.label} {contrast}"
        for subject in plan.subjects
        for contrast in (
            *(scan.contrast for scan in subject.highres_scans),
            *(scan.contrast for scan in subject.lowres_scans),
        )
    ]
    noun, names = ("scan", scans) if scans and not runs else ("run", runs)
    participants_text = format_count(len(plan.subjects), "participant")
    yield format_item(
        f"{noun}s",
        f"{format_count(len(names), noun)} of {participants_text}: {list_some(names, _MAX_NAMES)}",
    )
    for title, line in choice_lines(plan, settings):
        yield format_item(title, line)
    for notice in notices:
        if notice.code == "advice":
            yield format_item("tip", notice.why)
        elif notice.level != "warning":
            yield format_notice(notice)


def make_end_lines(plan: "Plan", settings: Settings, outcome: "RunOutcome") -> Iterator[str]:
    """Yield verdicts not shown yet, reports, and paths of series, maps and exported data sets."""
    from bids_sr.report.run_summaries import read_run_summary
    from bids_sr.report.stored_verdicts import VERDICT_SUFFIX

    output_dir = settings.paths.output_dir
    folders = set[Path]()
    not_applied_runs = list[str]()
    for run in plan.runs:
        participant = run.entities["subject"]
        verdict_files = sorted(
            (output_dir / f"sub-{participant}").rglob(f"{run.stem}{VERDICT_SUFFIX}")
        )
        for path in verdict_files:
            folders.add(path.parent)
            summary = read_run_summary(path, participant)
            if run.stem not in outcome.reported_runs:
                yield format_item("verdict", f"{run.stem}: {summary['verdict']}")
            if summary["not applied"]:
                not_applied_runs.append(f"{run.stem} ({summary['not applied']})")
    # maps over sessions
    all_sessions = (output_dir / f"sub-{subject.label}" / "func" for subject in plan.subjects)
    folders.update(folder for folder in all_sessions if folder.is_dir())
    yield from _make_report_lines(plan, output_dir, outcome.reports, not_applied_runs)
    if (methods_text := output_dir / "CITATION.md").exists():
        yield format_item("methods", f"{methods_text} (methods text with references)")
    yield from _make_file_lines(plan, sorted(folders))
    yield from _make_export_lines(plan, output_dir)
    yield from make_warning_lines(settings.log_dir)


def _make_report_lines(
    plan: "Plan", output_dir: Path, reports: Sequence[Path], not_applied_runs: Sequence[str]
) -> Iterator[str]:
    """Yield the first few reports, and the page with the verdicts of several runs.

    `not_applied_runs` are runs with the methods that were not applied to them.
    """
    from bids_sr.report.index_page import INDEX
    from bids_sr.survey.bids.label_lists import list_some

    index = output_dir / INDEX
    for report in reports[:_MAX_NAMES]:
        yield format_item("report", str(report))
    if len(reports) > _MAX_NAMES:
        yield format_item(
            "",
            f"and {len(reports) - _MAX_NAMES} more reports; all reports are listed in {index}",
        )
    if len(plan.runs) > 1:
        not_applied = (
            f" Methods that were not applied: {list_some(not_applied_runs, _MAX_NAMES)}."
            if not_applied_runs
            else ""
        )
        yield format_item(
            "verdicts",
            f"The verdicts of all {len(plan.runs)} runs are listed in {index}.{not_applied}",
        )
    elif index.exists():
        yield format_item("index", f"{index} (all reports and verdicts)")


def _make_file_lines(plan: "Plan", folders: Sequence[Path]) -> Iterator[str]:
    """Yield the file patterns of stored series and maps in the folders of the runs."""
    from bids_sr.survey.bids.label_lists import list_some

    if folders:
        stored_names = {
            path.name.partition("_desc-")[2]
            for folder in folders
            for path in folder.glob("*_desc-*_bold.nii.gz")
        }
        series_names = " ".join(
            name for name in plan.series if f"{name}_bold.nii.gz" in stored_names
        )
        places = list_some([*map(str, folders)], _MAX_NAMES)
        if series_names:
            yield format_item(
                "series",
                f"*_desc-NAME_bold.nii.gz in {places}, where NAME is one of: {series_names}",
            )
        if any(path for folder in folders for path in folder.glob("*_statmap.nii.gz")):
            yield format_item("maps", f"*_statmap.nii.gz in {places}")


def _make_export_lines(plan: "Plan", output_dir: Path) -> Iterator[str]:
    """Yield the data sets for other programs, and their runs that are only zero filled."""
    from bids_sr.io.dataset_description import dataset_root, read_applied
    from bids_sr.survey.bids.label_lists import list_some

    for name in plan.series:
        root = dataset_root(output_dir, name)
        if not any(root.glob("sub-*")):
            continue
        unapplied_runs = [
            run for run, is_applied in read_applied(output_dir, name).items() if not is_applied
        ]
        zero_filled_text = (
            f". {name} was not applied, so these runs are NOT super-resolved but zero filled:"
            f" {list_some(unapplied_runs, _MAX_NAMES)}"
            if unapplied_runs
            else ""
        )
        yield format_item("exported", f"For XCP-D, fitlins, nilearn: {root}{zero_filled_text}")


def make_warning_lines(folder: Path) -> Iterator[str]:
    """Yield the warnings of a run's steps without duplicates, with the first few affected runs."""
    from bids_sr.survey.bids.label_lists import list_some

    participants_by_text: dict[str, dict[str, None]] = {}
    for notice in read_record(folder):
        if notice.code == "step":
            participants_by_text.setdefault(notice.why, {})[notice.whom] = None
    for text, runs in list(participants_by_text.items())[:_MAX_NAMES]:
        yield format_notice(
            Notice(what=list_some(list(runs), 3), why=text, level="warning", code="step")
        )
    if len(participants_by_text) > _MAX_NAMES:
        yield format_item(
            "",
            f"and {len(participants_by_text) - _MAX_NAMES} more warnings, listed in"
            f" {folder / RECORD}",
        )


def format_notice(notice: Notice) -> str:
    """Format a notice as an item of a list, with its level before the text."""
    return format_item(notice.level, str(notice))


def format_item(name: str, text: str) -> str:
    """Format an item of a list, with its name before the text; long text is wrapped.

    >>> format_item("output", "/out")
    '  output    /out'
    """
    return _wrap(text, f"  {name:<{_INDENT_WIDTH - 2}}")


def wrap_after_time(text: str) -> str:
    """Wrap a text that `bids_sr.cli.messages.print_line` prints after the time of day."""
    time_gap = " " * len("12:34:56 ")
    return _wrap(text, time_gap).removeprefix(time_gap)


def _wrap(text: str, start: str) -> str:
    """Wrap a text after the start of its first line; further lines are indented as much."""
    return textwrap.fill(
        text,
        _LINE_WIDTH,
        initial_indent=start,
        subsequent_indent=" " * len(start),
        break_long_words=False,
        break_on_hyphens=False,
    )


def table_text(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as text with aligned columns; the last column is not padded.

    >>> print(table_text([("name", "what it is"), ("bspline", "cubic")]))
      name     what it is
      bspline  cubic
    """
    widths = [
        max(len(row[index]) for row in rows if index < len(row))
        for index in range(max(map(len, rows)))
    ]
    lines = ((cell.ljust(width) for cell, width in zip(row, widths, strict=False)) for row in rows)
    return "\n".join(f"  {'  '.join(line)}".rstrip() for line in lines)


def progress_line() -> Callable[[str, int, int], None]:
    """Return a function that shows progress on a terminal line, or prints a line per minute."""
    last_time = time.monotonic()

    def show_progress(label: str, n_done: int, count: int) -> None:
        nonlocal last_time
        text = f"{label} {n_done}/{count}"
        if sys.stderr.isatty():
            print(f"\r{text}", end="" if n_done < count else "\n", file=sys.stderr, flush=True)
        elif time.monotonic() - last_time > 60:
            last_time = time.monotonic()
            print(text, file=sys.stderr, flush=True)

    return show_progress
