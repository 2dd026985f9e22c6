"""HTML of the verdict and quality control: text, values, and warnings."""

from collections.abc import Iterable, Mapping, Sequence

from markupsafe import Markup

from bids_sr.evaluation.evidence import Evidence, accuracy_evidence, select_applied
from bids_sr.evaluation.qc_flags import find_raised_flags
from bids_sr.evaluation.series_text import describe_series
from bids_sr.evaluation.supporting_sentences import list_further_values
from bids_sr.evaluation.verdict_lines import leading_sentences
from bids_sr.evaluation.words import (
    BANDS,
    DECISIONS,
    MARKS,
    active_words,
    capitalize,
)
from bids_sr.metrics.flags import FLAGS
from bids_sr.metrics.number_text import number
from bids_sr.metrics.registry import statistic
from bids_sr.metrics.rows import MISSING, MetricRow, VerdictFacts
from bids_sr.metrics.word_lists import enumerate_unique
from bids_sr.report import evaluation_rows
from bids_sr.report.facts import messages_html
from bids_sr.report.markup import ColumnHead, join, render, render_folded, table
from bids_sr.report.metric_tables import ACQUIRED_ACTIVATION, QUALITY, render_cell, render_tables


def verdict_html(
    verdict: VerdictFacts,
    rows: Sequence[MetricRow] = (),
    flags: Sequence[Mapping[str, object]] = (),
) -> Markup:
    """Render the verdict: headline, evidence table, limitations and warnings.

    Large motion and methods that were not applied precede the headline.
    """
    lines = verdict.get("lines") or [
        {"text": verdict.get("headline", "No verdict."), "status": verdict.get("status", "")}
    ]
    marked_lines = [
        (MARKS[line["status"]].symbol if line["status"] in MARKS else "", line["text"])
        for line in lines
    ]
    best = verdict.get("best", "")
    evidence = accuracy_evidence(rows, [best]) if best else None
    decisions: list[str] = []
    for sentence in verdict.get("sentences", []):
        subject = sentence.get("series", MISSING)
        in_table = evidence is not None and sentence.get("band") == evidence.band
        if subject in (best or subject, MISSING) and not in_table:
            decisions.append(_decision_html(sentence))
    margins = {row.region: row.value for row in rows if row.statistic == "verdict_margin"}
    evidence_markup = _evidence_html(evidence, best, margins) if evidence else Markup("")
    warnings = messages_html("warning", leading_sentences(verdict)) + _flags_html(rows, flags)
    defined_series = evaluation_rows.list_series(rows, kinds=("baseline", "method", "placebo"))
    verdict_markup = render(
        "verdict",
        marked_lines,
        list(filter(None, decisions)),
        evidence_markup,
        verdict.get("limits", []),
    )
    return join([warnings, verdict_markup, render_compared(verdict), _legend_html(defined_series)])


def _decision_html(sentence: Mapping[str, str]) -> str:
    """Return a sentence of the verdict, after the sign of its decision if it has a sign."""
    decision_words = DECISIONS.get(sentence.get("decision", ""))
    if decision_words is None or not decision_words.symbol:
        return sentence["text"]
    sign_text = f"{decision_words.symbol} {decision_words.label}"
    return render("decision", sign_text, sentence["text"])


def render_compared(verdict: VerdictFacts) -> Markup:
    """Render verdicts on series of other programs, one sentence each; "" if there are none."""
    sentences = [
        render("decision", MARKS[compared["status"]].symbol, compared["text"])
        for compared in verdict.get("compared", [])
    ]
    title = "Series of other programs, compared with the acquired series"
    return render("headed", title, render("items", sentences))


