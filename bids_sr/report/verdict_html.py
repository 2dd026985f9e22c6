"""HTML of the verdict and quality control: text, values, and warnings."""

from collections.abc import Iterable, Mapping, Sequence

from markupsafe import Markup

from bids_sr.engine.metric_rows import MISSING, MetricRow, VerdictFacts
from bids_sr.evaluation.evidence import Evidence
from bids_sr.evaluation.run_evidence import RunEvidence
from bids_sr.evaluation.series_text import describe_series
from bids_sr.evaluation.supporting_sentences import list_further_values
from bids_sr.evaluation.words import (
    BANDS,
    DECISIONS,
    active_words,
    capitalize,
)
from bids_sr.io.metric_registry import statistic
from bids_sr.report import evaluation_rows
from bids_sr.report.facts import messages_html
from bids_sr.report.markup import ColumnHead, join, render, render_folded, table
from bids_sr.report.metric_tables import ACQUIRED_ACTIVATION, QUALITY, render_cell, render_tables


def verdict_html(
    verdict: VerdictFacts, evidence: RunEvidence, rows: Sequence[MetricRow] = ()
) -> Markup:
    """Render the evidence: comparison of series, and limitations.

    `rows` are rows of the evaluation, whose series are defined.
    """
    best, accuracy = evidence.best, evidence.accuracy
    decisions: list[str] = []
    for sentence in verdict.get("sentences", []):
        subject = sentence.get("series", MISSING)
        in_table = accuracy is not None and sentence.get("band") == accuracy.band
        if subject in (best or subject, MISSING) and not in_table:
            decisions.append(_decision_html(sentence))
    evidence_markup = (
        Markup("") if accuracy is None else _evidence_html(accuracy, best, evidence.margins)
    )
    defined_series = evaluation_rows.list_series(rows, kinds=("baseline", "method"))
    verdict_markup = render(
        "verdict",
        list(filter(None, decisions)),
        evidence_markup,
        verdict.get("limits", []),
    )
    legend = _legend_html(defined_series)
    return join([verdict_markup, legend])


def _decision_html(sentence: Mapping[str, str]) -> str:
    """Return a sentence of the verdict, after the sign of its decision if it has a sign."""
    decision_words = DECISIONS.get(sentence.get("decision", ""))
    if decision_words is None or not decision_words.symbol:
        return sentence["text"]
    sign_text = f"{decision_words.symbol} {decision_words.label}"
    return render("decision", sign_text, sentence["text"])


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
                *(further_values.get(label, "–") for label in further_labels),
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
    comparison = evidence.compare(best, series, region, margins[region])
    sign = DECISIONS[comparison.decision].symbol
    row = evidence.row(best, region, series)
    return join([f"{sign} " if row else "", render_cell(row)])


def _evidence_title(evidence: Evidence) -> str:
    """Return the title of the evidence table: band, contrast, first region and signs."""
    signs = ", ".join(
        f"{decision.symbol} {decision.label}" for decision in DECISIONS.values() if decision.symbol
    )
    name, definition = active_words(evidence.regions[0])
    region_remark = f" ({name}: {definition})" if definition else ""
    title = f"{capitalize(BANDS[evidence.band])} by series, contrast {evidence.contrast}"
    return f"{title}{region_remark}. Differences: {signs}"


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


def guards_html(evidence: RunEvidence, rows: Sequence[MetricRow]) -> Markup:
    """Render raised flags and quality-control metrics.

    `rows` are rows of the evaluation.
    """
    flags = [f"{flag.text} {flag.remedy}".strip() for flag in evidence.flags if flag.raised]
    return join(
        [
            messages_html("warning", flags),
            *(
                html
                for declaration in (ACQUIRED_ACTIVATION, QUALITY)
                for _, html in render_tables(declaration, rows)
            ),
        ]
    )
