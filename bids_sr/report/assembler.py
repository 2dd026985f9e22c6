"""Report page from a participant's figures, grouped by section and run, and rendered.

What is missing is named.

- Figures are known by the manifest that tells what each shows, of which run and in which words;
  where they stand, and what is said of those that are missing, by the declarations of the
  functions that draw them (`Shown`).
- Reportlets of a run are shown once for each run, those without a run before them.
- Figures become data URIs: the page opens from disk, moves without its folder and asks no network
  for anything.
- What was not written is named, so that a partial run cannot be taken for a whole one.

Figures of a participant and their manifest, archived below the full level.

At these levels they are kept in one file, as nobody looks for them singly.

Steps leave each figure with a note of what it shows (JSON, beside it) in a folder of the work.
Whoever writes the report packs the figures, in whole, into the archive, and the notes into its
manifest: from it the page is made, also without the work.
"""

import base64
import contextlib
import hashlib
import io
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from markupsafe import Markup

from bids_sr.boilerplate import path as carried
from bids_sr.frozen import frozen
from bids_sr.io import atomic_files
from bids_sr.io.dataset_description import scope_of
from bids_sr.report.sections import (
    MODEL,
    RUN_ENTITIES,
    SECTIONS,
    SectionSpec,
    Shown,
    environment,
    run_text,
)

_MANIFEST = "manifest.json"
_NO_TIME = (1980, 1, 1, 0, 0, 0)  # equal figures give an equal archive


@frozen
class ArchivedFigure:
    """A figure of a participant, and what was noted where it was drawn.

    `figure`: name of its declaration. `contrast`, `smoothing`: in words; n/a where it is of all.
    `label`: name of the method where each has a figure; else empty. `heading`: text above it;
    empty for none. `caption`: text below it; empty for none. `alt`: alternative text; empty takes
    the text above it.
    """

    path: Path | zipfile.Path
    figure: str
    section: str
    entities: Mapping[str, str]
    contrast: str
    smoothing: str
    label: str
    heading: str
    caption: str
    alt: str

    @property
    def html(self) -> bool:
        """Whether it is a fragment of HTML."""
        return self.path.suffix == ".html"


_NOTED = tuple(each.name for each in fields(ArchivedFigure) if each.name != "path")


def _archive_of(root: Path, label: str) -> Path:
    """Where the archive of a participant (label without ``sub-``) lies."""
    return root / f"sub-{label}" / "figures" / f"sub-{label}_figures.zip"


def _pack_figures(source: Path, root: Path, label: str) -> None:
    """Move a participant's figures into the archive below the derivatives `root`.

    Figures that are already in it stay, but for those of the same runs that were not drawn now.

    `source`: folder in which steps left the figures, laid out as `root`; nothing is packed where
    it is the same.
    """
    folder = source / f"sub-{label}" / "figures"
    if source == root or not folder.is_dir():
        return
    target = _archive_of(root, label)
    before = _members(target)
    files = dict(before)
    notes = {note["file"]: note for note in json.loads(files.pop(_MANIFEST, b"[]"))}
    loose = list(_loose(folder))
    drawn = {scope_of(path.name) for path, _ in loose}
    for name in [name for name in files if scope_of(name) in drawn]:
        del files[name]
        notes.pop(name, None)
    for path, note in loose:
        files[path.name] = path.read_bytes()
        notes[path.name] = note
    files[_MANIFEST] = json.dumps([notes[name] for name in sorted(notes)], indent=1).encode(
        "utf-8"
    )
    if files == before:
        return
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name in sorted(files):
            info = zipfile.ZipInfo(name, _NO_TIME)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            archive.writestr(info, files[name])
    atomic_files.write_bytes(target, packed.getvalue())


@contextlib.contextmanager
def packed_figures(source: Path, root: Path, labels: Sequence[str]) -> Iterator[None]:
    """Pack participants' figures when the block ends, however it ends.

    The report then shows what was drawn.

    `source`: folder in which steps leave figures, laid out as the derivatives.
    """
    try:
        yield
    finally:
        for label in labels:
            _pack_figures(source, root, label)


