"""Pages of participants: ``sub-XX.html``, assembled with methods text and errors."""

import time
from collections.abc import Collection, Sequence
from pathlib import Path

from markupsafe import Markup

from bids_sr.boilerplate import bibliography
from bids_sr.io import atomic_files
from bids_sr.notices import Notice, recorded
from bids_sr.report.assembler import write_subject_page
from bids_sr.report.facts import facts_html, messages_html
from bids_sr.report.index_page import ALL, link
from bids_sr.report.markup import joined, render
from bids_sr.report.methods_text import methods_html
from bids_sr.report.run_notes import left_out_text, note_of
from bids_sr.report.sections import Shown
from bids_sr.version import __version__

_CITATIONS = {"html": "references", "md": "Markdown", "bib": "BibTeX"}


def _reported(root: Path) -> set[str]:
    """Return labels (without ``sub-``) of those whose report there is."""
    pages = root.glob("sub-*.html")
    # those of sessions have further entities
    return {path.stem.removeprefix("sub-") for path in pages if "_" not in path.name}


def _neighbors_of(label: str, there: Collection[str]) -> dict[str, str]:
    """Return report file names by link text: previous and next participant, and index.

    `there` are the labels of all reports.
    """
    labels = sorted({label, *there})
    place = labels.index(label)
    texts = [(f"‹ sub-{each}", each) for each in labels[max(place - 1, 0) : place]]
    texts += [(f"sub-{each} ›", each) for each in labels[place + 1 : place + 2]]
    return {**{text: f"sub-{each}.html" for text, each in texts}, **ALL}


_UNFINISHED = (
    "Processing of this participant started at {} and has not finished, or was stopped. This page"
    " was written by an earlier call, and files that are linked from this page may have been"
    " removed or changed. If processing was stopped, rerun the command to resume."
)
_START = '<main id="content" tabindex="-1">'


def mark_unfinished(root: Path, labels: Sequence[str]) -> None:
    """Say on pages that are there that a call has begun; those written at its end do not."""
    note = render("note", "warning", _UNFINISHED.format(time.strftime("%Y-%m-%d %H:%M")))
    for page in (each for label in labels for each in root.glob(f"sub-{label}[._]*html")):
        text = page.read_text(encoding="utf-8")
        if _UNFINISHED.partition("{}")[0] not in text:
            atomic_files.write_whole(page, text.replace(_START, f"{_START}\n{note}", 1))


_TRACEBACK_LINES = 12


def _errors_html(failed: Sequence[Notice], log_dir: Path) -> Markup:
    """Return the steps that failed, with the end of each traceback."""
    entries = []
    for notice in failed:
        file = log_dir / Path(notice.file).name  # also where the outputs were moved
        text = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
        tail = "\n".join(text.splitlines()[-_TRACEBACK_LINES:])
        entries.append((notice, file.name, tail, text))
    return render("crashes", entries)


def _about_html(log_dir: Path, *, command: str | None) -> Markup:
    """Version, command, run and settings."""
    facts: dict[str, object] = {"bids-sr version": __version__, "Run": log_dir.name}
    if command:
        facts["Command"] = command
    settings = log_dir / "settings.toml"
    if not settings.exists():
        return facts_html(facts) + render(
            "note", "missing", "The settings file of this run was not found."
        )
    place = link(f"logs/{log_dir.name}/{settings.name}", settings.name)
    return facts_html(facts) + Markup("<p>All settings: {}</p>").format(place)


def _methods_fragment(markdown: str) -> Markup:
    """Return the methods text.

    It is also stored beside the page with its references, and as Markdown and BibTeX.
    """
    if not markdown.strip():
        return render("note", "missing", "The methods text was not written.")
    beside = Markup(", ").join(
        link(f"CITATION.{suffix}", text) for suffix, text in _CITATIONS.items()
    )
    return joined(
        [
            Markup(
                "<p>We recommend that you include the following text in the methods section of"
                " your paper, together with its citations ({}). You may modify and reuse the text"
                " freely.</p>"
            ).format(beside),
            render(
                "bounded", "Methods text", methods_html(markdown, bibliography(), references=False)
            ),
        ]
    )


