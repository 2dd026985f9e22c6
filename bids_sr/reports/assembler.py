"""Report page from the figures of a participant: grouped by section and run, with what is missing named, and rendered.

- Figures are known by the declarations of the functions that draw them (`bids_sr.reports.sections.Shown`), and by the
  names of their files alone, so that a folder called ``task-x`` above the output changes nothing.
- Reportlets of a run are shown once for each run, those without a run before them.
- Figures become data URIs: the page opens from disk, moves without its folder and asks no network for anything.
- What was not written is named, so that a partial run cannot be taken for a whole one.
"""

import base64
import hashlib
import html
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path
from types import MappingProxyType

from markupsafe import Markup

from bids_sr.boilerplate import path as carried
from bids_sr.frozen import frozen
from bids_sr.io import atomic_files
from bids_sr.reports.figure_archive import Figure, figures_of
from bids_sr.reports.markup import environment
from bids_sr.reports.sections import MODEL, SECTIONS, SectionSpec, Shown, of_section
from bids_sr.series import parse_map_label

RUN_ENTITIES: Mapping[str, str] = {
    "ses": "session", "task": "task", "acq": "acquisition", "ce": "contrast agent", "rec": "reconstruction",
    "dir": "phase encoding", "run": "run", "echo": "echo", "chunk": "chunk",
}  # fmt: skip
"""Entities that tell runs apart, in the order in which runs are sorted, and what they are called on the page."""
CARRIED = ("report.css", "save.js", "report.js", "viewer.js")
MEDIA_TYPES = {".svg": "image/svg+xml", ".png": "image/png"}
CHOICES = ("contrast", "smoothing")
"""Entities by which one of several figures of a kind is chosen."""
ESCAPED = {ord(sign): f"%{ord(sign):02X}" for sign in "%#\"'<>&\\\n\r\t"}
"""What may not stand as it is in an address that holds an SVG, within an attribute of HTML."""
_OF_FIGURE = re.compile(r"_(contrast-[^_]+_)?desc-.*")
_TITLE = re.compile(r"<title>(.*?)</title>", flags=re.DOTALL)
Key = tuple[str | None, ...]
NO_RUN: Key = (None,) * len(RUN_ENTITIES)


@frozen
class FigureFile:
    """A figure of a participant (its folder: `subject`), and the entities of its name, as they are called there."""

    path: Figure
    subject: Path
    entities: Mapping[str, str]

    @property
    def run(self) -> Key:
        """The run that it is of: figures without a task belong to no run."""
        return tuple(map(self.entities.get, RUN_ENTITIES)) if "task" in self.entities else NO_RUN

    @property
    def words(self) -> dict[str, str]:
        """What may stand in headings and captions: its contrast and smoothing, and its entities."""
        fwhm_mm = parse_map_label(self.entities["desc"]).fwhm_mm
        smoothing = f"smoothed by {fwhm_mm:g} mm (FWHM)" if fwhm_mm else "not smoothed"
        return {"contrast": "n/a", **self.entities, "smoothing": smoothing}


Found = Sequence[tuple[Shown, Sequence[FigureFile]]]
"""What a section shows, and the files of it that are there."""


@frozen
class Panel:
    """Markup of one figure or fragment, what stands above and below it, and by what it is chosen among others."""

    content: Markup
    heading: str = ""
    caption: str = ""
    choices: Mapping[str, str] = field(default_factory=dict)


@frozen
class Strip:
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


@frozen
class Section:
    """A section of the page: also one where nothing was found, because its absence is news too."""

    name: str
    title: str
    blocks: Sequence[Strip] = ()
    folded: bool = False
    missing: Sequence[str] = ()
    on_request: Sequence[str] = ()

    @property
    def groups(self) -> list[list[Strip]]:
        """Blocks of each run; those of no run come first."""
        groups: list[list[Strip]] = []
        for block in self.blocks:
            if block.run or not groups:
                groups.append([])
            groups[-1].append(block)
        return groups


