"""The verdict and quality control as HTML: text first, then values, warnings where due."""

import math
from collections.abc import Iterable, Mapping, Sequence

from markupsafe import Markup

from bids_sr.evaluation.evidence import Evidence, accuracy, applied_methods
from bids_sr.evaluation.qc_flags import raised_flags
from bids_sr.evaluation.series_text import description_of
from bids_sr.evaluation.verdict_text import said_first
from bids_sr.evaluation.words import (
    BANDS,
    DECISIONS,
    MARKS,
    TOO_LITTLE,
    active_words,
    beside,
    capital,
    names,
)
from bids_sr.metrics.flags import FLAGS
from bids_sr.metrics.number_text import number
from bids_sr.metrics.registry import statistic
from bids_sr.metrics.rows import MISSING, MetricRow, VerdictFacts
from bids_sr.report import evaluation_rows
from bids_sr.report.facts import messages_html
from bids_sr.report.markup import Head, folded, joined, render, table
from bids_sr.report.metric_tables import QUALITY, cell, rendered


def verdict_html(
    verdict: VerdictFacts,
    rows: Sequence[MetricRow] = (),
    flags: Sequence[Mapping[str, object]] = (),
) -> Markup:
    """Render the verdict: headline, evidence table, limitations and warnings.

    Large motion and methods that were not applied come before the headline.
    """
    lines = verdict.get("lines") or [
        {"text": verdict.get("headline", "No verdict."), "status": verdict.get("status", "")}
    ]
    marked = [(MARKS.get(each["status"], ("",))[0], each["text"]) for each in lines]
    best = verdict.get("best", "")
    evidence = accuracy(rows, [best]) if best else None
    points: list[str] = []
    for sentence in verdict.get("sentences", []):
        about = sentence.get("series", MISSING)
        in_table = evidence is not None and sentence.get("band") == evidence.band
        if about in (best or about, MISSING) and not in_table:
            sign, word, _ = DECISIONS.get(sentence.get("decision", ""), ("", "", ""))
            text = sentence["text"]
            points.append(render("decision", f"{sign} {word}", text) if sign else text)
    margins = {each.region: each.value for each in rows if each.statistic == "verdict_margin"}
    values = _evidence_html(evidence, best, margins) if evidence else Markup("")
    warned = messages_html("warning", said_first(verdict)) + _flags_html(rows, flags)
    explained = evaluation_rows.series_of(rows, kinds=("baseline", "method", "placebo"))
    limits = verdict.get("limits", [])
    told = render("verdict", marked, list(filter(None, points)), values, limits)
    return joined([warned, told, compared_html(verdict), _legend_html(explained)])


def compared_html(verdict: VerdictFacts) -> Markup:
    """Return verdicts on series of other programs; nothing where there are none.

    Heading and a sentence for each series, or empty markup.
    """
    said = [
        render("decision", MARKS[each["status"]][0], each["text"])
        for each in verdict.get("compared", [])
    ]
    title = "Series of other programs, compared with the acquired series"
    return render("headed", title, render("items", said))


def _evidence_html(evidence: Evidence, best: str, margins: Mapping[str, float]) -> Markup:
    """Render each series' values and the best method's gain, in active voxels first if known.

    `margins` are those of the verdict by region; the sign of a difference is of its own interval.
    """
    lead = evidence.regions[0]
    others = [words for words, _ in beside(evidence, best, lead)]
    what = statistic(evidence.reference.statistic).label
    regions = [active_words(region)[0] for region in evidence.regions]
    heads: list[Head] = ["series", *((what, name) for name in regions)]
    heads += [(words, regions[0]) for words in others]
    heads += [(f"{best} − series", name) for name in regions]
    lines = []
    for name in evaluation_rows.series_of(evidence.levels()):
        more = dict(beside(evidence, name, lead))
        differences = []
        for region in evidence.regions:
            margin = margins.get(region, evidence.margin(region))
            sign, *_ = DECISIONS[evidence.compare(best, name, region, margin).decision]
            found = evidence.row(best, region, name)
            differences.append(joined([f"{sign} " if found else "", cell(found)]))
        lines.append(
            [
                evaluation_rows.series_text(name),
                *(cell(evidence.row(name, region)) for region in evidence.regions),
                *(number(more[words]) if words in more else "–" for words in others),
                *differences,
            ]
        )
    signs = ", ".join(f"{sign} {text}" for sign, text, _ in DECISIONS.values() if sign)
    name, definition = active_words(lead)
    title = f"{capital(f'detail {BANDS[evidence.band]}')}, contrast {evidence.contrast}"
    title += f" ({name}: {definition})" if definition else ""
    title += f". Differences: {signs}"
    lacking = any(
        not math.isfinite(evidence.value("measured", region)) for region in evidence.regions
    )
    note = (
        f"The value of the measured series is n/a if this series has {TOO_LITTLE}. Noise lowers"
        " the value of the measured series, so other series may have higher values."
    )
    return joined(
        [
            table(
                title,
                heads,
                lines,
            ),
            (
                render("note", "note", note)
                if lacking and evidence.row("measured") is not None
                else ""
            ),
        ]
    )


def _legend_html(series: Iterable[str]) -> Markup:
    """Explain each series whose name is not self-explanatory.

    Names in tables and figures are those of options and files.
    """
    named = (
        name
        for name in series
        if evaluation_rows.series_text(name) == name and name not in ("bspline", "measured")
    )
    entries = [(name, text) for name in named if (text := description_of(name))]
    return (
        folded("Definitions of the series", render("glossary", entries)) if entries else Markup("")
    )


def _flags_html(rows: Iterable[MetricRow], flags: Sequence[Mapping[str, object]] = ()) -> Markup:
    """A warning for every flag that is up: of `flags`, with its numbers, else of the `rows`."""
    warnings = [
        f"{flag.get('text', '')} {flag.get('remedy') or ''}".strip()
        for flag in flags
        if flag.get("raised")
    ]
    told = {flag.get("name") for flag in flags}
    for name, up in raised_flags(rows).items():
        kind = FLAGS[name]
        if up and name not in told:
            about = [each for each in up if each != "run"]
            whose = f" ({names(about)})" if about else ""
            why = kind.remedy.format(series=names(up)) or f"{capital(kind.rule)}."
            warnings.append(f"{capital(kind.failed)}{whose}. {why}")
    return messages_html("warning", warnings)


def guards_html(rows: Sequence[MetricRow], flags: Sequence[Mapping[str, object]] = ()) -> Markup:
    """Render raised flags, checked flags not raised, and QC metrics; see `_flags_html`."""
    evidence = accuracy(rows, applied_methods(rows))
    basis = {} if evidence is None else {"harm": f" (contrast {evidence.contrast})"}
    passed = "; ".join(
        FLAGS[name].passed + basis.get(name, "")
        for name, up in raised_flags(rows).items()
        if not up
    )
    quiet = render("note", "fine", f"Passed: {passed}.") if passed else ""
    return joined(
        [_flags_html(rows, flags), quiet, *(html for _, html in rendered(QUALITY, rows))]
    )