def _logs_of_outputs(logs: Path, label: str, *, default: Path) -> Path:
    """Return the logs of the run that made a participant's outputs.

    Its settings and crash files belong to these outputs; `default` where no run has left any.
    """
    note = note_of(logs, label)
    if note is not None and (named := logs / note.run).is_dir():
        return named
    made = sorted(path.parent for path in logs.glob("*/CITATION.md"))
    return made[-1] if made else default


def write_participants(
    root: Path,
    labels: Sequence[str],
    *,
    shown: Sequence[Shown],
    log_dir: Path,
    command: str | None = None,
    sessions: int = 0,
) -> tuple[Path, ...]:
    """Write each ``sub-XX.html``, with logs of the run that made its outputs, else `log_dir`.

    `command` is told on the pages unless it is None. With more than `sessions` (0: never) each
    session of a participant has a page.
    """
    logs = {label: _logs_of_outputs(root / "logs", label, default=log_dir) for label in labels}
    beside = {*_reported(root), *labels}  # asked once, not for each of thousands
    return tuple(
        _build_report(
            root,
            label,
            shown=shown,
            log_dir=own,
            command=command,
            beside=beside,
            sessions=sessions,
        )
        for label, own in logs.items()
    )


def _build_report(
    output_dir: Path,
    subject: str,
    *,
    shown: Sequence[Shown],
    log_dir: Path,
    command: str | None = None,
    beside: Collection[str] | None = None,
    sessions: int = 0,
) -> Path:
    """Assemble ``sub-XX.html`` from declared figures and return its path.

    The figures are those below `output_dir` that are declared (`shown`).

    Sections without figures stay, and name what is missing, so that the page of a run that stopped
    early cannot be taken for that of a whole one. The logs of the run hold crash files,
    ``settings.toml`` and ``CITATION.md``, else that of `output_dir` is taken. The page links to
    those before and after it among `beside`, labels without ``sub-``, by default those that are
    there. The page is written in whole; figures are not touched.

    `command`: command line that is told on the page; None: not told.
    """
    root = Path(output_dir).absolute()
    label = subject.removeprefix("sub-")
    written = (path for folder in (log_dir, root) if (path := folder / "CITATION.md").exists())
    text = next((path.read_text(encoding="utf-8") for path in written), "")
    every = recorded(log_dir)
    notices = [each for each in every if each.concerns(label)]
    messages = {
        "warning": [
            f"{each.run}: {left_out_text(each)}" for each in notices if each.code == "left-out"
        ]
        + [str(each) for each in notices if each.level == "warning"],
        "note": [str(each) for each in notices if each.level == "note"],
    }
    messages = {kind: list(dict.fromkeys(texts)) for kind, texts in messages.items()}
    named = {Path(each.file).name for each in every}
    failed = [each for each in notices if each.failed] + [
        Notice(what=file.name, code="crashed", file=str(file))
        for file in sorted(log_dir.glob("crash-*"))
        if file.name not in named  # of an earlier version, or the record could not be written
    ]
    custom = {
        "overview": messages_html("warning", messages["warning"]),
        "summary": messages_html("note", messages["note"]),
        "methods": _methods_fragment(text),
        "errors": _errors_html(failed, log_dir),
        "about": _about_html(log_dir, command=command),
    }
    neighbors = _neighbors_of(label, _reported(root) if beside is None else beside)
    return write_subject_page(
        root,
        label,
        shown=shown,
        custom=custom,
        neighbors=neighbors,
        crashed=bool(failed),
        notices={kind: len(texts) for kind, texts in messages.items()},
        most_sessions=sessions,
    )
