"""Console output before and after processing: plan, verdicts, reports and outputs."""

import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bids_sr.config import Settings
from bids_sr.notices import RECORD, Notice, read_record

if TYPE_CHECKING:
    from bids_sr.execution.execute import RunOutcome
    from bids_sr.preflight.plan import Plan

_MOST_NAMED = 6
_INDENT = 12


def item(name: str, text: str) -> str:
    """Format an item of a list, with its name before the text; long text is wrapped.

    >>> item("output", "/out")
    '  output    /out'
    """
    return textwrap.fill(
        text,
        118,
        initial_indent=f"  {name:<{_INDENT - 2}}",
        subsequent_indent=" " * _INDENT,
        break_long_words=False,
        break_on_hyphens=False,
    )


def format_line(notice: Notice) -> str:
    """Return a notice as a line of a list that starts with its heading or level."""
    is_progress = notice.code == "progress"
    return item(notice.what, notice.why) if is_progress else item(notice.level, str(notice))


def progress_notice(head: str, text: str) -> Notice:
    """Return a notice about an input, a choice or an output of the call.

    `head` is the word at the start of the line, and may be empty.
    """
    return Notice(what=head, why=text, level="note", code="progress")


def start_lines(plan: "Plan", settings: Settings) -> Iterator[Notice]:
    """Yield warnings, directories, runs, methods, contrasts and notes of a call."""
    from bids_sr import preflight
    from bids_sr.bids.label_lists import list_some

    paths = settings.paths
    lines = preflight.notes(plan, settings)
    yield from (notice for notice in lines if notice.level == "warning")
    yield progress_notice("dataset", str(paths.bids_dir))
    yield progress_notice("output", str(paths.output_dir))
    yield progress_notice("settings", str(paths.output_dir / "logs" / settings.run.run_uuid))
    yield progress_notice("work", f"{paths.work_dir} (intermediate files)")
    runs = [run.stem for run in plan.runs]
    scans = [
        f"sub-{subject.label} {contrast}"
        for subject in plan.subjects
        for contrast in (
            *(scan.contrast for scan in subject.structural),
            *(scan.contrast for session in subject.controls for scan in session),
            *(scan.contrast for session in subject.lowres for scan in session),
        )
    ]
    noun, names = ("scan", scans) if scans and not runs else ("run", runs)
    participants_text = count_text(len(plan.subjects), "participant")
    yield progress_notice(
        f"{noun}s",
        f"{count_text(len(names), noun)} of {participants_text}: {list_some(names, _MOST_NAMED)}",
    )
    for title, line in preflight.choice_lines(plan, settings):
        yield progress_notice(title, line)
    for notice in lines:
        if notice.code == "advice":
            yield progress_notice("tip", notice.why)
        elif notice.level != "warning":
            yield notice


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
    last = time.monotonic()

    def show_progress(label: str, n_done: int, count: int) -> None:
        nonlocal last
        text = f"{label} {n_done}/{count}"
        if sys.stderr.isatty():
            print(f"\r{text}", end="" if n_done < count else "\n", file=sys.stderr, flush=True)
        elif time.monotonic() - last > 60:
            last = time.monotonic()
            print(text, file=sys.stderr, flush=True)

    return show_progress


def count_text(number: int, noun: str) -> str:
    """Return a number with its noun in singular or plural.

    >>> count_text(1, "run"), count_text(2, "run")
    ('1 run', '2 runs')
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def end_lines(plan: "Plan", settings: Settings, outcome: "RunOutcome") -> Iterator[Notice]:
    """Yield verdicts not shown yet, reports, and paths of series, maps and exported data sets."""
    from bids_sr.bids.label_lists import list_some
    from bids_sr.io.dataset_description import dataset_root, read_applied
    from bids_sr.report.index_page import INDEX
    from bids_sr.report.run_summaries import VERDICT_SUFFIX, compared_verdicts, read_run_summary

    out = settings.paths.output_dir
    folders = set[Path]()
    reports = outcome.reports
    not_applied_runs = list[str]()
    for run in plan.runs:
        verdict_files = sorted(
            (out / f"sub-{run.entities['subject']}").rglob(f"{run.stem}{VERDICT_SUFFIX}")
        )
        for path in verdict_files:
            folders.add(path.parent)
            summary = read_run_summary(path, run.entities["subject"])
            if run.stem not in outcome.reported_runs:
                yield progress_notice("verdict", f"{run.stem}: {summary['verdict']}")
            if summary["not applied"]:
                not_applied_runs.append(f"{run.stem} ({summary['not applied']})")
            for line in compared_verdicts(path):
                yield progress_notice("compared", line)
    for report in reports[:_MOST_NAMED]:
        yield progress_notice("report", str(report))
    if len(reports) > _MOST_NAMED:
        yield progress_notice(
            "",
            f"and {len(reports) - _MOST_NAMED} more reports; all reports are listed in"
            f" {out / INDEX}",
        )
    if len(plan.runs) > 1:
        not_applied = (
            f" Methods that were not applied: {list_some(not_applied_runs, _MOST_NAMED)}."
            if not_applied_runs
            else ""
        )
        yield progress_notice(
            "verdicts",
            f"The verdicts of all {len(plan.runs)} runs are listed in {out / INDEX}.{not_applied}",
        )
    folder_names = [str(folder) for folder in sorted(folders)]
    if folder_names:
        stored_names = {
            path.name.partition("_desc-")[2]
            for folder in folders
            for path in folder.glob("*_desc-*_bold.nii.gz")
        }
        series_names = " ".join(
            name for name in plan.series if f"{name}_bold.nii.gz" in stored_names
        )
        yield progress_notice(
            "series",
            f"*_desc-NAME_bold.nii.gz in {list_some(folder_names, _MOST_NAMED)}, where NAME is one"
            f" of: {series_names}",
        )
    if any(path for folder in folders for path in folder.glob("*_statmap.nii.gz")):
        yield progress_notice(
            "maps",
            f"*_statmap.nii.gz in the same director{'ies' if len(folder_names) > 1 else 'y'}",
        )
    for name in (name for name in plan.series if any(dataset_root(out, name).glob("sub-*"))):
        unapplied_runs = [run for run, applied in read_applied(out, name).items() if not applied]
        zero_filled_text = (
            f"{name} was not applied, so these runs are NOT super-resolved but zero filled:"
            f" {list_some(unapplied_runs, _MOST_NAMED)}. "
            if unapplied_runs
            else ""
        )
        text = (
            "Preprocessed series with fMRIPrep file names, for nilearn, XCP-D and other software"
        )
        yield progress_notice("exported", f"{dataset_root(out, name)}: {zero_filled_text}{text}")
    yield from warning_lines(out / "logs" / settings.run.run_uuid)


def warning_lines(folder: Path) -> Iterator[Notice]:
    """Yield the warnings of a run's steps without duplicates, with the first few affected runs."""
    from bids_sr.bids.label_lists import list_some

    by_text: dict[str, dict[str, None]] = {}
    for notice in read_record(folder):
        if notice.code == "step":
            by_text.setdefault(notice.why, {})[notice.whom] = None
    for text, runs in list(by_text.items())[:_MOST_NAMED]:
        yield Notice(what=list_some(list(runs), 3), why=text, level="warning", code="step")
    if len(by_text) > _MOST_NAMED:
        yield progress_notice(
            "", f"and {len(by_text) - _MOST_NAMED} more warnings, listed in {folder / RECORD}"
        )
