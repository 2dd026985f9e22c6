"""Test evaluation tables in the report: cells, sentences and warnings; all external text is
escaped.
"""

import math
import re
from dataclasses import replace
from html import unescape

import pytest
from data.rows import judge_rows
from data.short_names import named_row
from hypothesis import given, strategies as st

from bids_sr.evaluation.qc_flags import Flag
from bids_sr.evaluation.run_evidence import RunEvidence
from bids_sr.evaluation.statements import Statement
from bids_sr.metrics.flags import FLAGS
from bids_sr.metrics.number_text import number
from bids_sr.metrics.rows import MetricRow
from bids_sr.report import evaluation_rows, metric_tables as tables, verdict_html

BAD = "<script>alert('x')</script> & $\\frac"


def row(series: str, measure: str, value: float, **cells) -> MetricRow:
    return named_row(series, measure, value, **cells)


def gain(
    method: str, reference_series: str, value: float, half_width: float = 0.02, **cells
) -> MetricRow:
    share = {
        "contrast": "all",
        "region": "brain",
        "statistic": "ev",
        "band": "beyond",
        "reference": "measured",
        **cells,
    }
    return MetricRow(
        series=method,
        minus=reference_series,
        value=value,
        lower=value - half_width,
        upper=value + half_width,
        n=24,
        **share,
    )


def table_cells(html: str, caption: str) -> list[list[str]]:
    """Return the text of the table's cells, row by row; `caption` is the start of the table's
    caption.
    """
    match = re.search(rf"<caption>{re.escape(caption)}.*?</table>", html, flags=re.DOTALL)
    assert match is not None, caption
    lines = re.findall(r"<tr>(.*?)</tr>", match[0], flags=re.DOTALL)
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", line, flags=re.DOTALL) for line in lines]
    return [
        [" ".join(unescape(re.sub(r"<[^>]+>", " ", cell)).split()) for cell in line]
        for line in cells
    ]


@pytest.mark.parametrize(
    ("series", "kind"),
    [
        ("acquired", "baseline"),
        ("bspline", "baseline"),
        ("inject", "baseline"),
        ("bsplinePca", "control"),
        ("srgan", "method"),
        ("sbl", "method"),
        ("mse3d", "method"),
        ("sblMirror", "placebo"),
        ("srganT1w", "placebo"),
        ("measured", "measured"),
        ("run", "run"),
    ],
)
def test_the_kind_of_a_series_follows_from_its_name(series, kind):
    assert evaluation_rows.get_kind(series) == kind


def test_series_are_sorted_by_kind_then_in_the_requested_order():
    names = [
        "sbl",
        "measured",
        "bsplinePca",
        "inject",
        "srgan",
        "acquired",
        "sblMirror",
        "bspline",
    ]
    rows = [row(name, "truth_ap", 1.0) for name in names]
    assert evaluation_rows.list_series(rows, ["srgan", "sbl", "bspline", "inject"]) == [
        "acquired",
        "bspline",
        "inject",
        "bsplinePca",
        "srgan",
        "sbl",
        "measured",
    ]


def test_the_deciding_region_leads_and_the_others_go_from_brain_to_strongest_activation():
    rows = [
        row("a", "split_r_beyond", 0.1, region=r)
        for r in ("active60", "roi", "active35", "brain", "elsewhere")
    ]
    amplitude_table = tables.MetricTable(
        title="x", rows=({"statistic": ("r",)},), columns=("region",)
    )
    ((_, html),) = tables.render_tables(amplitude_table, rows)
    assert table_cells(html, "x")[0][1:] == [
        "voxels active in one half of the reference (|t| > 3.5)",
        "whole brain",
        "region of interest",
        "elsewhere",
        "voxels active in one half of the reference (|t| > 6)",
    ]


@given(st.floats(allow_nan=True, allow_infinity=True, width=32))
def test_values_are_rounded_and_never_lost(value):
    text = number(value)
    if not math.isfinite(value):
        assert text == "n/a"
    else:
        assert float(text.replace("−", "-")) == pytest.approx(
            value, abs=0.0501 if abs(value) >= 10 else 0.00501
        )


