"""Pages of participants: ``sub-XX.html``, and ``index.html`` with the verdict of each run.

Notes of each participant's last run in ``logs/latest``: name, settings, index rows.

The rows are those of ``index.html``.

The page over thousands of participants is made of these rows, not of the tables of all; whoever is
the last of a data set finds here that it is.
"""

import json
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from markupsafe import Markup

from bids_sr.boilerplate import bibliography
from bids_sr.frozen import frozen
from bids_sr.io import atomic_files
from bids_sr.io.atomic_files import write_whole
from bids_sr.notices import Notice, recorded
from bids_sr.report.assembler import plain_section, write_page, write_subject_page
from bids_sr.report.html_tables import facts_html, messages_html
from bids_sr.report.methods_text import methods_html
from bids_sr.report.overview_text import (
    HEADS,
    MEASURED,
    NOT_EVALUATED,
    NUMBERS,
    READING,
    SHOWN,
    VERDICT,
    RunSummary,
    name_below,
    run_summary,
    stamps_of,
)
from bids_sr.report.sections import Shown, joined, render, table
from bids_sr.version import __version__

_FEW = 100
"""So many participants may be read at the end of every call."""


@frozen
class _PageRow:
    """One run of a participant."""

    file: str  # of its verdict, below the participant's folder
    stamps: tuple[int, ...]  # of the files that the summary was read from
    summary: RunSummary


@frozen
class Note:
    """One participant.

    `run`: name of the folder of logs of its outputs; `last`: of the last call, which may have left
    out all of it. `settings`: digest of those that decide results.
    """

    run: str
    last: str = ""
    settings: str = ""
    rows: tuple[_PageRow, ...] = ()

    def to_text(self) -> str:
        """Return it as JSON."""
        return f"{json.dumps(asdict(self))}\n"

    @classmethod
    def from_text(cls, text: str) -> "Note":
        """Parse a note as written."""
        values = json.loads(text)
        rows = tuple(
            _PageRow(file=row["file"], stamps=tuple(row["stamps"]), summary=dict(row["summary"]))
            for row in values.get("rows", ())
        )
        last, settings = values.get("last", ""), values.get("settings", "")
        return cls(run=values["run"], last=last, settings=settings, rows=rows)


