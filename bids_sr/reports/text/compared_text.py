"""Series of other programs in the report: what the verdict says of each."""

from collections.abc import Mapping

from markupsafe import Markup

from bids_sr.io.json_values import listed
from bids_sr.reports.markup import render

MARKS: Mapping[str, str] = {
    "more accurate": "▲", "less accurate": "▼", "mixed": "▲▼", "not more accurate": "=", "not assessed": "?",
}  # fmt: skip


def compared_html(verdict: Mapping[str, object]) -> Markup:
    """Verdicts on series of other programs; nothing where there are none."""
    found = [each for each in listed(verdict.get("compared")) if isinstance(each, Mapping)]
    if not found:
        return Markup("")
    said = [render("decision", MARKS.get(str(each.get("status")), "?"), str(each.get("text", ""))) for each in found]
    items = Markup("").join(Markup("<li>{}</li>").format(text) for text in said)
    title = Markup("<h3>Series of other programs, against the acquired series</h3>")
    return title + Markup("<ul>{}</ul>").format(items)
