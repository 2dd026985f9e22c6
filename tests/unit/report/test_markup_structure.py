"""Compare tables and texts of the report, made from synthetic data, with a stored outline of their
elements, classes and words.

`BIDS_SR_UPDATE=1 pytest tests/unit/report/test_markup_structure.py` rewrites `expected_html.txt`.
"""

import os
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
from data.group_tables import values_of
from data.rows import judge_rows
from data.short_names import named_row

from bids_sr.evaluation.qc_flags import Flag
from bids_sr.evaluation.run_evidence import RunEvidence
from bids_sr.group.comparisons import compare
from bids_sr.group.paper_table import paper_html, paper_sizes
from bids_sr.metrics.rows import MetricRow
from bids_sr.report.comparison_html import comparisons_html
from bids_sr.report.facts import card_html, facts_html, messages_html
from bids_sr.report.metric_tables import (
    HELD_OUT,
    IMAGES,
    SCANS,
    negative_control_html,
    tables_html,
)
from bids_sr.report.registration_facts import calibration_html, registration_html
from bids_sr.report.verdict_html import guards_html, verdict_html

EXPECTED = Path(__file__).with_name("expected_html.txt")


class Outline(HTMLParser):
    """Elements with their attributes, and words, one per line."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.lines.append(
            "<" + " ".join([tag, *(f"{name}={value}" for name, value in sorted(attrs))]) + ">"
        )

    def handle_endtag(self, tag):
        self.lines.append(f"</{tag}>")

    def handle_data(self, data):
        if data.strip():
            self.lines.append(" ".join(data.split()))


def compact(html: str) -> str:
    """Return the outline with one line per table row and per other element that contains words."""
    text = "".join(Outline(html).lines)
    for tag in (
        "</tr>",
        "</p>",
        "</li>",
        "</caption>",
        "</summary>",
        "</details>",
        "</table>",
        "</dt>",
        "</dd>",
    ):
        text = text.replace(tag, tag + "\n")
    return text


def rows_of_a_run() -> list[MetricRow]:
    rows = []

    def add(series: str, measure: str, value: float, half_width: float = 0.01, **cells) -> None:
        ends = (
            {"lower": value - half_width, "upper": value + half_width, "n": 20}
            if half_width
            else {}
        )
        rows.append(named_row(series, measure, value, **ends, **cells))

    for k, name in enumerate(("bspline", "bsplinePca", "sbl", "srgan", "sblMirror", "measured")):
        for contrast in ("faces", "all"):
            for region in ("brain", "acquired40"):
                for measure in (
                    "split_ev_beyond",
                    "split_ev_signal",
                    "split_r_beyond",
                    "split_amplitude_beyond",
                ):
                    add(
                        name,
                        measure,
                        0.03 * (k + 1),
                        contrast=contrast,
                        region=region,
                        against="measured",
                    )
                if name in ("sbl", "srgan"):
                    for reference_series in ("bspline", "bsplinePca", "sblMirror"):
                        cells = {
                            "contrast": contrast,
                            "region": region,
                            "against": reference_series,
                        }
                        add(name, "gain_split_ev_beyond", 0.02 * k - 0.05, 0.02, **cells)
        for fwhm in (0.0, 5.0):
            cells = {"contrast": "all", "region": "brain", "against": "truth", "fwhm_mm": fwhm}
            add(name, "truth_r_effect", 0.1 * (k + 1), **cells)
        for measure in ("pair_psnr", "pair_ssim", "truth_psnr", "truth_ssim"):
            add(name, measure, 30.0 + k, against="measured")
    add("sbl", "pair_gain_psnr", 2.0, against="bspline")
    add("sbl", "gain_truth_psnr", 0.2, 0.5, against="bspline")
    add("bsplinePca", "control_rank", 4.0, 0, contrast="all", region="brain")
    add("run", "edge_mismatch", 1.25, 0)
    add("run", "flag_broad", 1.0, 0)
    add("run", "flag_artifact", 0.0, 0)
    return rows


VERDICT = {
    "headline": "sbl is <better>",
    "sentences": [
        {
            "text": "Words & words.",
            "decision": "better",
            "statistic": "ev",
            "band": "beyond",
            "series": "sbl",
            "minus": "bspline",
            "value": 0.1,
            "lower": 0.05,
            "upper": 0.15,
            "region": "brain",
        },
        {"text": "Plain text."},
    ],
    "limits": ["Nothing else"],
}


def group_pages() -> dict[str, str]:
    participants = [f"sub-{n}" for n in range(9)]
    levels = {"acquired": 0.5, "bspline": 0.4, "srgan": 0.3, "sbl": 0.2}
    cells = {
        "table": "activation",
        "band": "n/a",
        "reference": "n/a",
        "region": "n/a",
        "threshold": "quarter",
    }
    values = pd.concat(
        [
            values_of(
                {
                    name: {
                        participant: scale * level * (1 + 0.01 * k * (-1) ** k)
                        for k, participant in enumerate(participants[: 9 - (name == "sbl")])
                    }
                    for name, level in levels.items()
                },
                **cells,
                statistic=statistic,
                contrast=contrast,
            )
            for statistic, contrast, scale in (
                ("size_acquired_voxels", "a", 100),
                ("size_acquired_voxels", "b", 90),
                ("dice", "a+b", 1),
            )
        ],
        ignore_index=True,
    )
    comparisons = compare(values, ["sbl", "srgan"])
    sbl_comparisons = list(comparisons[comparisons["series"] == "sbl"].itertuples())
    return {
        "paper": "".join(paper_html(outcome, ["sbl", "srgan"]) for outcome in paper_sizes(values)),
        "comparisons": comparisons_html("stats", sbl_comparisons, "sbl <against> all"),
    }


def pages() -> dict[str, str]:
    rows = rows_of_a_run()
    scans = [
        MetricRow(
            contrast=contrast,
            series=series,
            statistic=statistic,
            value=0.25,
            reference=reference,
            region=region,
        )
        for contrast in ("T1w", "all")
        for series in ("bspline", "attunet")
        for statistic, reference, region in (
            ("psnr", "heldOut", "brain"),
            ("cjv", "n/a", "brain"),
            ("tissue_volume", "n/a", "wm"),
            ("ratio_mean", "n/a", "gm/wm"),
        )
    ]
    card = {
        "method": "srgan",
        "factor": [2, 2, 1],
        "nested": {"a_b": None, "c": [{"d": True}]},
        "held_out": {
            "slices": [1, 2],
            "network": {"psnr": 31.0, "ssim": 0.9},
            "bspline": {"psnr": 30.0, "ssim": 0.8},
        },
    }
    evidence = judge_rows(rows, ["srgan", "sbl"], ()).evidence
    flags = (
        Flag(name="broad", raised=True, text="Told <so>."),
        Flag(name="artifact", raised=False, text=""),
    )
    flagged = RunEvidence(flags=flags)
    return {
        "holdout": tables_html([HELD_OUT], rows),
        "images": tables_html([IMAGES], rows),
        "placebo": negative_control_html(evidence, rows),
        "verdict": verdict_html(VERDICT, flagged, rows),
        "guards": guards_html(flagged, rows),
        "many": verdict_html(
            {**VERDICT, "sentences": [VERDICT["sentences"][0]] * 8}, RunEvidence()
        ),
        "structural": tables_html(SCANS, scans),
        "summary": messages_html("warning", ["<w>"])
        + messages_html("note", ["n"])
        + facts_html({"Subject": "sub-01", "Runs": [1, 2], "x": {}}),
        "card": card_html(card),
        "registration": registration_html({"bold_t1w_nmi": 1.16, "roi_is_brain": True}),
        "calibration": calibration_html(
            {"usable": True, "n_volumes": 20, "overlap": 0.5, "censored": [1, 2]}, 6.0
        ),
        **group_pages(),
    }


def test_the_html_of_synthetic_data_matches_the_stored_outline():
    outlines = "\n".join(f"== {name}\n{compact(html)}" for name, html in pages().items())
    if os.environ.get("BIDS_SR_UPDATE"):
        EXPECTED.write_text(outlines, encoding="utf-8")
    assert outlines == EXPECTED.read_text(encoding="utf-8")