def note_of(logs: Path, label: str) -> Note | None:
    """The note of a participant (label without ``sub-``), None where no run left one."""
    try:
        return Note.from_text(_file(logs, label).read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def note_run(log_dir: Path, labels: Sequence[str], *, settings: str) -> bool:
    """Note that a run made outputs of these participants; whether anything but its name is new.

    Names of logs follow a clock that may be set, so that they tell no order. Participants of whom
    all is left out, as the record of the run says, are noted too; the logs of their outputs stay
    those of an earlier run.
    """
    logs, changed = log_dir.parent, False
    for label in dict.fromkeys([*labels, *_left_out(log_dir)]):
        before = note_of(logs, label)
        note = Note(
            run=log_dir.name if label in labels or before is None else before.run,
            last=log_dir.name,
            settings=settings,
            rows=tuple(_read(logs.parent / f"sub-{label}", label)),
        )
        changed |= before is None or _shown(logs, label, before) != _shown(logs, label, note)
        write_whole(_file(logs, label), note.to_text())
    return changed


def left_out_text(notice: Notice) -> str:
    """Why a run was left out, in a line."""
    return f"skipped: {Path(notice.what).name}: {notice.why}"


def _left_out(log_dir: Path) -> dict[str, dict[str, str]]:
    """Participant (label) → name of each run that a call left out → why, in a line."""
    reasons: dict[str, dict[str, str]] = {}
    for each in recorded(log_dir):
        if each.code == "left-out":
            runs = reasons.setdefault(each.subject, {})
            why = left_out_text(each)
            name = name_below(each.run, each.subject)
            runs[name] = "; ".join(dict.fromkeys(filter(None, (runs.get(name), why))))
    return reasons


def rows_of(root: Path, label: str) -> list[RunSummary]:
    """Return the index rows of a participant's runs, as noted unless files have changed since.

    A run that the last call left out is told as that, also where an earlier one has left results
    of it.
    """
    logs, folder = root / "logs", root / f"sub-{label}"
    note = note_of(logs, label)
    rows = () if note is None else note.rows
    if not rows or any(stamps_of(folder / row.file) != row.stamps for row in rows):
        rows = tuple(_read(folder, label))
    out = {} if note is None else _left_out(logs / note.last).get(label, {})
    return [
        *(row.summary for row in rows if row.summary["run"] not in out),
        *(RunSummary(run=run, verdict=why) for run, why in out.items()),
    ]


def noted(root: Path) -> list[str]:
    """Return labels (without ``sub-``) of all participants that runs have noted."""
    return [
        path.stem.removeprefix("sub-")
        for path in _file(root / "logs", "").parent.glob("sub-*.json")
    ]


def is_last(root: Path, bids_dir: Path, settings: str) -> bool:
    """Return whether all participants of a dataset were run with these settings.

    It is also true where there are few participants in the output.
    """
    there = set(noted(root))
    if len(there) <= _FEW:
        return True
    labels = [path.name.removeprefix("sub-") for path in bids_dir.glob("sub-*") if path.is_dir()]
    if not there.issuperset(labels):
        return False
    notes = (note_of(root / "logs", label) for label in labels)
    return all(note is not None and note.settings == settings for note in notes)


def _read(folder: Path, label: str) -> Iterator[_PageRow]:
    for place in ("func", "ses-*/func"):
        for file in sorted(folder.glob(f"{place}/*{VERDICT}")):
            stamps = stamps_of(file)
            yield _PageRow(
                file=str(file.relative_to(folder)), stamps=stamps, summary=run_summary(file, label)
            )


def _shown(logs: Path, label: str, note: Note) -> tuple[object, ...]:
    """What the index shows of a note."""
    out = _left_out(logs / note.last).get(label)
    return note.settings, [row.summary for row in note.rows], out


def _file(logs: Path, label: str) -> Path:
    return logs / "latest" / f"sub-{label}.json"


INDEX, GROUP, SCANS_GROUP = "index.html", "group.html", "group_scans.html"
ALL = {"All participants": INDEX}
_MOST_TRIES = 5
_CITATIONS = {"html": "references", "md": "Markdown", "bib": "BibTeX"}


def participants_with_figures(root: Path) -> list[str]:
    """Return labels (without ``sub-``) of those whose report there is or will be, in order."""
    return sorted(path.parent.name.removeprefix("sub-") for path in root.glob("sub-*/figures"))


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


def write_index(root: Path) -> Path:
    """Write ``index.html`` from what lies below the output directory `root`, and return its path.

    Runs are found by their verdicts (see `run_notes`); a participant whose runs have none is named
    with that. Where another process changes the outputs at the same time, the page is written
    again, so that the last one is of what is there.
    """
    before = None
    for _ in range(_MOST_TRIES):
        if (found := _reports(root)) == before:
            break
        _write(root, found)
        before = found
    return root / INDEX


def _reports(root: Path) -> list[tuple[str, bool, list[RunSummary]]]:
    """Participants: label, whether there is a report, and what there is to tell of each run."""
    found = []
    for label in sorted({*participants_with_figures(root), *noted(root)}):
        found.append((label, (root / f"sub-{label}.html").is_file(), rows_of(root, label)))
    return found


def _write(root: Path, summaries: Sequence[tuple[str, bool, list[RunSummary]]]) -> None:
    rows: list[RunSummary] = []
    pages = {path.name for path in root.glob("sub-*_ses-*.html")}
    for label, reported, notices in summaries:
        name = (
            _link(f"sub-{label}.html", f"sub-{label}") if reported else f"sub-{label} (no report)"
        )
        rows += [
            {**each, "participant": name, "run": _run_cell(each["run"], label, pages)}
            for each in notices or [{"run": "–", "verdict": NOT_EVALUATED}]
        ]
    kept = [head for head in HEADS if head in SHOWN or any(row.get(head) for row in rows)]
    cells = [[row.get(head) or "–" for head in kept] for row in rows]
    texts = {place for place, head in enumerate(kept) if head not in NUMBERS}
    heads = [(head, HEADS[head]) for head in kept]
    people = [
        table("Runs", heads, cells, names=2, texts=texts),
        *([Markup("<p>{}</p>").format(READING)] if MEASURED in kept else ()),
    ]
    for page, text in (
        (SCANS_GROUP, "Group results: structural scans"),
        (GROUP, "Group results: accuracy"),
    ):
        if (root / page).is_file():
            people.insert(0, Markup("<p>{}</p>").format(_link(page, text)))
    sections = [plain_section("participants", "Participants", joined(people))]
    write_page(root / INDEX, title="bids-sr: participants", sections=sections)


def _run_cell(run: str, label: str, pages: Collection[str]) -> str:
    """The run, linked where its session has a page of its own."""
    page = f"sub-{label}_{run.partition('_')[0]}.html"
    return _link(page, run) if page in pages else run


def _link(place: str, text: str) -> Markup:
    return Markup('<a href="{}">{}</a>').format(place, text)


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
    place = _link(f"logs/{log_dir.name}/{settings.name}", settings.name)
    return facts_html(facts) + Markup("<p>All settings: {}</p>").format(place)


def _methods_fragment(markdown: str) -> Markup:
    """Return the methods text.

    It is also stored beside the page with its references, and as Markdown and BibTeX.
    """
    if not markdown.strip():
        return render("note", "missing", "The methods text was not written.")
    beside = Markup(", ").join(
        _link(f"CITATION.{suffix}", text) for suffix, text in _CITATIONS.items()
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
