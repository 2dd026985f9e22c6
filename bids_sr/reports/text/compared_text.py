"""Series of other programs in the report: what the verdict says of each, and the values that it rests on."""

from collections.abc import Callable, Mapping

from markupsafe import Markup

from bids_sr.io.json_values import listed, real
from bids_sr.metrics.long_tables import MetricRow
from bids_sr.reports.markup import folded, joined, render, table
from bids_sr.reports.tables import evaluation_rows as pick
from bids_sr.reports.tables.evaluation_tables import cell

MARKS: Mapping[str, str] = {"truer": "▲", "less true": "▼", "mixed": "▲▼", "no truer": "=", "not assessed": "?"}


def compared_html(verdict: Mapping[str, object], measure_text: Callable[[str], str]) -> Markup:
    """Verdicts on series of other programs, with their measures in words; nothing where there are none."""
    found = [each for each in listed(verdict.get("compared")) if isinstance(each, Mapping)]
    if not found:
        return Markup("")
    said = [render("decision", MARKS.get(str(each.get("status")), "?"), str(each.get("text", ""))) for each in found]
    items = Markup("").join(Markup("<li>{}</li>").format(text) for text in said)
    heads = ["series", "against", "measure", "region", "value, 95 % interval over blocks"]
    lines = [
        _line(each, measure_text) for one in found for each in listed(one.get("sentences")) if isinstance(each, Mapping)
    ]
    values = table("Series of other programs: values", heads, lines, texts={0, 1, 2, 3})
    title = Markup("<h3>Series of other programs, against the acquired series</h3>")
    return joined([title, Markup("<ul>{}</ul>").format(items), folded("Their values", values)])


def _line(sentence: Mapping[str, object], measure_text: Callable[[str], str]) -> list[object]:
    row = MetricRow(
        series=str(sentence.get("series", "")), measure=str(sentence.get("measure", "")),
        value=real(sentence.get("value")), lower=real(sentence.get("lower")), upper=real(sentence.get("upper")),
    )  # fmt: skip
    against, region = str(sentence.get("against", "")), str(sentence.get("region", ""))
    return [row.series, pick.series_text(against), measure_text(row.measure), pick.region_text(region), cell(row)]