def _evidence_html(evidence: Evidence, best: str, margins: Mapping[str, float]) -> Markup:
    """Render each series' values and the best method's gain, active voxels first.

    `margins` are the equivalence margins by region; symbols of differences depend on their
    intervals.
    """
    first_region = evidence.regions[0]
    further_labels = [label for label, _ in list_further_values(evidence, best, first_region)]
    statistic_label = statistic(evidence.reference.statistic).label
    region_names = [active_words(region)[0] for region in evidence.regions]
    heads: list[ColumnHead] = ["series", *((statistic_label, name) for name in region_names)]
    heads += [(label, region_names[0]) for label in further_labels]
    heads += [(f"{best} − series", name) for name in region_names]
    table_rows = []
    for name in evaluation_rows.list_series(evidence.levels()):
        further_values = dict(list_further_values(evidence, name, first_region))
        table_rows.append(
            [
                evaluation_rows.series_text(name),
                *(render_cell(evidence.row(name, region)) for region in evidence.regions),
                *(
                    number(further_values[label]) if label in further_values else "–"
                    for label in further_labels
                ),
                *(
                    _difference_html(evidence, best, name, region, margins)
                    for region in evidence.regions
                ),
            ]
        )
    return table(_evidence_title(evidence), heads, table_rows)


def _difference_html(
    evidence: Evidence, best: str, series: str, region: str, margins: Mapping[str, float]
) -> Markup:
    """Render the gain of the best method over a series in a region, after its sign."""
    margin = margins.get(region, evidence.margin(region))
    sign = DECISIONS[evidence.compare(best, series, region, margin).decision].symbol
    row = evidence.row(best, region, series)
    return join([f"{sign} " if row else "", render_cell(row)])


def _evidence_title(evidence: Evidence) -> str:
    """Return the title of the evidence table: band, contrast, first region and signs."""
    signs = ", ".join(
        f"{decision.symbol} {decision.label}" for decision in DECISIONS.values() if decision.symbol
    )
    name, definition = active_words(evidence.regions[0])
    region_remark = f" ({name}: {definition})" if definition else ""
    detail_text = capitalize(f"detail {BANDS[evidence.band]}")
    return f"{detail_text}, contrast {evidence.contrast}{region_remark}. Differences: {signs}"


def _legend_html(series: Iterable[str]) -> Markup:
    """Define each series whose name is not self-explanatory.

    Tables and figures use the same names as options and files.
    """
    names_to_define = (
        name
        for name in series
        if evaluation_rows.series_text(name) == name and name not in ("bspline", "measured")
    )
    entries = [(name, text) for name in names_to_define if (text := describe_series(name))]
    return (
        render_folded("Definitions of the series", render("glossary", entries))
        if entries
        else Markup("")
    )


def _flags_html(rows: Iterable[MetricRow], flags: Sequence[Mapping[str, object]] = ()) -> Markup:
    """Render a warning per raised flag: from `flags` with values, otherwise from the `rows`."""
    warnings = [
        f"{flag.get('text', '')} {flag.get('remedy') or ''}".strip()
        for flag in flags
        if flag.get("raised")
    ]
    names_in_flags = {flag.get("name") for flag in flags}
    for name, raised_series in find_raised_flags(rows).items():
        if raised_series and name not in names_in_flags:
            warnings.append(_flag_warning(name, raised_series))
    return messages_html("warning", warnings)


def _flag_warning(name: str, raised_series: Sequence[str]) -> str:
    """Return a sentence on a raised flag with its series, followed by the remedy or the rule."""
    flag = FLAGS[name]
    named_series = [series for series in raised_series if series != "run"]
    series_suffix = f" ({enumerate_unique(named_series)})" if named_series else ""
    advice = (
        flag.remedy.format(series=enumerate_unique(raised_series)) or f"{capitalize(flag.rule)}."
    )
    return f"{capitalize(flag.failed)}{series_suffix}. {advice}"


def guards_html(rows: Sequence[MetricRow], flags: Sequence[Mapping[str, object]] = ()) -> Markup:
    """Render raised flags, passed checks and quality-control metrics; see `_flags_html`."""
    evidence = accuracy_evidence(rows, select_applied(rows))
    evidence_texts = {} if evidence is None else {"harm": f" (contrast {evidence.contrast})"}
    passed_text = "; ".join(
        FLAGS[name].passed + evidence_texts.get(name, "")
        for name, raised_series in find_raised_flags(rows).items()
        if not raised_series
    )
    passed_html = render("note", "fine", f"Passed: {passed_text}.") if passed_text else ""
    return join(
        [
            _flags_html(rows, flags),
            passed_html,
            *(
                html
                for declaration in (ACQUIRED_ACTIVATION, QUALITY)
                for _, html in render_tables(declaration, rows)
            ),
        ]
    )
