"""The verdict and quality control as HTML: text first, then the values, warnings where one is due."""

import math
from collections.abc import Iterable, Mapping, Sequence

from markupsafe import Markup

from bids_sr.io.json_values import listed, texts
from bids_sr.metrics.long_tables import MISSING, MetricRow
from bids_sr.metrics.measure_names import metric_of, parts_of
from bids_sr.reports.markup import Head, folded, joined, render, table
from bids_sr.reports.tables import evaluation_rows as pick
from bids_sr.reports.tables.evaluation_tables import cell
from bids_sr.reports.tables.html_tables import messages_html
from bids_sr.reports.text.compared_text import compared_html
from bids_sr.stats.controls.qc_flags import flag_text
from bids_sr.stats.evaluation.evidence import EVIDENCE, TOO_LITTLE, Table, best_table
from bids_sr.stats.evaluation.verdict_text import description_of

DECISIONS: Mapping[str, tuple[str, str]] = {
    "better": ("▲", "higher"),
    "same": ("=", "equivalent"),
    "worse": ("▼", "lower"),
    "unclear": ("?", "no detectable difference"),
}
FLAG_TEXT: Mapping[str, str] = {
    "flag_task_not_done": "The task may not have been done: the time course correlates (CC above .5) outside the "
    "region of interest only.",
    "flag_broad": "Activation covers an unusually large part of the brain; motion or a wrong model can cause this.",
    "flag_artifact": "The T2* pair shows an artifact; super-resolved series may repeat it.",
    "flag_roi_misplaced": "The region of interest misses the nearest activation; --roi-grow extends it.",
    "flag_distortion": "Edges of the BOLD reference and of the T2* image are misaligned (susceptibility distortion): "
    "methods and baselines that take detail from the T2* image misplace it there.",
    "flag_harm": "The fine detail of a series is worse than adding no detail: do not interpret it.",
    "flag_domain": "BOLD intensities or edges differ from those on which the model was trained.",
}
QUALITY_METRICS: Mapping[str, str] = {
    "ensemble_sd": "disagreement of the ensemble",
    "precision_change": "effect of lower precision on t",
    "edge_mismatch": "distance of BOLD and T2* edges, median",
    "edge_mismatch_p90": "distance of BOLD and T2* edges, 90th percentile",
    "domain_distance": "intensity mismatch with training data",
    "domain_edges": "edge content relative to training data",
}
"""Metrics of quality control in a few words, in the order of the table."""


def verdict_html(
    verdict: Mapping[str, object], rows: Sequence[MetricRow] = (), flags: Sequence[Mapping[str, object]] | None = None
) -> Markup:
    """The verdict: large motion, who was not applied, one headline, its evidence as one table, limitations, warnings.

    `verdict` has a headline, the best method (the table compares it with all series), a motion_text and a
    not_applied_text (texts), sentences (each a text, or a mapping with text, decision, measure, series, against and
    region, any of which may be absent) and limits (texts); for `rows` and `flags` see `flags_html`.
    """
    headline, best = str(verdict.get("headline", "No verdict was reached.")), str(verdict.get("best", ""))
    sentences = [
        each if isinstance(each, Mapping) else {"text": str(each)} for each in listed(verdict.get("sentences"))
    ]
    compared_in = best_table(rows, [best]) if best else None
    told_in_table = {kind.level for kind in EVIDENCE} | {kind.gain for kind in EVIDENCE if kind.gain}
    points: list[str] = []
    for each in sentences:
        own = str(each.get("series", MISSING)) in (best, MISSING) and str(each.get("measure", "")) not in told_in_table
        if each.get("text") and (not best or own):
            found = DECISIONS.get(str(each.get("decision", "")))
            points.append(render("decision", " ".join(found), str(each["text"])) if found else str(each["text"]))
    decisions = {
        (str(each.get("series")), str(each.get("against")), str(each.get("region"))): str(each["decision"])
        for each in sentences if each.get("decision")
    }  # fmt: skip
    values = evidence_html(compared_in, best, decisions) if compared_in and compared_in.shows_accuracy else Markup("")
    limits = texts(verdict.get("limits"))
    before = [str(verdict[key]) for key in ("motion_text", "not_applied_text") if verdict.get(key)]
    told = render("verdict", headline, points, values, limits)
    warned = messages_html("warning", before) + flags_html(rows, flags)
    explained = pick.series_of(rows, kinds=("baseline", "method", "placebo"))
    return joined([warned, told, compared_html(verdict), legend_html(explained)])


