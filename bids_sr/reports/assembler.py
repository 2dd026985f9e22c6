"""Report page from its specification: find the figures of a subject, group them by run, name what is missing, render.

- Files are found by a pybids layout of the *figures of one subject* with our own entities (``contrast``), read
  from file names alone, so that a folder called ``task-x`` above the output changes nothing.
- Reportlets of a run are shown once for each run, those without a run before them.
- Figures become data URIs: the page opens from disk, moves without its folder and asks no network for anything.
- What was not written is named, so that a partial run cannot be taken for a whole one.
"""

import base64
import hashlib
import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml
from bids.layout import BIDSLayout, BIDSLayoutIndexer
from markupsafe import Markup

from bids_sr.boilerplate import path as carried
from bids_sr.io import atomic_files
from bids_sr.reports.markup import environment
from bids_sr.series import parse_map_label

RUN_TITLES = {"ceagent": "contrast agent", "direction": "phase encoding"}
CARRIED = ("report.css", "save.js", "report.js", "viewer.js")
MEDIA_TYPES = {".svg": "image/svg+xml", ".png": "image/png"}
CHOICES = ("contrast", "smoothing")
"""Entities by which one of several figures of a kind is chosen."""
ESCAPED = {ord(sign): f"%{ord(sign):02X}" for sign in "%#\"'<>&\\\n\r\t"}
"""What may not stand as it is in an address that holds an SVG, within an attribute of HTML."""
_OF_FIGURE = re.compile(r"_(contrast-[^_]+_)?desc-.*")
_TITLE = re.compile(r"<title>(.*?)</title>", flags=re.DOTALL)
Key = tuple[str | None, ...]
Spec = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class FigureFile:
    """A file in ``figures``: its path, and its entities by their long names."""

    path: Path
    entities: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Panel:
    """Markup of one figure or fragment, what stands above and below it, and by what it is chosen among others."""

    content: Markup
    heading: str = ""
    caption: str = ""
    choices: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """A reportlet of the page: its anchor, the run that begins with it, its heading, its panels and their caption.

    `tab` is what it is chosen by among those of its run (empty: shown with the one before it), `tables` are files that
    hold all values, relative to the page.
    """

    name: str
    panels: Sequence[Panel]
    run: str = ""
    subtitle: str = ""
    caption: str = ""
    tab: str = ""
    tables: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """A section of the page: also one where nothing was found, because its absence is news too."""

    name: str
    title: str
    blocks: Sequence[Block] = ()
    folded: bool = False
    missing: Sequence[str] = ()
    on_request: Sequence[str] = ()

    @property
    def groups(self) -> list[list[Block]]:
        """Blocks of each run; those of no run come first."""
        groups: list[list[Block]] = []
        for block in self.blocks:
            if block.run or not groups:
                groups.append([])
            groups[-1].append(block)
        return groups


def data_uri(file: Path) -> str:
    """A figure as an address that holds it: an SVG as text, where that is shorter."""
    data = file.read_bytes()
    encoded = f"data:{MEDIA_TYPES[file.suffix]};base64," + base64.b64encode(data).decode("ascii")
    if file.suffix != ".svg":
        return encoded
    return min(encoded, f"data:{MEDIA_TYPES[file.suffix]}," + data.decode("utf-8").translate(ESCAPED), key=len)


def described(file: Path, heading: str) -> str:
    """What a figure shows, for those who cannot see it: the title that it was drawn with, else what stands above it."""
    start = file.read_text(encoding="utf-8", errors="replace")[:3000] if file.suffix == ".svg" else ""
    title = _TITLE.search(start)
    return html.unescape(" ".join(title[1].split())) if title else heading


def embedded(file: Path, *, static: bool = True, heading: str = "") -> Markup:
    """A figure inside the page (as an ``object`` if it answers to the pointer), or HTML of a fragment that we wrote."""
    if file.suffix not in MEDIA_TYPES:
        return Markup(file.read_text(encoding="utf-8").strip())
    image = (
        '<img src="{uri}" alt="{label}" data-name="{name}">'
        if static or file.suffix != ".svg"
        else '<object type="image/svg+xml" data="{uri}" aria-label="{label}" title="{label}" data-name="{name}">'
        "</object>"
    )
    return Markup(image).format(uri=data_uri(file), label=described(file, heading), name=file.stem)


def find_figures(root: Path, subject: str) -> BIDSLayout | None:
    """Layout of the figures of a subject; None where there are none."""
    folder = root / f"sub-{subject}" / "figures"
    if not folder.is_dir():
        return None
    indexer = BIDSLayoutIndexer(validate=False, index_metadata=False)
    return BIDSLayout(folder, config=[str(carried("figures.json"))], indexer=indexer, validate=False)