def _loose(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Figures in a folder that are not empty, with their notes."""
    for note in folder.glob("*.json"):
        path = note.with_suffix("")
        if path.is_file() and path.stat().st_size:
            yield path, json.loads(note.read_text(encoding="utf-8"))


def _members(archive: Path) -> dict[str, bytes]:
    """Return an archive's files by name, none if missing or damaged: figures can be remade."""
    try:
        with zipfile.ZipFile(archive) as there:
            return {name: there.read(name) for name in there.namelist()}
    except (OSError, zipfile.BadZipFile):
        return {}


def figures_of(root: Path, label: str) -> list[ArchivedFigure]:
    """Return a participant's figures by contrast, figure and smoothing.

    Of a figure in both folder and archive, the newer is returned.

    Those of an earlier version, which wrote no manifest, are left out: nobody noted what they
    show.

    Figures with what was noted of them; empty for none.
    """
    archive = _archive_of(root, label)
    figures: dict[str, ArchivedFigure] = {}
    packed = 0
    if archive.is_file() and zipfile.is_zipfile(archive):
        packed = archive.stat().st_mtime_ns
        inside = zipfile.Path(archive)  # opened once for all figures
        manifest = inside / _MANIFEST
        for note in json.loads(manifest.read_text(encoding="utf-8")) if manifest.exists() else ():
            figures[note["file"]] = _archived(inside / note["file"], note)
    for path, note in _loose(archive.parent):
        if path.name not in figures or path.stat().st_mtime_ns > packed:
            figures[path.name] = _archived(path, note)
    every = (figures[name] for name in sorted(figures))
    return sorted(every, key=lambda each: (each.contrast, each.figure, each.smoothing, each.label))


def _archived(path: Path | zipfile.Path, note: Mapping[str, Any]) -> ArchivedFigure:
    return ArchivedFigure(path=path, **{name: note[name] for name in _NOTED})


_CARRIED = ("report.css", "save.js", "report.js", "viewer.js")
_ESCAPED = {sign: f"%{ord(sign):02X}" for sign in "%#\"'<>&\\\n\r\t"}
"""What may not stand as it is in an address that holds an SVG, within an attribute of HTML."""
_Key = tuple[str | None, ...]
_NO_RUN: _Key = (None,) * len(RUN_ENTITIES)


def _run_of(figure: ArchivedFigure) -> _Key:
    """The run that a figure is of: those without a task belong to none."""
    return tuple(map(figure.entities.get, RUN_ENTITIES)) if "task" in figure.entities else _NO_RUN


_Found = Sequence[tuple[Shown, Sequence[ArchivedFigure]]]
"""What a section shows, and the files of it that are there."""


@frozen
class _Reportlet:
    """Markup of a figure or fragment, the text above and below it, and its selector.

    The selector is what it is chosen by among others.

    `heading`: text above it; empty for none. `caption`: text below it; empty for none. `choices`:
    label of the panel by selector, such as ``contrast``; empty for no selector.
    """

    content: Markup
    heading: str = ""
    caption: str = ""
    choices: Mapping[str, str] = field(default_factory=dict)


@frozen
class _Strip:
    """A reportlet of the page: anchor, run that begins with it, heading, panels, caption.

    `tab` is what it is chosen by among those of its run (empty: shown with the one before it),
    `tables` are files that hold all values, relative to the page.

    `run`: run that begins with it, in words; empty within a run or without one. `caption`: text
    below all panels; empty where each has its own.
    """

    name: str
    panels: Sequence[_Reportlet]
    run: str = ""
    subtitle: str = ""
    caption: str = ""
    tab: str = ""
    tables: Sequence[str] = ()


@frozen
class _Section:
    """A section of the page: also one where nothing was found, because its absence is news too.

    `folded`: closed until it is opened. `missing`: always made, not found. `on_request`: not asked
    for.
    """

    name: str
    title: str
    blocks: Sequence[_Strip] = ()
    folded: bool = False
    missing: Sequence[str] = ()
    on_request: Sequence[str] = ()

    @property
    def groups(self) -> list[list[_Strip]]:
        """Return blocks of each run; those of no run come first."""
        groups: list[list[_Strip]] = []
        for block in self.blocks:
            if block.run or not groups:
                groups.append([])
            groups[-1].append(block)
        return groups


def plain_section(name: str, title: str, content: str, missing: Sequence[str] = ()) -> _Section:
    """A section of text and markup alone; what is missing is named where there is no content.

    `content`: text and markup to show; empty where there is none.
    """
    if not content:
        return _Section(name=name, title=title, missing=missing)
    reportlet = _Reportlet(content=Markup(content))
    return _Section(name=name, title=title, blocks=[_Strip(name=f"{name}-0", panels=[reportlet])])


def data_uri(data: bytes) -> str:
    """An SVG as an address that holds it: as text, where that is shorter."""
    encoded = "data:image/svg+xml;base64," + base64.b64encode(data).decode("ascii")
    text = data.decode("utf-8")
    for sign, instead in _ESCAPED.items():  # ten times as fast as `str.translate`
        text = text.replace(sign, instead)
    return min(encoded, f"data:image/svg+xml,{text}", key=len)


def _embedded(figure: ArchivedFigure, *, static: bool, alt: str) -> Markup:
    """Return the embedded markup of a figure, or the HTML of our own fragment.

    A figure is an ``object`` if it responds to the pointer.
    """
    if figure.html:
        return Markup(figure.path.read_text(encoding="utf-8").strip())
    image = (
        '<img src="{uri}" alt="{label}" data-name="{name}">'
        if static
        else (
            '<object type="image/svg+xml" data="{uri}" aria-label="{label}" title="{label}"'
            ' data-name="{name}"></object>'
        )
    )
    return Markup(image).format(
        uri=data_uri(figure.path.read_bytes()), label=alt, name=figure.path.stem
    )


def _assemble(
    shown: Sequence[Shown],
    figures: Sequence[ArchivedFigure],
    custom: Mapping[str, str],
    root: Path,
) -> list[_Section]:
    """Return sections of the page of the kind of run that was made.

    A section with `only` is shown where that figure is there; then those that were found nothing
    for are left out, because a run on structural scans owes nothing about BOLD. A section of what
    is made on request alone is left out where nothing of it was asked for.
    """
    there: dict[tuple[str, bool], list[ArchivedFigure]] = {}
    for figure in figures:
        there.setdefault((figure.figure, figure.html), []).append(figure)
    in_order = sorted(shown, key=lambda each: each.place)
    by_section = {
        each: [
            (one, there.get((one.desc, one.html), []))
            for one in in_order
            if one.section == each.name
        ]
        for each in SECTIONS
    }
    drawn = {figure.figure for figure in figures}
    special = {each for each in SECTIONS if not drawn.isdisjoint(each.only)}
    kept = [
        each
        for each in SECTIONS
        if (
            each in special
            or custom.get(each.name)
            or (
                not each.only
                and (not (special and by_section[each]) or any(f for _, f in by_section[each]))
            )
        )
        and (not by_section[each] or any(files or one.missing for one, files in by_section[each]))
    ]
    return [_section(each, by_section[each], custom.get(each.name, ""), root) for each in kept]


def _sortable(key: _Key) -> tuple[tuple[int, int, str], ...]:
    return tuple(
        (v is not None, int(v) if v is not None and v.isdigit() else 0, v or "") for v in key
    )


def _item(name: str, remark: str, label: str) -> str:
    """Return the name of an item with its run, if any, in front of a remark in parentheses.

    >>> _item("uncertainty maps", "--n-ensemble 2 or more", "task tap")
    'uncertainty maps of task tap (--n-ensemble 2 or more)'
    """
    return f"{name}{f' of {label}' * bool(label)}{f' ({remark})' * bool(remark)}"


def _section(spec: SectionSpec, fragments: _Found, custom: str, root: Path) -> _Section:
    key_of = _run_of if spec.by_run else (lambda _: _NO_RUN)
    keys: set[_Key] = {key_of(file) for _, files in fragments for file in files}
    of_runs = {one for one, files in fragments if any(key_of(file) != _NO_RUN for file in files)}
    missing, on_request = _named(fragments)
    blocks = (
        [_Strip(name=f"{spec.name}-text", panels=[_Reportlet(content=Markup(custom))])]
        if custom
        else []
    )
    for key in sorted(keys, key=_sortable):
        entities = {name: value for name, value in zip(RUN_ENTITIES, key, strict=True) if value}
        label = run_text(entities)
        shown = [
            (one, [file for file in files if key_of(file) == key]) for one, files in fragments
        ]
        anchor = "-".join([spec.name, *_pairs(entities)])
        drawn = list(_blocks(anchor, shown, root))
        if drawn and label:
            drawn[0] = replace(drawn[0], run=label)
            # what other runs have and this one lacks
            lacking = [(one, files) for one, files in shown if one in of_runs or files]
            for texts, more in zip((missing, on_request), _named(lacking, label), strict=True):
                texts += more
        blocks += drawn
    titles = dict.fromkeys(one.title for one, files in fragments if files and one.title)
    title = " and ".join(titles) or spec.title
    title = title[:1] + title[1:].lower() if len(titles) > 1 else title
    return _Section(
        name=spec.name,
        title=title,
        blocks=blocks,
        folded=spec.folded,
        missing=missing,
        on_request=on_request,
    )


def _described(shown: Shown, figure: ArchivedFigure) -> str:
    """Return alternative text for a figure, for readers who cannot see it.

    It is the declared description, else the text above the figure, and the run.
    """
    run = run_text(figure.entities)
    return figure.alt or ", ".join(
        filter(None, [figure.heading or shown.subtitle or shown.desc, run])
    )


def _pairs(entities: Mapping[str, str]) -> list[str]:
    """Entities of a run as in names of files."""
    return [
        f"{short}-{entities[name]}"
        for name, (short, _) in RUN_ENTITIES.items()
        if name in entities
    ]


def _blocks(anchor: str, fragments: _Found, root: Path) -> Iterator[_Strip]:
    """Reportlets of one run (or of none) that have something to show."""
    for number, (shown, figures) in enumerate(fragments):
        panels = [
            _Reportlet(
                content=_embedded(each, static=shown.static, alt=_described(shown, each)),
                heading=each.heading,
                caption=each.caption,
                choices=(
                    {"contrast": each.contrast, "smoothing": each.smoothing}
                    if each.heading
                    else {}
                ),
            )
            for each in figures
        ]
        if any(panel.content for panel in panels):
            caption = (
                panels[0].caption if len({panel.caption for panel in panels}) < len(panels) else ""
            )
            if caption:  # one for all
                panels = [replace(panel, caption="") for panel in panels]
            yield _Strip(
                name=f"{anchor}-{number}",
                panels=panels,
                subtitle=shown.subtitle,
                caption=caption,
                tab=shown.tab,
                tables=_tables_of(figures[0], shown.tables, root),
            )


def _tables_of(figure: ArchivedFigure, names: Sequence[str], root: Path) -> list[str]:
    """Return the tables or model cards of a figure's run, relative to the page.

    The tables are ``desc-NAME_metrics.tsv``.
    """
    who = f"sub-{figure.entities['subject']}"
    stem = "_".join([who, *_pairs(figure.entities)])
    cards = {MODEL: f"sourcedata/models/{who}/{stem}_desc-*_model.json"}
    paths = (
        sorted(root.glob(cards.get(name, f"{who}/**/{stem}_desc-{name}_metrics.tsv")))
        for name in names
    )
    return [path.relative_to(root).as_posix() for files in paths for path in files]


def _named(fragments: _Found, label: str = "") -> tuple[list[str], list[str]]:
    """Return text on missing items (of a run): those always made, and those made on request.

    An item that another one replaces is not mentioned.
    """
    there = {one.desc for one, files in fragments if files}
    absent = [one for one, files in fragments if not files and one.unless not in there]
    made = [one for one in absent if one.missing and not one.request]
    return (
        [_item(one.missing, one.remark, label) for one in made],
        [_item(one.request, one.remark, label) for one in absent if one.request],
    )


def write_subject_page(
    root: Path,
    subject: str,
    *,
    shown: Sequence[Shown],
    custom: Mapping[str, str],
    crashed: bool = False,
    notices: Mapping[str, int] = MappingProxyType({}),
    neighbors: Mapping[str, str] = MappingProxyType({}),
    most_sessions: int = 0,
) -> Path:
    """Write the page of one subject (label without ``sub-``) below `root`, the derivatives.

    `custom` is HTML of sections without figures, by name. With more than `most_sessions` (0:
    never) each has a page of the figures of its runs and those of no run, which names what is
    missing; the subject's page has figures of no run alone. See `_assemble` and `write_page`.
    """
    figures = figures_of(root, subject)
    who = f"sub-{subject}"
    session_of = [_run_of(each)[0] for each in figures]
    sessions = sorted({session for session in session_of if session})
    split = 0 < most_sessions < len(sessions)

    def of(*wanted: str | None) -> list[ArchivedFigure]:
        pairs = zip(figures, session_of, strict=True)
        return [each for each, session in pairs if session in wanted]

    pages = {who: of(None) if split else figures}
    for session in sessions:
        name = f"{who}_ses-{session}"
        if split:
            pages[name] = of(None, session)
        else:
            (root / f"{name}.html").unlink(missing_ok=True)
    for name, own in pages.items():
        sections = _assemble(shown, own, custom, root)
        if split and name == who:
            sections = [replace(s, missing=(), on_request=()) for s in sections if s.blocks]
        others = {each: f"{each}.html" for each in pages if each != name}
        write_page(
            root / f"{name}.html",
            title=f"bids-sr: {name}",
            sections=sections,
            neighbors={**others, **neighbors},
            crashed=crashed,
            notices=notices,
        )
    return root / f"{who}.html"


def write_page(
    target: Path,
    *,
    title: str,
    sections: Sequence[_Section],
    neighbors: Mapping[str, str] = MappingProxyType({}),
    crashed: bool = False,
    notices: Mapping[str, int] = MappingProxyType({}),
) -> None:
    """Render sections by our template and write the page atomically.

    Everything but our own markup is escaped. `neighbors`: file name by text of the link to it.
    """
    css, *scripts = (carried(name).read_text(encoding="utf-8") for name in _CARRIED)
    script = "\n".join(scripts)
    checksum = hashlib.sha256(script.encode("utf-8")).digest()  # lets no other script run
    runs = {block.run for each in sections for block in each.blocks if block.run}
    page = (
        environment()
        .get_template("report.tpl")
        .render(
            title=title,
            sections=sections,
            neighbors=neighbors,
            one_run=len(runs) == 1,
            css=css,
            script=script,
            digest=base64.b64encode(checksum).decode("ascii"),
            crashed=crashed,
            told=notices,
        )
    )
    atomic_files.write_whole(target, page)