def evidence_html(evidence: Table, best: str, decisions: Mapping[tuple[str, str, str], str]) -> Markup:
    """What each series reaches, and what the best method has more: active voxels first, where they are known.

    `decisions` are those of the verdict by method, other series and region; a difference has its sign.
    """
    regions = tuple(dict.fromkeys((evidence.lead, evidence.regions[0])))
    beside = [words for words, _ in evidence.beside(best, evidence.lead)]
    what = pick.FIGURE_TEXT.get(parts_of(evidence.evidence.level).figure, evidence.evidence.level)
    heads: list[Head] = ["series", *((what, pick.region_text(region)) for region in regions)]
    heads += [(words, pick.region_text(evidence.lead)) for words in beside]
    heads += [(f"{best} minus it", pick.region_text(region)) for region in regions]
    lines = []
    for name in pick.series_of(evidence.levels):
        more = dict(evidence.beside(name, evidence.lead))
        turned = {"better": "worse", "worse": "better"}
        said = [
            decisions.get((best, name, region)) or turned.get(its := decisions.get((name, best, region), ""), its)
            for region in regions
        ]
        signs = (DECISIONS.get(decision, ("", ""))[0] for decision in said)
        gains = (cell(evidence.gain(best, name, region)) if name != best else "–" for region in regions)
        lines.append([
            pick.series_text(name), *(cell(evidence.level(name, region)) for region in regions),
            *(pick.value_text(more[words]) if words in more else "–" for words in beside),
            *(joined([sign, " " * bool(sign), gain]) for sign, gain in zip(signs, gains, strict=True)),
        ])  # fmt: skip
    caption = f"Detail beyond the acquired Nyquist limit, {evidence.contrast}"
    signs_text = ", ".join(f"{sign} {text}" for sign, text in DECISIONS.values())
    lacking = any(not pick.known(row) for region in regions if (row := evidence.level("measured", region)))
    return joined([
        table(f"{caption} (differences: {signs_text})", heads, lines),
        render("note", "note", f"Measured is n/a where it has {TOO_LITTLE}. It is no upper bound: noise lowers it.")
        if lacking else "",
    ])  # fmt: skip


def legend_html(names: Iterable[str]) -> Markup:
    """What each series is whose name does not tell it: names in tables and figures are those of options and files."""
    named = (name for name in names if pick.series_text(name) == name and name not in ("bspline", "measured"))
    entries = [(name, text) for name in named if (text := description_of(name))]
    return folded("Definitions of the series", render("glossary", entries)) if entries else Markup("")


def measure_text(measure: str) -> str:
    """A measure in a few words: what the evaluation's table says of it, up to the first colon; its name otherwise."""
    level = parts_of(measure).level
    told = metric_of(level).description
    if not told:
        return measure
    known = {
        "split_ev_beyond": "explained variance of the measured effect, beyond Nyquist",
        "split_ev_signal": "explained variance of the measured effect, signal units",
        "truth_psnr": "PSNR of single volumes",
        "pair_psnr": "PSNR of held-out images",
        "truth_ev_beyond": "explained variance of the known truth, beyond Nyquist",
        "truth_ev_within": "explained variance of the known truth, within Nyquist",
        "split_ev_within": "explained variance of the measured effect, within Nyquist",
        "other_ev_within": "explained variance of the effect in another run, within Nyquist",
        "split_r_beyond": "r with the measured effect, beyond Nyquist",
        "split_r_signal": "r with the measured effect, signal units",
        "split_r_percent": "r with the measured effect, percent",
    }
    return known.get(level, told)


def flags_html(rows: Sequence[MetricRow], flags: Sequence[Mapping[str, object]] | None = None) -> Markup:
    """A warning for every flag that is up: of `flags` (name, raised, text, remedy), else of the `rows`."""
    given = [flag for flag in flags or [] if flag.get("raised")]
    warnings = [" ".join(filter(None, [str(flag.get("text", "")), str(flag.get("remedy") or "")])) for flag in given]
    told = {f"flag_{flag.get('name')}" for flag in flags or []}
    for measure in dict.fromkeys(row.measure for row in rows if row.parts.family == "flag"):
        up = [row for row in rows if row.measure == measure and row.value > 0]
        if up and measure not in told:
            names = [row.series for row in up if row.series not in ("run", MISSING)]
            about = f" ({', '.join(dict.fromkeys(names))})" if names else ""
            text = metric_of(measure).description or measure
            warnings.append(FLAG_TEXT.get(measure, text) + about)
    return messages_html("warning", warnings)


def guards_html(rows: Sequence[MetricRow], flags: Sequence[Mapping[str, object]] | None = None) -> Markup:
    """Flags, those that were looked for and are down, and the metrics of quality control; see `flags_html`."""
    looked = [row for row in rows if row.parts.family == "flag" and pick.known(row)]
    up = {row.measure for row in looked if row.value > 0}
    down = dict.fromkeys(row.measure for row in looked if row.measure not in up)
    names = ", ".join(flag_text(parts_of(measure).figure, raised=False) for measure in down)
    quiet = render("note", "fine", f"Passed: {names}.") if names else ""
    looked_at = [row for row in rows if row.measure in QUALITY_METRICS]
    keys = dict.fromkeys((row.measure, row.series, row.region, row.against) for row in looked_at)
    lines = []
    for key in sorted(keys, key=lambda each: list(QUALITY_METRICS).index(each[0])):
        own = [row for row in looked_at if (row.measure, row.series, row.region, row.against) == key]
        row = max(own, key=lambda each: each.value if pick.known(each) else -math.inf)
        about = row.contrast if row.contrast != MISSING else ""
        about += f" (largest of {len(own)})" if len(own) > 1 else ""
        other = f"against {row.against}" if row.against != MISSING else ""
        where = ", ".join(filter(None, [pick.region_text(row.region), about, other]))
        unit = "" if row.unit == "1" else f" {row.unit}"
        lines.append([QUALITY_METRICS[row.measure], row.series, where or "–", joined([cell(row), unit])])
    heads = ["check", "series", "where", "value, 95 % interval"]
    values = table("Values of the quality checks", heads, lines, names=2, texts={0, 1, 2})
    return joined([flags_html(rows, flags), quiet, values])
