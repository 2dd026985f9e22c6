"""Assembly of a participant's report page from figures, grouped by section and run.

- The notes on the figures contain their runs, headings and captions. Their positions, and the
  names of missing items, are taken from the declarations of the functions that draw them
  (`FigureSpec`).
- Reportlets without a run come first, followed by the reportlets of each run.
- Figures are embedded as data URIs, so that the page is a single file without network requests.
- Missing items are listed, so that the report of a partial run is recognizable.
"""

import base64
import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import field, replace
from importlib.metadata import metadata
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from types import MappingProxyType

from markupsafe import Markup

from bids_sr.boilerplate import path as boilerplate_path
from bids_sr.io import atomic_files
from bids_sr.io.dataset_description import RESULTS
from bids_sr.io.frozen import frozen
from bids_sr.report.markup import environment
from bids_sr.report.sections import (
    MODEL,
    RUN_ENTITIES,
    SECTIONS,
    FigureSpec,
    SectionSpec,
    run_text,
)
from bids_sr.report.stored_figures import StoredFigure, read_figures

_MAP_SECTIONS = ("participant", "overview")
"""Sections of answers on the detail of maps."""
_PAGE_FILES = ("report.css", "save.js", "report.js", "viewer.js")
_URI_ESCAPES = {sign: f"%{ord(sign):02X}" for sign in "%#\"'<>&\\\n\r\t"}
"""Characters that must be escaped in the data URI of an SVG in an HTML attribute."""
_RunKey = tuple[str | None, ...]
_NO_RUN: _RunKey = (None,) * len(RUN_ENTITIES)
_STATIC_IMAGE = '<img src="{uri}" alt="{label}" data-name="{name}">'
# a figure that responds to the pointer
_INTERACTIVE_IMAGE = (
    '<object type="image/svg+xml" data="{uri}" aria-label="{label}" title="{label}"'
    ' data-name="{name}"></object>'
)

_FigureFiles = Sequence[tuple[FigureSpec, Sequence[StoredFigure]]]
"""Declarations of a section, each with its existing files."""


@frozen
class _Reportlet:
    """Markup of a figure or fragment with its texts and selector.

    `heading` and `caption` are the texts above and below it and may be empty. `choices` are the
    labels of the panel by selector, such as ``contrast``; the mapping is empty if the panel has no
    selector.
    """

    content: Markup
    heading: str = ""
    caption: str = ""
    choices: Mapping[str, str] = field(default_factory=dict)


@frozen
class _PanelGroup:
    """Reportlet of the page, with one or more panels.

    `name` is the anchor. `run` is the name of the run that begins with the reportlet, "" within a
    run or without a run. `caption` is the text below all panels, "" if each panel has a caption.
    `tab` is the reportlet's tab in the run; "" if it is shown with the preceding reportlet.
    `tables` are files with all values, relative to the page.
    """

    name: str
    panels: Sequence[_Reportlet]
    run: str = ""
    subtitle: str = ""
    caption: str = ""
    tab: str = ""
    tables: Sequence[str] = ()


@frozen
class Section:
    """Section of the page, which may be empty, because missing results are also reported.

    `folded` sections are closed at first, and `fold` is the title of the fold that contains the
    section; "" if there is none. `missing` are expected items that do not exist, and
    `on_request` are items that were not requested.
    """

    name: str
    title: str
    blocks: Sequence[_PanelGroup] = ()
    folded: bool = False
    missing: Sequence[str] = ()
    on_request: Sequence[str] = ()
    fold: str = ""

    @property
    def groups(self) -> list[list[_PanelGroup]]:
        """Blocks of each run; blocks without a run come first."""
        groups: list[list[_PanelGroup]] = []
        for block in self.blocks:
            if block.run or not groups:
                groups.append([])
            groups[-1].append(block)
        return groups


def plain_section(
    name: str, title: str, content: str, missing: Sequence[str] = (), *, folded: bool = False
) -> Section:
    """Return a section of text and markup.

    `name` is the anchor. `content` is text and markup; "" if there is no content. The names of the
    `missing` items are only listed in this case. A `folded` section is closed at first.
    """
    if not content:
        return Section(name=name, title=title, missing=missing, folded=folded)
    reportlet = _Reportlet(content=Markup(content))
    blocks = [_PanelGroup(name=f"{name}-0", panels=[reportlet])]
    return Section(name=name, title=title, blocks=blocks, folded=folded)


