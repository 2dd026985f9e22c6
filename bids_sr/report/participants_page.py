"""Pages of participants: ``sub-XX.html`` with figures, methods text and errors."""

import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from markupsafe import Markup

from bids_sr.boilerplate import bibliography
from bids_sr.io import atomic_files
from bids_sr.io.dataset_description import list_series_datasets
from bids_sr.io.notices import Notice, read_record
from bids_sr.report.assembler import write_subject_page
from bids_sr.report.facts import facts_html, messages_html
from bids_sr.report.index_page import INDEX_LINK, render_link
from bids_sr.report.markup import join, render
from bids_sr.report.methods_text import methods_html
from bids_sr.report.results_paragraph import RESULTS_HEADING, write_paragraphs
from bids_sr.report.run_notes import describe_skipped_run, read_note
from bids_sr.report.sections import FigureSpec
from bids_sr.version import __version__

_CITATION_FORMATS = {"html": "references", "md": "Markdown", "bib": "BibTeX"}
_UNFINISHED = (
    "Processing of this participant started at {} and has not finished, or was stopped. This page"
    " was written by an earlier call, and files that are linked from this page may have been"
    " removed or changed. If processing was stopped, rerun the command to resume."
)
_FIRST_PAGE = (
    "This page was written at {}, with the first results. Their answers stay; everything else is"
    " still computed, and files that are linked from this page may not exist yet. If processing"
    " was stopped, rerun the command to resume."
)
_MAIN_TAG = '<main id="content" tabindex="-1">'
_TRACEBACK_LINES = 12  # lines of a traceback on the page


def mark_unfinished(root: Path, labels: Sequence[str]) -> None:
    """Note on existing pages that a new run has started; pages written later lack the note."""
    note = render("note", "warning", _UNFINISHED.format(time.strftime("%Y-%m-%d %H:%M")))
    for page in (
        page_file for label in labels for page_file in root.glob(f"sub-{label}[._]*html")
    ):
        html = page.read_text(encoding="utf-8")
        if _UNFINISHED.partition("{}")[0] not in html:
            atomic_files.write_text(page, html.replace(_MAIN_TAG, f"{_MAIN_TAG}\n{note}", 1))


def write_first_page(
    root: Path,
    label: str,
    *,
    declarations: Sequence[FigureSpec],
    log_dir: Path,
    stored_files: Collection[Path],
    command: str,
    sessions: int = 0,
) -> Path:
    """Write the page of a participant with the first verdict, while the rest is still computed.

    `stored_files` are the files of this call that exist; other figures are of earlier calls. For
    the other parameters, see `write_participants`.
    """
    note = render("note", "note", _FIRST_PAGE.format(time.strftime("%Y-%m-%d %H:%M")))
    return write_subject_page(
        root.absolute(),
        label,
        declarations=declarations,
        custom={"overview": note, "about": _render_version(log_dir, command=command)},
        most_sessions=sessions,
        stored_files={path.absolute() for path in stored_files},
    )


def write_participants(
    root: Path,
    labels: Sequence[str],
    *,
    declarations: Sequence[FigureSpec],
    log_dir: Path,
    command: str | None = None,
    sessions: int = 0,
) -> tuple[Path, ...]:
    """Write the page of each participant, with the logs of the run that produced its outputs.

    Sections without figures are kept and state what is missing, so that the page of an incomplete
    run cannot be mistaken for a complete one. Figures that are not declared are ignored.

    `root` is the output directory, and `labels` are without ``sub-``. `log_dir` has the logs of
    this run, for participants without outputs of another run. `command` is shown on the pages;
    None to omit it. `sessions` is the largest number of sessions on one page; with more sessions,
    each session has a page. 0 for a single page.
    """
    root = root.absolute()
    # computed once, because there may be thousands of participants
    pages = root.glob("sub-*.html")
    # pages of sessions have further entities
    reported = (path.stem.removeprefix("sub-") for path in pages if "_" not in path.name)
    reported_labels = sorted({*reported, *labels})
    reports = []
    for label in labels:
        logs = _find_logs(root / "logs", label, default=log_dir)
        notices = _read_notices(logs, label)
        messages = _list_messages(notices)
        report = write_subject_page(
            root,
            label,
            declarations=declarations,
            custom=_render_texts(root, label, logs, notices, messages, command=command),
            neighbors=_neighbor_links(label, reported_labels),
            crashed=any(notice.failed for notice in notices),
            notices={kind: len(messages[kind]) for kind in ("warning", "note")},
            most_sessions=sessions,
        )
        reports.append(report)
    return tuple(reports)