def test_the_held_out_pair_is_shown_with_differences():
    share = {"region": "brain", "n": 30}
    rows = [
        row("srgan", "pair_psnr", 31.25, lower=31, upper=31.5, **share),
        row("srgan", "pair_ssim", 0.91, **share),
        row("inject", "pair_psnr", 30.0, **share),
        row("srgan", "pair_gain_psnr", 1.25, against="inject", lower=1.0, upper=1.5, **share),
    ]
    html = tables.tables_html([tables.HELD_OUT], rows)
    lines = table_cells(html, "Images of the held-out T2* pair")
    assert lines[0] == ["series", "PSNR dB", "PSNR − inject dB", "SSIM"]
    assert lines[1:] == [
        ["inject", "30.0", "–", "–"],
        ["srgan", "31.2 [31.0, 31.5]", "1.25 [1.00, 1.50]", "0.910"],
    ]


def test_single_volumes_are_compared_with_the_reference_and_with_baselines():
    share = {"region": "brain", "n": 8, "lower": 1.0, "upper": 1.5}
    rows = [
        row("srgan", "truth_psnr", 31.25, against="measured", **share),
        row("srgan", "gain_truth_psnr", 1.25, against="inject", **share),
        row("srgan", "gain_truth_psnr", 1.375, against="bspline", **share),
    ]
    html = tables.tables_html([tables.IMAGES], rows)
    (heads, line) = table_cells(html, "Comparison of single volumes")
    assert heads == ["series", "PSNR dB", "PSNR − bspline dB", "PSNR − inject dB"]
    assert line == ["srgan", "31.2 [1.00, 1.50]", "1.38 [1.00, 1.50]", "1.25 [1.00, 1.50]"]


def show_controls(rows):
    methods = list(dict.fromkeys(cells.series for cells in rows))
    return tables.negative_control_html(judge_rows(rows, methods, ()).evidence, rows)


def test_a_gain_is_called_specific_only_if_every_negative_control_is_beaten():
    beaten = [gain("sbl", "sblMirror", 0.05), gain("sbl", "sblOther", 0.05)]
    html = unescape(show_controls(beaten))
    assert "sbl is specific to this participant's own data." in html
    assert Statement.CONTROLS_MISSING.format(controls="sblShift") in html
    one_reached = [gain("sbl", "sblMirror", 0.05), gain("sbl", "sblOther", 0.01)]
    assert "pattern of the fluctuations in this run: the gain of sblOther" in (
        show_controls(one_reached)
    )
    html = show_controls(
        [*one_reached, gain("sbl", "bsplinePca", 0.03), gain("srgan", "bspline", 0.03)]
    )
    lines = table_cells(html, "Method − negative control: all, above")
    assert [line[0] for line in lines[1:]] == ["sbl", "sbl"], (
        "denoised B-spline is no control analysis"
    )
    assert lines[0][:2] == ["series", "minus"]
    assert lines[1][1].startswith("sblMirror: ")
    assert "mirrored left to right" in lines[1][1]
    assert lines[2][1].startswith("sblOther: ")


def test_a_denoised_b_spline_is_not_a_negative_control():
    rows = [gain("sbl", "bsplinePca", 0.05), gain("sbl", "bsplineSmooth", 0.05)]
    assert evaluation_rows.negative_control_gains(rows) == []
    assert "Method − negative control" not in show_controls(rows)


def test_the_acquired_series_is_called_acquired():
    assert [evaluation_rows.series_text(name) for name in ("acquired", "sbl")] == [
        "acquired",
        "sbl",
    ]


VERDICT = {
    "headline": "sbl shows more true detail.",
    "sentences": [
        {"text": "Measured: halves.", "decision": ""},
        {
            "text": "sbl is better than bspline.",
            "decision": "better",
            "statistic": "r",
            "band": "beyond",
            "series": "sbl",
            "minus": "bspline",
            "region": "brain",
            "value": 0.1,
            "lower": 0.05,
            "upper": 0.15,
        },
        {
            "text": "Told apart it cannot be.",
            "decision": "unclear",
            "series": "srgan",
            "minus": "inject",
            "region": "n/a",
            "value": None,
            "lower": None,
            "upper": None,
        },
    ],
    "limits": ["One run only."],
}


def test_the_verdict_begins_with_its_headline():
    html = verdict_html.verdict_html(VERDICT, RunEvidence())
    order = [
        html.index(part)
        for part in ("more true detail", "Measured: halves", "better than bspline", "One run")
    ]
    assert order == sorted(order)
    assert "<table" not in html  # no rows, hence no values