def write_subject_page(
    root: Path,
    subject: str,
    *,
    declarations: Sequence[FigureSpec],
    custom: Mapping[str, str],
    crashed: bool = False,
    notices: Mapping[str, int] = MappingProxyType({}),
    neighbors: Mapping[str, str] = MappingProxyType({}),
    most_sessions: int = 0,
    stored_files: Collection[Path] | None = None,
) -> Path:
    """Write the page of one subject and return its path.

    Subjects with many sessions have one page per session, with the figures of its runs and the
    figures without a run. Missing items are listed on these pages, and the subject's page only
    contains figures without a run. See `_assemble` and `write_page`.

    `subject` is the label without ``sub-``. `custom` is HTML of sections without figures, by
    section name. `crashed` states whether some steps failed, and `notices` is the number of
    notices by kind. `neighbors` are file names by link text. `most_sessions` is the largest number
    of sessions on a single page; 0 for no limit. If other figures are still computed,
    `stored_files` contains the existing figures of this call; None if all figures are shown.
    """
    figures = [
        figure
        for figure in read_figures(root, subject)
        if stored_files is None or figure.path in stored_files
    ]
    participant = f"sub-{subject}"
    sessions = sorted({session for figure in figures if (session := _find_run(figure)[0])})
    has_session_pages = 0 < most_sessions < len(sessions)
    pages = {participant: _select_figures(figures, None) if has_session_pages else figures}
    for session in sessions:
        name = f"{participant}_ses-{session}"
        if has_session_pages:
            pages[name] = _select_figures(figures, None, session)
        else:
            (root / f"{name}.html").unlink(missing_ok=True)
    for name, page_figures in pages.items():
        sections = _assemble(declarations, page_figures, custom, root)
        if has_session_pages and name == participant:
            sections = [
                replace(section, missing=(), on_request=())
                for section in sections
                if section.blocks
            ]
        other_pages = {page: f"{page}.html" for page in pages if page != name}
        write_page(
            root / f"{name}.html",
            title=f"bids-sr: {name}",
            sections=sections,
            neighbors={**other_pages, **neighbors},
            cautions=any(section.name in _MAP_SECTIONS for section in sections),
            crashed=crashed,
            unfinished=stored_files is not None,
            notices=notices,
        )
    return root / f"{participant}.html"


def _select_figures(figures: Sequence[StoredFigure], *sessions: str | None) -> list[StoredFigure]:
    """Return the figures of some sessions; None selects figures without a run or session."""
    return [figure for figure in figures if _find_run(figure)[0] in sessions]


def _assemble(
    declarations: Sequence[FigureSpec],
    figures: Sequence[StoredFigure],
    custom: Mapping[str, str],
    root: Path,
) -> list[Section]:
    """Return the sections of the page.

    If a figure in `SectionSpec.only` exists, sections without content are omitted, because a run
    on structural scans is not expected to have BOLD results. Sections that only contain items on
    request are omitted if nothing was requested.
    """
    files_by_figure: dict[tuple[str, bool], list[StoredFigure]] = {}
    for figure in figures:
        files_by_figure.setdefault((figure.figure, figure.html), []).append(figure)
    sorted_declarations = sorted(declarations, key=lambda item: item.place)
    files_by_section = {
        section: [
            (declaration, files_by_figure.get((declaration.desc, declaration.html), []))
            for declaration in sorted_declarations
            if declaration.section == section.name
        ]
        for section in SECTIONS
    }
    figure_names = {figure.figure for figure in figures}
    required_sections = {
        section for section in SECTIONS if not figure_names.isdisjoint(section.only)
    }
    sections = []
    for spec in SECTIONS:
        figure_files, custom_text = files_by_section[spec], custom.get(spec.name, "")
        is_required = spec in required_sections or bool(custom_text)
        has_files = any(files for _, files in figure_files)
        is_optional = not spec.only and (has_files or not (required_sections and figure_files))
        is_expected = custom_text or has_files or any(item.missing for item, _ in figure_files)
        if (is_required or is_optional) and is_expected:
            sections.append(_make_section(spec, figure_files, custom_text, root))
    return _fold_combined_runs(sections)