def matching(layout: BIDSLayout | None, query: Spec) -> list[FigureFile]:
    """Files that answer a query of the specification, in the order of their names; empty files are left out."""
    if layout is None:
        return []
    wanted = dict(query)
    if wanted.pop("regex_search", False):
        # pybids searches anywhere in the value; a specification means the whole value
        wanted = {
            key: [f"^{re.escape(v)}$" for v in value] if isinstance(value, list) else f"^(?:{value})$"
            for key, value in wanted.items()
        } | {"regex_search": True}
    found = []
    for file in layout.get(**wanted, invalid_filters="allow"):
        if Path(file.path).stat().st_size:
            desc = file.entities.get("desc", "")
            fwhm_mm = parse_map_label(desc).fwhm_mm if desc else 0.0
            smoothing = f"smoothed by {fwhm_mm:g} mm (FWHM)" if fwhm_mm else "not smoothed"
            shown = {"contrast": "n/a", **file.entities, "smoothing": smoothing}
            found.append(FigureFile(path=Path(file.path), entities=shown))
    return sorted(found, key=lambda f: (str(f.entities["contrast"]), str(f.entities.get("desc", "")), str(f.path)))


def _sortable(key: Key) -> tuple[tuple[int, int, str], ...]:
    return tuple((v is not None, int(v) if v is not None and v.isdigit() else 0, v or "") for v in key)


def _key(file: FigureFile, entities: Sequence[str]) -> Key:
    """The run of a file: its values of the ordering entities. Figures without a task belong to no run."""
    if "task" in entities and file.entities.get("task") is None:
        return (None,) * len(entities)
    return tuple(None if (value := file.entities.get(name)) is None else str(value) for name in entities)


def shown_sections(sections: Sequence[Spec], layout: BIDSLayout | None) -> list[Spec]:
    """Sections of the kind of run that was made.

    A section with `only` is shown where that figure is there; then those that were found nothing for are left out,
    because a run on structural scans owes nothing about BOLD.
    """
    special = [
        each for each in sections
        if each.get("only") and matching(layout, {"datatype": "figures", "desc": each["only"]})
    ]  # fmt: skip
    if not special:
        return [each for each in sections if not each.get("only")]
    return [
        each
        for each in sections
        if each in special or any("custom" in one or matching(layout, one["bids"]) for one in each["reportlets"])
    ]


def assemble(spec: Spec, layout: BIDSLayout | None, custom: Mapping[str, str]) -> list[Section]:
    """Sections of the page; `custom` is HTML of the reportlets that are not files, by the name in the specification."""
    return [_section(each, layout, custom) for each in shown_sections(spec["sections"], layout)]


def _section(spec: Spec, layout: BIDSLayout | None, custom: Mapping[str, str]) -> Section:
    entities = [name for name in spec.get("ordering", "").split(",") if name]
    found = [matching(layout, each["bids"]) if "bids" in each else [] for each in spec["reportlets"]]
    nobody = (None,) * len(entities)
    keys: list[Key] = sorted({_key(file, entities) for files in found for file in files} or {nobody}, key=_sortable)
    of_runs = {number for number, files in enumerate(found) if any(_key(file, entities) != nobody for file in files)}
    missing, on_request = _named(_absent(spec["reportlets"], found))
    blocks: list[Block] = []
    for key in keys:
        known = [(name, value) for name, value in zip(entities, key, strict=True) if value is not None]
        label = ", ".join(f"{RUN_TITLES.get(name, name)} {value}" for name, value in known)
        own = [[file for file in files if _key(file, entities) == key] for files in found]
        suffix = "-".join(f"{name}-{value}" for name, value in zip(entities, key, strict=True) if value)
        shown = _blocks(spec, own, suffix, custom)
        if shown and label:
            shown[0] = replace(shown[0], run=label)
            # what other runs have and this one lacks
            lacking = [each for each in _absent(spec["reportlets"], own) if spec["reportlets"].index(each) in of_runs]
            for texts, more in zip((missing, on_request), _named(lacking), strict=True):
                texts += [f"{text} of {label}" for text in more]
        blocks += shown
    titles = [each["title"] for each, files in zip(spec["reportlets"], found, strict=True) if files and "title" in each]
    title = " and ".join(dict.fromkeys(titles)) or spec["title"]
    title = title[:1] + title[1:].lower() if len(set(titles)) > 1 else title
    return Section(
        name=spec["name"], title=title, blocks=blocks, folded=bool(spec.get("folded")), missing=missing,
        on_request=on_request,
    )  # fmt: skip


def shown_for(spec: Spec, file: FigureFile) -> str:
    """What a figure shows, in the words above it, and of which run."""
    heading = spec.get("heading", spec.get("subtitle", spec["bids"]["desc"])).format(**file.entities)
    known = [f"{name} {file.entities[name]}" for name in ("task", "run") if file.entities.get(name) is not None]
    return ", ".join([heading, *known])