def _render_texts(
    root: Path,
    label: str,
    logs: Path,
    notices: Sequence[Notice],
    messages: Mapping[str, Sequence[str]],
    *,
    command: str | None,
) -> dict[str, Markup]:
    """Return the texts of a participant's page by section, apart from the figures.

    For the parameters, see `write_participants`. `notices` are those of `logs`, and `messages` the
    same by kind.
    """
    paragraphs = write_paragraphs(root, label).values()
    datasets = [path.relative_to(root).as_posix() for path in list_series_datasets(root, label)]
    return {
        "overview": messages_html("warning", messages["skipped"]),
        "summary": join(
            [
                messages_html("warning", messages["warning"]),
                messages_html("note", messages["note"]),
                render("places", datasets, label),
            ]
        ),
        "results": join(render("results", text) for text in paragraphs),
        "methods": _render_methods([logs, root]),
        "errors": _render_errors([notice for notice in notices if notice.failed], logs),
        "about": _render_version(logs, command=command),
    }


def _find_logs(logs: Path, label: str, *, default: Path) -> Path:
    """Return the logs of the run that produced a participant's outputs.

    Settings and crash files in these logs belong to the outputs. `default` is returned if there is
    no such run.
    """
    note = read_note(logs, label)
    if note is not None and (log_folder := logs / note.log_folder).is_dir():
        return log_folder
    folders_with_methods = sorted(path.parent for path in logs.glob("*/CITATION.md"))
    return folders_with_methods[-1] if folders_with_methods else default


def _list_messages(notices: Sequence[Notice]) -> dict[str, list[str]]:
    """Return the texts of skipped runs, warnings and notes, without repetitions."""
    messages: dict[str, dict[str, None]] = {"skipped": {}, "warning": {}, "note": {}}
    for notice in notices:
        if notice.code == "left-out":
            messages["skipped"][f"{notice.run}: {describe_skipped_run(notice)}"] = None
        if notice.level in messages:
            messages[notice.level][str(notice)] = None
    return {kind: list(texts) for kind, texts in messages.items()}


def _read_notices(log_dir: Path, label: str) -> list[Notice]:
    """Return the notices on a participant, and one per crash file that no notice refers to.

    Notices of earlier versions do not refer to the file.
    """
    notices = read_record(log_dir)
    recorded_names = {Path(notice.file).name for notice in notices}
    crashes = [
        Notice(what=file.name, code="crashed", file=str(file))
        for file in sorted(log_dir.glob("crash-*"))
        if file.name not in recorded_names
    ]
    return [*(notice for notice in notices if notice.concerns(label)), *crashes]


def _render_methods(folders: Sequence[Path]) -> Markup:
    """Render the methods text with links to its other formats.

    The text is from the first of `folders` with a text. It is also stored next to the page with
    its references, and as Markdown and BibTeX. The results of all participants that follow it are
    omitted.
    """
    files = (folder / "CITATION.md" for folder in folders)
    texts = (file.read_text(encoding="utf-8") for file in files if file.exists())
    markdown = next(texts, "").partition(RESULTS_HEADING)[0]
    if not markdown.strip():
        return render("note", "missing", "The methods text was not written.")
    text = methods_html(markdown, bibliography(), references=False)
    return render("paper", _CITATION_FORMATS, text)


def _render_errors(failed_steps: Sequence[Notice], log_dir: Path) -> Markup:
    """Render the failed steps, with the end of each traceback."""
    entries = []
    for notice in failed_steps:
        file = log_dir / Path(notice.file).name  # the recorded folder may have been moved
        crash_text = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
        traceback_end = "\n".join(crash_text.splitlines()[-_TRACEBACK_LINES:])
        entries.append((notice, file.name, traceback_end, crash_text))
    return render("crashes", entries)


def _render_version(log_dir: Path, *, command: str | None) -> Markup:
    """Render version, command, run and settings."""
    facts: dict[str, object] = {"bids-sr version": __version__, "Run": log_dir.name}
    if command:
        facts["Command"] = command
    settings = log_dir / "settings.toml"
    if not settings.exists():
        return facts_html(facts) + render(
            "note", "missing", "The settings file of this run was not found."
        )
    version_link = render_link(f"logs/{log_dir.name}/{settings.name}", settings.name)
    return facts_html(facts) + Markup("<p>All settings: {}</p>").format(version_link)


def _neighbor_links(label: str, reported_labels: Sequence[str]) -> dict[str, str]:
    """Return links to the previous and next participant and to the index, by link text.

    `reported_labels` are sorted labels of participants with a page (without ``sub-``).
    """
    index = reported_labels.index(label)
    previous_labels = reported_labels[max(index - 1, 0) : index]
    next_labels = reported_labels[index + 1 : index + 2]
    return {
        **{f"‹ sub-{name}": f"sub-{name}.html" for name in previous_labels},
        **{f"sub-{name} ›": f"sub-{name}.html" for name in next_labels},
        **INDEX_LINK,
    }