def _fold_combined_runs(sections: Sequence[Section]) -> list[Section]:
    """Fold the results of single runs if the page begins with the result of all runs.

    Messages on skipped runs then move to the result of all runs, so that they are visible.
    """
    by_name = {section.name: section for section in sections}
    combined, overview = by_name.get("participant"), by_name.get("overview")
    if combined is None or overview is None or not combined.blocks:
        return list(sections)
    texts = [block for block in overview.blocks if block.name == "overview-text"]
    figures = [block for block in overview.blocks if block not in texts]
    by_name["participant"] = replace(combined, blocks=[*texts, *combined.blocks])
    by_name["overview"] = replace(overview, blocks=figures, folded=True, title="Runs")
    return list(by_name.values())


def _make_section(
    spec: SectionSpec, figure_files: _FigureFiles, custom: str, root: Path
) -> Section:
    """Return a section with the figures of each run, and the names of missing items.

    `custom` is text and markup that precedes the figures; it may be "".
    """
    find_run = _find_run if spec.by_run else (lambda _: _NO_RUN)
    runs: set[_RunKey] = {find_run(file) for _, files in figure_files for file in files}
    run_items = {
        item for item, files in figure_files if any(find_run(file) != _NO_RUN for file in files)
    }
    missing_items, items_on_request = _name_missing(figure_files)
    blocks = (
        [_PanelGroup(name=f"{spec.name}-text", panels=[_Reportlet(content=Markup(custom))])]
        if custom
        else []
    )
    for run in sorted(runs, key=_make_sort_key):
        entities = {name: value for name, value in zip(RUN_ENTITIES, run, strict=True) if value}
        label = run_text(entities)
        run_files = [
            (item, [file for file in files if find_run(file) == run])
            for item, files in figure_files
        ]
        anchor = "-".join([spec.name, *_list_entity_pairs(entities)])
        run_blocks = list(_make_blocks(anchor, run_files, root))
        if run_blocks and label:
            run_blocks[0] = replace(run_blocks[0], run=label)
            # An item that exists for another run is also expected for this run.
            expected = [(item, files) for item, files in run_files if item in run_items or files]
            missing_in_run, on_request_in_run = _name_missing(expected, label)
            missing_items += missing_in_run
            items_on_request += on_request_in_run
        blocks += run_blocks
    return Section(
        name=spec.name,
        title=_join_titles(figure_files) or spec.title,
        blocks=blocks,
        folded=spec.folded,
        missing=missing_items,
        on_request=items_on_request,
        fold=spec.fold,
    )


def _find_run(figure: StoredFigure) -> _RunKey:
    """Return the run of a figure; figures without a task do not belong to a run."""
    return tuple(map(figure.entities.get, RUN_ENTITIES)) if "task" in figure.entities else _NO_RUN


def _name_missing(figure_files: _FigureFiles, label: str = "") -> tuple[list[str], list[str]]:
    """Return names of missing items (of a run): expected items, and items on request.

    Items that another existing item replaces are omitted.
    """
    available = {item.desc for item, files in figure_files if files}
    absent = [
        item for item, files in figure_files if not files and available.isdisjoint(item.unless)
    ]
    expected = [item for item in absent if item.missing and not item.request]
    return (
        [_item_text(item.missing, item.remark, label) for item in expected],
        [_item_text(item.request, item.remark, label) for item in absent if item.request],
    )


def _item_text(name: str, remark: str, label: str) -> str:
    """Return the name of an item with its run, if any, and a remark in parentheses.

    >>> _item_text("comparison of maps", "use --truth DIR", "task tap")
    'comparison of maps of task tap (use --truth DIR)'
    """
    label_text = f" of {label}" if label else ""
    remark_text = f" ({remark})" if remark else ""
    return f"{name}{label_text}{remark_text}"


def _make_sort_key(key: _RunKey) -> tuple[tuple[int, int, str], ...]:
    """Return a key that sorts runs without an entity first, and numbers by value."""
    return tuple(
        (
            label is not None,
            int(label) if label is not None and label.isdigit() else 0,
            label or "",
        )
        for label in key
    )


def _make_blocks(anchor: str, figure_files: _FigureFiles, root: Path) -> Iterator[_PanelGroup]:
    """Yield the reportlets of one run (or without a run) that have content."""
    for index, (declaration, figures) in enumerate(figure_files):
        panels = [_make_panel(declaration, figure) for figure in figures]
        if not any(panel.content for panel in panels):
            continue
        has_shared_caption = len({panel.caption for panel in panels}) < len(panels)
        shared_caption = panels[0].caption if has_shared_caption else ""
        yield _PanelGroup(
            name=f"{anchor}-{index}",
            panels=(
                [replace(panel, caption="") for panel in panels] if shared_caption else panels
            ),
            subtitle=declaration.subtitle,
            caption=shared_caption,
            tab=declaration.tab,
            tables=_list_tables(figures[0], declaration.tables, root),
        )