def _blocks(spec: Spec, found: Sequence[Sequence[FigureFile]], suffix: str, custom: Mapping[str, str]) -> list[Block]:
    """Reportlets of one run (or of none) that have something to show."""
    blocks = []
    for number, (each, files) in enumerate(zip(spec["reportlets"], found, strict=True)):
        name = "-".join(filter(None, [spec["name"], suffix, str(number)]))
        panels = [
            Panel(
                content=embedded(file.path, static=each.get("static", True), heading=shown_for(each, file)),
                heading=each.get("heading", "").format(**file.entities),
                caption=each.get("caption", "").format(**file.entities),
                choices={name: str(file.entities[name]) for name in CHOICES} if "heading" in each else {},
            )
            for file in files
        ]
        if custom.get(each.get("custom", "")):
            panels = [Panel(content=Markup(custom[each["custom"]]))]
        if any(panel.content for panel in panels):
            caption = panels[0].caption if len({panel.caption for panel in panels}) < len(panels) else ""
            if caption:  # one for all
                panels = [replace(panel, caption="") for panel in panels]
            subtitle = each.get("subtitle", "") if files else ""
            tables = tables_of(files[0].path, each["table"].split(",")) if files and "table" in each else []
            tab = each.get("tab", "")
            blocks.append(Block(name=name, panels=panels, subtitle=subtitle, caption=caption, tab=tab, tables=tables))
    return blocks


def tables_of(figure: Path, names: Sequence[str]) -> list[str]:
    """Tables (``desc-NAME_metrics.tsv``) of the run that a figure is of, relative to the page."""
    subject = figure.parents[1]
    stem = _OF_FIGURE.sub("", figure.name)
    found = (sorted(subject.glob(f"**/{stem}_desc-{name}_metrics.tsv")) for name in names)
    return [path.relative_to(subject.parent).as_posix() for files in found for path in files]


def _absent(reportlets: Sequence[Spec], found: Sequence[Sequence[Any]]) -> list[Spec]:
    """Reportlets of files that were not found, but for those whose stead another one takes (``unless``)."""
    there = {each["bids"]["desc"] for each, files in zip(reportlets, found, strict=True) if files}
    return [
        each
        for each, files in zip(reportlets, found, strict=True)
        if "bids" in each and not files and each.get("unless") not in there
    ]


def _named(absent: Sequence[Spec]) -> tuple[list[str], list[str]]:
    """Text for absent reportlets: of those made always, and of those made on request; empty text is left out."""
    missing = [each.get("missing", each["bids"]["desc"]) for each in absent if "request" not in each]
    return list(filter(None, missing)), [each["request"] for each in absent if each.get("request")]


def write_subject_page(
    root: Path, subject: str, *, custom: Mapping[str, str], specification: Path | None = None,
    neighbors: Mapping[str, str] = MappingProxyType({}),
) -> Path:  # fmt: skip
    """Write the page of one subject (label without ``sub-``) below the derivatives.

    `custom` is HTML of the reportlets that are not files, by the name in the specification (default:
    ``reports-spec.yml``); for `neighbors` see `write_page`.
    """
    spec = yaml.safe_load((specification or carried("reports-spec.yml")).read_text(encoding="utf-8"))
    sections = assemble(spec, find_figures(root, subject), custom)
    target = root / f"sub-{subject}.html"
    write_page(target, title=spec["title"].format(subject=subject), sections=sections, neighbors=neighbors)
    return target


def write_page(
    target: Path, *, title: str, sections: Sequence[Section], neighbors: Mapping[str, str] = MappingProxyType({})
) -> None:
    """Render sections by our template, everything but our own markup escaped, and put the page in place in whole.

    `neighbors` are further pages beside it: file name by text of the link.
    """
    css, *scripts = (carried(name).read_text(encoding="utf-8") for name in CARRIED)
    script = "\n".join(scripts)
    found = {each.name: each for each in sections}
    text = {
        name: Markup("").join(panel.content for block in found[name].blocks for panel in block.panels)
        for name in ("errors", "summary") if name in found
    }  # fmt: skip
    runs = {block.run for each in sections for block in each.blocks if block.run}
    page = environment().get_template("report.tpl").render(
        title=title, sections=sections, neighbors=neighbors, one_run=len(runs) == 1,
        css=css, script=script, digest=digest(script),
        crashed='class="warning"' in text.get("errors", ""), notices=text.get("summary", "").count("role='note'"),
    )  # fmt: skip
    atomic_files.write_whole(target, page)


def digest(script: str) -> str:
    """Checksum by which the policy of the page lets this script run, and no other."""
    return base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
