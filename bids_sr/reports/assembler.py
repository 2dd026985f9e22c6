"""Our report on top of nireports: its specification format and its reportlets, our template, figures inside the page.

What differs from nireports' own assembly, and why:

- Files are found by a pybids layout of the *figures of one subject* with our own entities (``contrast``), read
  from file names alone, so that a folder called ``task-x`` above the output changes nothing.
- Reportlets of a run are shown once for each run, those without a run before them; nireports leaves the latter out.
- Figures become data URIs: the page opens from disk, moves without its folder and asks no network for anything.
- What was not written is named, so that a partial run cannot be taken for a whole one.
"""

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import jinja2
from bids.layout import BIDSLayout, BIDSLayoutIndexer
from nireports.assembler.report import Report, SubReport
from nireports.assembler.reportlet import Reportlet

from bids_sr.boilerplate import path as carried
from bids_sr.io import atomic_files
from bids_sr.series import parse_map_label

RUN_TITLES = {
    "session": "session",
    "task": "task",
    "acquisition": "acquisition",
    "ceagent": "contrast agent",
    "reconstruction": "reconstruction",
    "direction": "phase encoding",
    "run": "run",
    "echo": "echo",
    "chunk": "chunk",
}
_LINK = re.compile(r'(?:src|data)="\./([^"]+)"')
Key = tuple[str | None, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class FigureFile:
    """A file in ``figures``: its path, and its entities by their long names."""

    path: str
    entities: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection:
    """The files of one reportlet, in the form in which nireports asks its layout for them."""

    root: str
    files: Sequence[FigureFile]

    def get(self, **_: Any) -> Sequence[FigureFile]:
        """The files, whatever the query: it has been answered already."""
        return self.files


class EmbeddedReportlet(Reportlet):
    """A reportlet whose figures lie inside the page."""

    __slots__ = ()

    def __init__(self, selection: Selection, config: Mapping[str, Any], out_dir: Path, name: str) -> None:
        super().__init__(selection, config={**config, "name": name}, out_dir=out_dir)
        headings = [config.get("heading", "").format(**file.entities) for file in selection.files]
        self.components = [
            (_headed(heading) + embedded(content, out_dir), caption)
            for heading, (content, caption) in zip(headings, self.components, strict=True)
        ]


def _headed(heading: str) -> str:
    return f"<h4>{escape(heading)}</h4>" if heading else ""


class TextReportlet:
    """A reportlet made of a fragment of HTML instead of files."""

    def __init__(self, name: str, fragment: str) -> None:
        self.name = name
        self.title = self.subtitle = self.description = None
        self.components = [(fragment, None)]

    def is_empty(self) -> bool:
        """Whether there is nothing to show."""
        return not self.components[0][0]


class Section(SubReport):
    """A section: also one where nothing was found, because its absence is news too.

    Parameters
    ----------
    name : anchor in the page
    title : heading
    reportlets : what it shows
    groups : anchor and label of each run in it
    missing : what it should have shown
    on_request : what it shows only if asked
    """

    __slots__ = {
        "groups": "anchor and label of each run",
        "missing": "what should have been here",
        "on_request": "what is here only if asked for",
    }

    def __init__(
        self,
        name: str,
        title: str,
        reportlets: Sequence[Any],
        groups: Sequence[Mapping[str, str]],
        missing: Sequence[str],
        on_request: Sequence[str] = (),
    ) -> None:
        super().__init__(name, isnested=bool(groups), reportlets=list(reportlets), title=title)
        self.groups = list(groups)
        self.missing = list(missing)
        self.on_request = list(on_request)


def embedded(content: str, root: Path) -> str:
    """Reportlet HTML with its figure as a data URI; other HTML stays as it is.

    A figure that answers to the pointer becomes an ``object`` (an image would not let the pointer through).
    """
    found = _LINK.search(content)
    if found is None or 'class="svg-reportlet"' not in content:
        return content
    file = root / found[1]
    uri = "data:image/svg+xml;base64," + base64.b64encode(file.read_bytes()).decode("ascii")
    label = escape(file.stem, quote=True)
    if "<object" in content:
        return f'<object type="image/svg+xml" data="{uri}" aria-label="{label}" title="{label}"></object>'
    return f'<img src="{uri}" alt="{label}">'


def smoothing_text(desc: str) -> str:
    """Smoothing in words, from the end of a desc entity."""
    fwhm_mm = parse_map_label(desc).fwhm_mm if desc else 0.0
    return f"smoothed by {fwhm_mm:g} mm (FWHM)" if fwhm_mm else "not smoothed"


def find_figures(root: Path, subject: str) -> BIDSLayout | None:
    """Layout of the figures of a subject; None where there are none."""
    folder = root / f"sub-{subject}" / "figures"
    if not folder.is_dir():
        return None
    indexer = BIDSLayoutIndexer(validate=False, index_metadata=False)
    return BIDSLayout(folder, config=[str(carried("figures.json"))], indexer=indexer, validate=False)


def matching(layout: BIDSLayout | None, query: Mapping[str, Any]) -> list[FigureFile]:
    """Files that answer a query of the specification, in the order of their names."""
    if layout is None:
        return []
    wanted = dict(query)
    if wanted.get("regex_search"):
        # pybids searches anywhere in the value; a specification means the whole value
        wanted = {
            key: [f"^{re.escape(v)}$" for v in value] if isinstance(value, list) else f"^(?:{value})$"
            for key, value in wanted.items()
            if key != "regex_search"
        } | {"regex_search": True}
    files = layout.get(**wanted, invalid_filters="allow")
    found = []
    for file in files:
        if not Path(file.path).stat().st_size:
            continue
        words = {"smoothing": smoothing_text(file.entities.get("desc", ""))}
        found.append(FigureFile(path=file.path, entities={"contrast": "n/a", **file.entities, **words}))
    return sorted(found, key=lambda f: (str(f.entities["contrast"]), str(f.entities.get("desc", "")), f.path))


def run_label(entities: Sequence[str], key: Key) -> str:
    """A run in words."""
    known = [(name, value) for name, value in zip(entities, key, strict=True) if value is not None]
    return ", ".join(f"{RUN_TITLES.get(name, name)} {value}" for name, value in known)


def _sortable(key: Key) -> tuple[tuple[int, int, str], ...]:
    return tuple((v is not None, int(v) if v is not None and v.isdigit() else 0, v or "") for v in key)


def shown_sections(sections: Sequence[Mapping[str, Any]], layout: BIDSLayout | None) -> list[Mapping[str, Any]]:
    """Sections of the kind of run that was made.

    A section with `only` is shown where that figure is there; then those that were found nothing for are left out,
    because a run on structural scans owes nothing about BOLD.
    """
    special = [each for each in sections if each.get("only") and matching(layout, _only(each))]
    if not special:
        return [each for each in sections if not each.get("only")]
    return [
        each
        for each in sections
        if each in special or any("custom" in one or matching(layout, one["bids"]) for one in each["reportlets"])
    ]


def _only(section: Mapping[str, Any]) -> dict[str, Any]:
    return {"datatype": "figures", "desc": section["only"]}


class SubjectReport(Report):
    """The report of one subject.

    Parameters
    ----------
    out_dir : root of the derivatives
    subject : label without ``sub-``
    run_uuid : of the run that makes the report
    custom : fragments of HTML for the reportlets that are not files, by the name in the specification
    """

    def __init__(self, out_dir: Path, subject: str, *, run_uuid: str, custom: Mapping[str, str]) -> None:
        self.custom = dict(custom)
        super().__init__(
            out_dir,
            run_uuid,
            bootstrap_file=carried("reports-spec.yml"),
            out_filename=f"sub-{subject}.html",
            reportlets_dir=out_dir,
            plugins=[],
            subject=subject,
        )

    def index(self, config: dict[str, Any]) -> None:
        """Find the files of every section of the specification."""
        root = Path(config["root"])
        layout = find_figures(root, config["bids_filters"]["subject"])
        for section in shown_sections(config["sections"], layout):
            self.sections.append(self._section(layout, section, root))

    def _section(self, layout: BIDSLayout | None, section: Mapping[str, Any], root: Path) -> Section:
        entities = [name for name in section.get("ordering", "").split(",") if name]
        found = [matching(layout, each["bids"]) if "bids" in each else [] for each in section["reportlets"]]
        keys: list[Key] = sorted(
            {_key(file, entities) for files in found for file in files} or {(None,) * len(entities)}, key=_sortable
        )
        reportlets: list[Any] = []
        groups: list[dict[str, str]] = []
        absent = _absent(section["reportlets"], found)
        missing, on_request = _named(absent, "missing"), _named(absent, "request")
        for key in keys:
            label = run_label(entities, key)
            shown = self._group(section, found, entities, key, root)
            if shown and label:
                groups.append({"anchor": shown[0].name, "label": label})
                shown[0].title = label[:1].upper() + label[1:]
                lacking = _absent_in_run(section, found, entities, key)
                missing += [f"{words} of {label}" for words in _named(lacking, "missing")]
                on_request += [f"{words} of {label}" for words in _named(lacking, "request")]
            reportlets += shown
        return Section(section["name"], section["title"], reportlets, groups, missing, on_request)

    def _group(
        self,
        section: Mapping[str, Any],
        found: Sequence[Sequence[FigureFile]],
        entities: Sequence[str],
        key: Key,
        root: Path,
    ) -> list[Any]:
        """Reportlets of one run (or of none)."""
        suffix = "-".join(f"{name}-{value}" for name, value in zip(entities, key, strict=True) if value)
        shown: list[Any] = []
        for number, (each, files) in enumerate(zip(section["reportlets"], found, strict=True)):
            name = "-".join(filter(None, [section["name"], suffix, str(number)]))
            if "custom" in each:
                shown.append(TextReportlet(name, self.custom.get(each["custom"], "")))
                continue
            own = [file for file in files if _key(file, entities) == key]
            if own:
                shown.append(EmbeddedReportlet(Selection(root=str(root), files=own), each, root, name))
        return [each for each in shown if not each.is_empty()]

    def generate_report(self) -> int:
        """Render the page and put it in place in whole."""
        write_page(Path(self.out_filename), title=self.title, sections=self.sections)
        return 0


def write_page(target: Path, *, title: str, sections: Sequence[Any]) -> None:
    """Render sections by our template, everything but our own fragments escaped, and put the page in place in whole."""
    template = carried("report.tpl")
    loader = jinja2.FileSystemLoader(str(template.parent))
    environment = jinja2.Environment(loader=loader, trim_blocks=True, lstrip_blocks=True, autoescape=True)
    page = environment.get_template(template.name).render(
        title=title, sections=sections, css=carried("report.css").read_text(encoding="utf-8")
    )
    atomic_files.write_whole(target, page)


def _key(file: FigureFile, entities: Sequence[str]) -> Key:
    """The run of a file: its values of the ordering entities. Figures without a task belong to no run."""
    if "task" in entities and file.entities.get("task") is None:
        return (None,) * len(entities)
    return tuple(None if (value := file.entities.get(name)) is None else str(value) for name in entities)


def _absent(reportlets: Sequence[Mapping[str, Any]], found: Sequence[Sequence[Any]]) -> list[Mapping[str, Any]]:
    """Reportlets of files that were not found, but for those whose stead another one takes (``unless``)."""
    there = {each["bids"]["desc"] for each, files in zip(reportlets, found, strict=True) if "bids" in each and files}
    return [
        each
        for each, files in zip(reportlets, found, strict=True)
        if "bids" in each and not files and each.get("unless") not in there
    ]


def _named(absent: Sequence[Mapping[str, Any]], kind: str) -> list[str]:
    """Words for absent reportlets, of those made on request or of the others; empty words are left out."""
    if kind == "request":
        return [each["request"] for each in absent if each.get("request")]
    return [words for each in absent if "request" not in each and (words := each.get("missing", each["bids"]["desc"]))]


def _absent_in_run(
    section: Mapping[str, Any], found: Sequence[Sequence[FigureFile]], entities: Sequence[str], key: Key
) -> list[Mapping[str, Any]]:
    """Reportlets that other runs have and this one lacks."""
    own = [[file for file in files if _key(file, entities) == key] for files in found]
    elsewhere = {
        number
        for number, files in enumerate(found)
        if any(any(value is not None for value in _key(file, entities)) for file in files)
    }
    return [each for each in _absent(section["reportlets"], own) if section["reportlets"].index(each) in elsewhere]