def _make_panel(declaration: FigureSpec, figure: StoredFigure) -> _Reportlet:
    """Return the embedded markup of a figure with its texts; figures with a heading have choices.

    A selector finds these figures by contrast and smoothing.
    """
    title = figure.heading or declaration.subtitle or declaration.desc
    alternative_text = figure.alt or ", ".join(filter(None, [title, run_text(figure.entities)]))
    choices = {"contrast": figure.contrast, "smoothing": figure.smoothing}
    if figure.html:
        content = Markup(figure.path.read_text(encoding="utf-8").strip())
    else:
        image = _STATIC_IMAGE if declaration.static else _INTERACTIVE_IMAGE
        content = Markup(image).format(
            uri=data_uri(figure.path.read_bytes()), label=alternative_text, name=figure.path.stem
        )
    return _Reportlet(
        content=content,
        heading=figure.heading,
        caption=figure.caption,
        choices=choices if figure.heading else {},
    )


def data_uri(data: bytes) -> str:
    """Return the data URI of an SVG: percent-encoded text or base64, whichever is shorter."""
    encoded = "data:image/svg+xml;base64," + base64.b64encode(data).decode("ascii")
    text = data.decode("utf-8")
    # This loop is ten times as fast as `str.translate`.
    for character, escape in _URI_ESCAPES.items():
        text = text.replace(character, escape)
    return min(encoded, f"data:image/svg+xml,{text}", key=len)


def _list_tables(figure: StoredFigure, names: Sequence[str], root: Path) -> list[str]:
    """Return the tables or model cards of a figure's run, relative to the page.

    Tables are ``desc-NAME_metrics.tsv``.
    """
    participant = f"sub-{figure.entities['subject']}"
    stem = "_".join([participant, *_list_entity_pairs(figure.entities)])
    cards = {MODEL: f"sourcedata/models/{participant}/{stem}_desc-*_model.json"}
    paths = (
        sorted(root.glob(cards.get(name, f"{participant}/**/{stem}_desc-{name}_metrics.tsv")))
        for name in names
    )
    return [path.relative_to(root).as_posix() for files in paths for path in files]


def _list_entity_pairs(entities: Mapping[str, str]) -> list[str]:
    """Return the key-label pairs of a run as in its file names."""
    return [
        f"{short}-{entities[name]}"
        for name, (short, _) in RUN_ENTITIES.items()
        if name in entities
    ]


def _join_titles(figure_files: _FigureFiles) -> str:
    """Return the titles that existing figures give their section, joined; "" if there are none."""
    titles = dict.fromkeys(item.title for item, files in figure_files if files and item.title)
    title = " and ".join(titles)
    return title[:1] + title[1:].lower() if len(titles) > 1 else title


def write_page(
    target: Path,
    *,
    title: str,
    sections: Sequence[Section],
    neighbors: Mapping[str, str] = MappingProxyType({}),
    cautions: bool = False,
    crashed: bool = False,
    unfinished: bool = False,
    notices: Mapping[str, int] = MappingProxyType({}),
) -> None:
    """Render sections by the page template and write the page atomically.

    All text except `Markup` is escaped. `neighbors` are file names by link text. With `cautions`,
    the page lists what its maps do not show. Missing items of an `unfinished` page are still
    computed.
    """
    css, *scripts = (boilerplate_path(name).read_text(encoding="utf-8") for name in _PAGE_FILES)
    script = "\n".join(scripts)
    # the content security policy of the page only allows scripts with this hash
    checksum = hashlib.sha256(script.encode("utf-8")).digest()
    runs: dict[str, str] = {}  # by anchor of the first part of each run
    for section in sections:
        for block in section.blocks:
            if block.run and block.run not in runs.values():
                runs[f"{block.name}-run"] = block.run
    folds = [(fold, list(group)) for fold, group in groupby(sections, attrgetter("fold"))]
    page = (
        environment()
        .get_template("report.tpl")
        .render(
            title=title,
            folds=folds,
            neighbors=neighbors,
            runs=runs,
            css=css,
            script=script,
            digest=base64.b64encode(checksum).decode("ascii"),
            crashed=crashed,
            unfinished=unfinished,
            notice_counts=notices,
            home=metadata(RESULTS)["Home-page"] if cautions else "",
        )
    )
    atomic_files.write_text(target, page)
