"""Report page from a participant's figures, grouped by section and run, and rendered.

What is missing is named.

- Figures are known by the manifest that tells what each shows, of which run and in which words;
  where they stand, and what is said of those that are missing, by the declarations of the
  functions that draw them (`Shown`).
- Reportlets of a run are shown once for each run, those without a run before them.
- Figures become data URIs: the page opens from disk, moves without its folder and asks no network
  for anything.
- What was not written is named, so that a partial run cannot be taken for a whole one.
"""

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path
from types import MappingProxyType

from markupsafe import Markup

from bids_sr.boilerplate import path as carried
from bids_sr.frozen import frozen
from bids_sr.io import atomic_files
from bids_sr.report.figure_archive import ArchivedFigure, figures_of
from bids_sr.report.markup import environment
from bids_sr.report.sections import MODEL, RUN_ENTITIES, SECTIONS, SectionSpec, Shown, run_text

_CARRIED = ("report.css", "save.js", "report.js", "viewer.js")
_ESCAPED = {sign: f"%{ord(sign):02X}" for sign in "%#\"'<>&\\\n\r\t"}
"""What may not stand as it is in an address that holds an SVG, within an attribute of HTML."""
_RunKey = tuple[str | None, ...]
_NO_RUN: _RunKey = (None,) * len(RUN_ENTITIES)


def _run_of(figure: ArchivedFigure) -> _RunKey:
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


def _sortable(key: _RunKey) -> tuple[tuple[int, int, str], ...]:
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
    keys: set[_RunKey] = {key_of(file) for _, files in fragments for file in files}
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