def evidence_rows() -> list[MetricRow]:
    """Return metrics of five series in the brain and two kinds of active voxels, and differences
    of two methods.
    """
    rows = []
    for contrast, share in (("faces", 0.5), ("all", 1.0)):
        for region, factor in (("brain", 1), ("acquired40", 2), ("active40", 1.5), ("roi", 1)):
            place = {"contrast": contrast, "region": region}
            for k, name in enumerate(("bspline", "bsplinePca", "srgan", "sbl", "measured")):
                value, cells = 0.05 * (k + 1) * factor * share, {"against": "measured", **place}
                rows.append(
                    row(
                        name,
                        "split_ev_beyond",
                        value,
                        lower=value - 0.01,
                        upper=value + 0.01,
                        **cells,
                    )
                )
                rows += [
                    row(name, f"split_{statistic}_beyond", 0.1 * k, **cells)
                    for statistic in ("r", "amplitude", "right")
                ]
            for baseline, value in (("bspline", 0.2), ("bsplinePca", 0.01), ("srgan", -0.1)):
                rows.append(gain("sbl", baseline, value, **place))
    return rows


def test_the_evidence_is_one_table_of_the_best_method():
    rows = evidence_rows()
    verdict = judge_rows(rows, ["srgan", "sbl"])
    assert verdict.evidence.best == "sbl"
    html = verdict_html.verdict_html(verdict.to_json(), verdict.evidence, rows)
    assert html.count("<table") == 1
    lines = table_cells(html, "Detail above the acquired Nyquist frequency, contrast all")
    assert "active voxels: |t| &gt; 4 in the acquired run" in html
    region = "active voxels"
    assert lines[0] == [
        "series",
        f"explained variance {region}",
        "explained variance whole brain",
        f"correlation r {region}",
        f"amplitude (slope) {region}",
        f"correct fraction (energy) {region}",
        f"sbl − series {region}",
        "sbl − series whole brain",
    ]
    assert [line[0] for line in lines[1:]] == [
        "bspline",
        "bspline with temporal PCA denoising",
        "srgan",
        "sbl",
        "measured",
    ]
    assert lines[1][1:3] == ["0.100 [0.090, 0.110]", "0.050 [0.040, 0.060]"]
    assert [line[6].split(" ")[0] for line in lines[1:]] == ["▲", "=", "▼", "–", "–"]
    assert lines[4][3:6] == ["0.300", "0.300", "0.300"]
    words = re.sub("<[^>]+>", " ", html)
    assert "sbl is more accurate than" not in words  # The table shows it.


def test_the_mark_of_a_difference_follows_from_its_interval():
    """Ignore a sentence on images of the same two series."""
    rows = evidence_rows()
    evidence = judge_rows(rows, ["srgan", "sbl"]).evidence
    verdict = judge_rows(rows, ["srgan", "sbl"]).to_json()
    images = {"series": "sbl", "minus": "bspline", "region": "brain", "statistic": "psnr"}
    verdict["sentences"].append({**images, "text": "Images alike.", "decision": "unclear"})
    lines = table_cells(
        verdict_html.verdict_html(verdict, evidence, rows),
        "Detail above the acquired Nyquist frequency, contrast all",
    )
    assert lines[1][7] == "▲ 0.200 [0.180, 0.220]"
    # The margin of the verdict makes all series equivalent.
    evidence = judge_rows(rows, ["srgan", "sbl"], margin=0.5).evidence
    lines = table_cells(
        verdict_html.verdict_html(verdict, evidence, rows),
        "Detail above the acquired Nyquist frequency, contrast all",
    )
    assert [line[7][:1] for line in lines[1:]] == ["=", "=", "=", "–", "–"]


def test_an_empty_verdict_is_shown_as_no_verdict():
    assert "No verdict" in verdict_html.verdict_html({}, RunEvidence())


def test_names_of_series_are_explained() -> None:
    html = verdict_html._legend_html(
        ["acquired", "zerofill", "bsplinePca", "sbl", "sblMirror", "measured", "nobody"]
    )
    shown = " ".join(re.sub("<[^>]+>", " ", html).split())
    for words in (
        "zerofill baseline: in-plane zero filling",
        "sbl method: sparse Bayesian",
        "sblMirror negative control for sbl: the prior SD map",
    ):
        assert words in shown
    # These series are explained by their labels.
    assert not re.search("nobody|acquired series, motion|measured at the high|temporal PCA", shown)
    assert verdict_html._legend_html(["nobody"]) == ""


