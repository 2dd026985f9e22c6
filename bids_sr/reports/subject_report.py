"""The report of one subject: gather what is there, say what is not, and write one page."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from bids_sr import __version__
from bids_sr.boilerplate import bibliography
from bids_sr.reports.markup import folded, joined, render
from bids_sr.reports.tables.html_tables import facts_html
from bids_sr.reports.text.methods_text import methods_html

TRACEBACK_LINES = 12


@dataclass(frozen=True, kw_only=True, slots=True)
class Crash:
    """A crash file, read: its name, the full name of the node, and the traceback from its first line to the error."""

    file: str
    node: str
    traceback: str


def read_crash(path: Path) -> Crash:
    """Node and traceback of a nipype crash file in text form; a file of another form is shown as it is."""
    text = path.read_text(encoding="utf-8", errors="replace")
    node = re.search(r"^Node:\s*(\S+)", text, flags=re.MULTILINE)
    start = text.find("Traceback")
    return Crash(file=path.name, node=node[1] if node else "unknown node", traceback=text[max(start, 0) :].strip())


def crash_files(log_dir: Path) -> list[Path]:
    """Crash files of a run, oldest name first; pickled ones are named, never opened."""
    return sorted(log_dir.rglob("crash-*")) if log_dir.is_dir() else []


def errors_html(log_dir: Path) -> Markup:
    """What crashed, with the node and the end of the traceback; pickled crash files are named alone."""
    entries: list[tuple[str, Crash | None, str]] = []
    for file in crash_files(log_dir):
        crash = None if file.suffix == ".pklz" else read_crash(file)
        tail = "\n".join(crash.traceback.splitlines()[-TRACEBACK_LINES:]) if crash else ""
        entries.append((file.name, crash, tail))
    return render("crashes", entries)


def about_html(run_uuid: str, log_dir: Path, *, command: str | None) -> Markup:
    """Version, command, run and settings."""
    facts = {"bids-sr version": __version__, "Run": run_uuid, **({"Command": command} if command else {})}
    settings = log_dir / "settings.toml"
    text = settings.read_text(encoding="utf-8") if settings.exists() else ""
    missing = render("note", "missing", "The settings of this run were not found.")
    return facts_html(facts) + (folded("All settings", render("source", text)) if text else missing)


def methods_fragment(markdown: str) -> Markup:
    """The methods text with references, and its sources to copy."""
    if not markdown.strip():
        return render("note", "missing", "The methods text was not written.")
    return joined([
        Markup("<p>This text may be reused freely; please keep its citations.</p>"),
        methods_html(markdown, bibliography()), folded("Markdown source", render("source", markdown)),
    ])  # fmt: skip


def build_report(
    output_dir: Path, subject: str, *, run_uuid: str, log_dir: Path, command: str | None = None,
    beside: Sequence[str] = (),
) -> Path:  # fmt: skip
    """Assemble ``sub-XX.html`` from the figures below `output_dir`, and return its path.

    Sections without figures stay, and name what is missing, so that the page of a run that stopped early cannot be
    taken for that of a whole one. The logs of the run hold crash files, ``settings.toml`` and ``CITATION.md``, else
    that of `output_dir` is taken. The page links to those before and after it that are there or made by the same call
    (`beside`, labels without ``sub-``). The page is written in whole; figures are not touched.
    """
    from bids_sr.reports.assembler import write_subject_page
    from bids_sr.reports.participants_page import neighbors_of

    root = Path(output_dir).absolute()
    written = (path for folder in (log_dir, root) if (path := folder / "CITATION.md").exists())
    text = next((path.read_text(encoding="utf-8") for path in written), "")
    custom = {
        "methods": methods_fragment(text),
        "errors": errors_html(log_dir),
        "about": about_html(run_uuid, log_dir, command=command),
    }
    label = subject.removeprefix("sub-")
    return write_subject_page(root, label, custom=custom, neighbors=neighbors_of(root, label, beside))