def data_uri(data: bytes, suffix: str = ".svg") -> str:
    """A figure as an address that holds it: an SVG as text, where that is shorter."""
    encoded = f"data:{MEDIA_TYPES[suffix]};base64," + base64.b64encode(data).decode("ascii")
    if suffix != ".svg":
        return encoded
    return min(encoded, f"data:{MEDIA_TYPES[suffix]}," + data.decode("utf-8").translate(ESCAPED), key=len)


def described(file: Figure, heading: str) -> str:
    """What a figure shows, for those who cannot see it: the title that it was drawn with, else what stands above it."""
    start = file.read_text(encoding="utf-8", errors="replace")[:3000] if file.suffix == ".svg" else ""
    title = _TITLE.search(start)
    return html.unescape(" ".join(title[1].split())) if title else heading


def embedded(file: Figure, *, static: bool = True, heading: str = "") -> Markup:
    """A figure inside the page (as an ``object`` if it answers to the pointer), or HTML of a fragment that we wrote."""
    if file.suffix not in MEDIA_TYPES:
        return Markup(file.read_text(encoding="utf-8").strip())
    image = (
        '<img src="{uri}" alt="{label}" data-name="{name}">'
        if static or file.suffix != ".svg"
        else '<object type="image/svg+xml" data="{uri}" aria-label="{label}" title="{label}" data-name="{name}">'
        "</object>"
    )
    return Markup(image).format(
        uri=data_uri(file.read_bytes(), file.suffix), label=described(file, heading), name=file.stem
    )


def find_figures(root: Path, subject: str) -> list[FigureFile]:
    """Figures of a participant, in the order of contrasts, descs and names; empty files are left out."""
    found = []
    for path in figures_of(root, subject):
        *pairs, suffix = path.stem.split("_")
        entities = {"suffix": suffix, **dict(pair.split("-", 1) for pair in pairs if "-" in pair)}
        found.append(FigureFile(path=path, subject=root / f"sub-{subject}", entities=entities))
    return sorted(found, key=lambda each: (each.entities.get("contrast", "n/a"), each.entities["desc"]))


def matching(shown: Shown, figures: Sequence[FigureFile]) -> list[FigureFile]:
    """Those of the figures that a declaration is about."""
    return [
        each for each in figures
        if each.path.suffix == shown.extension and each.entities["suffix"] == shown.suffix
        and shown.is_of(each.entities["desc"])
    ]  # fmt: skip


def _sortable(key: Key) -> tuple[tuple[int, int, str], ...]:
    return tuple((v is not None, int(v) if v is not None and v.isdigit() else 0, v or "") for v in key)


def assemble(shown: Sequence[Shown], figures: Sequence[FigureFile], custom: Mapping[str, str]) -> list[Section]:
    """Sections of the page of the kind of run that was made.

    A section with `only` is shown where that figure is there; then those that were found nothing for are left out,
    because a run on structural scans owes nothing about BOLD. A section of what is made on request alone is left out
    where nothing of it was asked for.

    Parameters
    ----------
    shown : figures that are declared
    figures : files that are there
    custom : HTML of the sections that hold no figures, by name
    """
    found = {each: [(one, matching(one, figures)) for one in of_section(each, shown)] for each in SECTIONS}
    special = {each for each in SECTIONS if each.only in {file.entities["desc"] for file in figures}}
    kept = [
        each for each in SECTIONS
        if each in special or (not each.only and (not special or not found[each] or any(f for _, f in found[each])))
    ]  # fmt: skip
    kept = [each for each in kept if not found[each] or any(files or one.missing for one, files in found[each])]
    return [_section(each, found[each], custom.get(each.name, "")) for each in kept]