def test_raised_flags_warn_once_and_passed_ones_are_listed():
    flags = (
        Flag(name="distortion", raised=True, text="Edges lie 2 mm apart."),
        Flag(name="broad", raised=False, text="1 % of the brain.", contrast="thumb"),
        Flag(name="task_not_done", raised=None, text="Unknown."),
    )
    html = verdict_html.guards_html(RunEvidence(flags=flags), [])
    assert html.count("class='warning'") == 1
    assert f"Edges lie 2 mm apart. {FLAGS['distortion'].remedy}" in html
    assert f"Passed: {FLAGS['broad'].passed}." in html
    assert "1 % of the brain" not in html


def test_quality_checks_show_unit_interval_and_region():
    rows = [
        row("sbl", "edge_mismatch_p90", 0.4, contrast="all", region="brain", lower=0.3, upper=0.5),
        row("run", "edge_mismatch", 1.9),
    ]
    lines = table_cells(verdict_html.guards_html(RunEvidence(), rows), "Quality check values")
    assert lines[1] == ["distance between BOLD and T2* edges, median", "run", "–", "1.90 mm"]
    assert lines[2][1:] == ["sbl", "whole brain", "0.400 mm [0.300, 0.500], all"]


def test_a_quality_check_shows_its_largest_value():
    rows = [
        row("sbl", "edge_mismatch", value, region="brain", contrast=name)
        for name, value in (("faces", 0.01), ("all", 0.04), ("houses", 0.0))
    ]
    html = verdict_html.guards_html(
        RunEvidence(), [*rows, *(replace(cells, series="srgan") for cells in rows)]
    )
    lines = table_cells(html, "Quality check values")
    assert [line[1:] for line in lines[1:]] == [
        [name, "whole brain", "0.040 mm all (largest of 3)"] for name in ("sbl", "srgan")
    ]


def test_external_text_is_escaped_everywhere():
    share = {"contrast": BAD, "region": BAD, "lower": 0.0, "upper": 1.0}
    rows = [
        row(BAD, "split_r_beyond", 0.5, **share),
        row(BAD, "gain_split_r_beyond", 0.5, against="bsplinePca", **share),
        row(BAD, "gain_split_ev_beyond", 0.5, against="sblMirror", **share),
        row(BAD, "truth_ap", 0.5, against=BAD, **share),
        row(BAD, "pair_psnr", 30.0, **share),
    ]
    flags = (Flag(name="broad", raised=True, text=BAD),)
    verdict = {
        "headline": BAD,
        "limits": [BAD],
        "sentences": [{"text": BAD, "decision": BAD, "series": BAD, "minus": BAD, "region": BAD}]
        * 9,
    }
    pages = [
        show_controls(rows),
        tables.tables_html([tables.HELD_OUT], rows),
        tables.tables_html([tables.IMAGES], [row(BAD, "truth_psnr", 0.5, **share)]),
        verdict_html.guards_html(RunEvidence(flags=flags), rows),
        verdict_html.verdict_html(verdict, RunEvidence(), rows),
        verdict_html.verdict_html(
            {**verdict, "sentences": verdict["sentences"][:1]}, RunEvidence()
        ),
    ]
    for html in pages:
        assert "&lt;script&gt;" in html
        assert "<script" not in html


@pytest.mark.parametrize(
    "render",
    [
        lambda: show_controls([]),
        lambda: tables.tables_html([tables.HELD_OUT, tables.IMAGES], []),
    ],
)
def test_an_empty_table_says_that_nothing_is_available(render):
    assert render() == tables.NO_VALUES


def test_imported_series_have_their_verdicts_in_the_box() -> None:
    imported_verdict = {
        "name": "NORDIC",
        "status": "more accurate",
        "text": f"NORDIC is more accurate. {BAD}",
    }
    html = str(
        verdict_html.verdict_html({**VERDICT, "compared": [imported_verdict]}, RunEvidence())
    )
    assert "Series of other programs, compared with the acquired series" in html
    assert "NORDIC is more accurate." in html
    assert "<script>" not in html
    assert "other programs" not in str(verdict_html.verdict_html(VERDICT, RunEvidence()))


def test_series_are_described_by_the_right_kind():
    """`NORDICSame` is the smoothed acquired series; `inject`, `ratio` and `sdmod` do not only
    interpolate.
    """
    texts = {
        name: evaluation_rows.KIND_TEXT[evaluation_rows.get_kind(name)]
        for name in ("NORDICSame", "bsplinePca", "inject", "zerofill")
    }
    assert texts == {
        "NORDICSame": "denoising and smoothing controls",
        "bsplinePca": "denoising and smoothing controls",
        "inject": "interpolation and other baselines",
        "zerofill": "interpolation and other baselines",
    }