def _section(spec: SectionSpec, found: Found, custom: str) -> Section:
    key_of = (lambda file: file.run) if spec.by_run else (lambda file: NO_RUN)
    keys: set[Key] = {key_of(file) for _, files in found for file in files}
    of_runs = {one for one, files in found if any(key_of(file) != NO_RUN for file in files)}
    missing, on_request = _named(found)
    blocks = [Strip(name=f"{spec.name}-0", panels=[Panel(content=Markup(custom))])] if custom else []
    for key in sorted(keys, key=_sortable):
        label = ", ".join(f"{text} {value}" for text, value in zip(RUN_ENTITIES.values(), key, strict=True) if value)
        own = [(one, [file for file in files if key_of(file) == key]) for one, files in found]
        anchor = "-".join(f"{name}-{value}" for name, value in zip(RUN_ENTITIES, key, strict=True) if value)
        drawn = list(_blocks("-".join(filter(None, [spec.name, anchor])), own))
        if drawn and label:
            drawn[0] = replace(drawn[0], run=label)
            # what other runs have and this one lacks
            lacking = [(one, files) for one, files in own if one in of_runs or files]
            for texts, more in zip((missing, on_request), _named(lacking), strict=True):
                texts += [f"{text} of {label}" for text in more]
        blocks += drawn
    titles = dict.fromkeys(one.title for one, files in found if files and one.title)
    title = " and ".join(titles) or spec.title
    title = title[:1] + title[1:].lower() if len(titles) > 1 else title
    return Section(
        name=spec.name, title=title, blocks=blocks, folded=spec.folded, missing=missing, on_request=on_request
    )


def shown_for(shown: Shown, file: FigureFile) -> str:
    """What a figure shows, in the words above it, and of which run."""
    heading = (shown.heading or shown.subtitle or shown.desc).format(**file.words)
    known = [f"{name} {file.entities[name]}" for name in ("task", "run") if name in file.entities]
    return ", ".join([heading, *known])


def _blocks(anchor: str, found: Found) -> Iterator[Strip]:
    """Reportlets of one run (or of none) that have something to show."""
    for number, (shown, files) in enumerate(found):
        panels = [
            Panel(
                content=embedded(file.path, static=shown.static, heading=shown_for(shown, file)),
                heading=shown.heading.format(**file.words),
                caption=shown.caption.format(**file.words),
                choices={name: file.words[name] for name in CHOICES} if shown.heading else {},
            )
            for file in files
        ]
        if any(panel.content for panel in panels):
            caption = panels[0].caption if len({panel.caption for panel in panels}) < len(panels) else ""
            if caption:  # one for all
                panels = [replace(panel, caption="") for panel in panels]
            yield Strip(
                name=f"{anchor}-{number}", panels=panels, subtitle=shown.subtitle, caption=caption, tab=shown.tab,
                tables=tables_of(files[0], shown.tables),
            )  # fmt: skip


def tables_of(figure: FigureFile, names: Sequence[str]) -> list[str]:
    """Tables (``desc-NAME_metrics.tsv``), or model cards, of the run that a figure is of, relative to the page."""
    stem, root, who = _OF_FIGURE.sub("", figure.path.name), figure.subject.parent, figure.subject.name
    cards = {MODEL: f"sourcedata/models/{who}/{stem}_desc-*_model.json"}
    found = (sorted(root.glob(cards.get(name, f"{who}/**/{stem}_desc-{name}_metrics.tsv"))) for name in names)
    return [path.relative_to(root).as_posix() for files in found for path in files]


def _named(found: Found) -> tuple[list[str], list[str]]:
    """Text for what is not there: of those made always, and of those made on request; not where another makes up."""
    there = {one.desc for one, files in found if files}
    absent = [one for one, files in found if not files and one.unless not in there]
    missing = [one.missing for one in absent if one.missing and not one.request]
    return missing, [one.request for one in absent if one.request]


def write_subject_page(
    root: Path, subject: str, *, shown: Sequence[Shown], custom: Mapping[str, str],
    neighbors: Mapping[str, str] = MappingProxyType({}),
) -> Path:  # fmt: skip
    """Write the page of one subject (label without ``sub-``) below the derivatives; see `assemble` and `write_page`."""
    target = root / f"sub-{subject}.html"
    sections = assemble(shown, find_figures(root, subject), custom)
    write_page(target, title=f"bids-sr: sub-{subject}", sections=sections, neighbors=neighbors)
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
        crashed='class="warning"' in text.get("errors", ""),
        told={kind: text.get("summary", "").count(f"class='{kind}'") for kind in ("warning", "note")},
    )  # fmt: skip
    atomic_files.write_whole(target, page)


def digest(script: str) -> str:
    """Checksum by which the policy of the page lets this script run, and no other."""
    return base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
