"""Tables, verdict and quality control show each value once, in its place, with its interval."""

import math
from dataclasses import replace

import pytest
from data.page import MARKUP, Page
from data.rows import judge_rows, make_detail_row, make_row
from hypothesis import given, settings, strategies as st

from bids_sr.engine.metric_rows import MetricRow
from bids_sr.engine.number_text import interval_ends, number
from bids_sr.evaluation.qc_flags import Flag
from bids_sr.evaluation.run_evidence import RunEvidence
from bids_sr.io.metric_flags import FLAGS
from bids_sr.report import evaluation_rows as selection, metric_tables as tables
from bids_sr.report.verdict_html import guards_html, verdict_html

SERIES = ("acquired", "bspline", "inject", "bsplinePca", "srgan", "sbl", "measured")
PLACES = [
    (contrast, region)
    for contrast in ("faces", "all")
    for region in ("brain", "acquired40", "roi")
]
AMPLITUDES = tables.MetricTable(
    title="Amplitude, {contrast}",
    rows=({"statistic": ("amplitude", "r"), "reference": ("truth",)},),
    columns=("statistic", "region"),
    split=("contrast",),
)
DETAIL_TABLE = "Detail by series, contrast all"


def with_interval(row: MetricRow) -> str:
    """Return the value of a row as a table shows it."""
    if row.statistic == "r":
        return f"{number(row.value)} [{number(row.lower)}, {number(row.upper)}]"
    ends = ", ".join(interval_ends(row.lower, row.upper, ".0%"))
    return f"{number(row.value, '.0%')} [{ends}]"


@given(st.randoms(use_true_random=False), st.sets(st.sampled_from(SERIES), min_size=1))
@settings(max_examples=20)
def test_a_declared_table_shows_each_matching_row_in_its_place(random, names):
    """Whatever the order of the rows: one table per contrast, one cell per row, none twice."""
    rows = [
        make_row(name, statistic, random.uniform(-3, 3), contrast=contrast, region=region)
        for name in names
        for statistic in ("amplitude", "r")
        for contrast, region in PLACES
    ]
    rows = [replace(row, reference="truth") for row in rows]
    random.shuffle(rows)
    others = [replace(rows[0], reference="measured"), replace(rows[0], statistic="psnr")]
    rendered = tables.render_tables(AMPLITUDES, [*rows, *others], ["srgan", "sbl"])
    assert [title for title, _ in rendered] == ["Amplitude, all", "Amplitude, faces"]
    shown_series = [name for name in SERIES if name in names]
    for title, html in rendered:
        heads, *lines = Page(html).table(title)
        statistics = [head.partition(",")[0] for head in heads[1:]]
        assert statistics == ["amplitude (slope)"] * 3 + ["correlation r"] * 3
        assert [line[0] for line in lines] == [
            selection.series_text(name) for name in shown_series
        ]
        by_place = {
            (row.series, row.statistic, row.region): with_interval(row)
            for row in rows
            if row.contrast == title.rpartition(" ")[2]
        }
        for name, line in zip(shown_series, lines, strict=True):
            assert line[1:] == [
                by_place[name, statistic, region]
                for statistic in ("amplitude", "r")
                for region in ("acquired40", "brain", "roi")
            ]


def test_the_deciding_region_leads_and_regions_of_weaker_activation_come_first():
    regions = ("active60", "roi", "active35", "brain", "elsewhere")
    rows = [make_detail_row("a", 0.1, region, "r") for region in regions]
    table = tables.MetricTable(title="x", rows=({"statistic": ("r",)},), columns=("region",))
    ((_, html),) = tables.render_tables(table, rows)
    heads = Page(html).table("x")[0][1:]
    order = ("> 3.5)", "whole brain", "region of interest", "elsewhere", "> 6)")
    assert all(head.endswith(part) for head, part in zip(heads, order, strict=True))


@given(st.floats(allow_nan=True, allow_infinity=True, width=32))
def test_values_are_rounded_and_never_lost(value):
    text = number(value)
    if not math.isfinite(value):
        assert text == "n/a"
    else:
        tolerance = 0.0501 if abs(value) >= 10 else 0.00501
        assert float(text.replace("−", "-")) == pytest.approx(value, abs=tolerance)


def test_images_are_compared_with_the_held_out_pair_and_with_baselines():
    place = {"reference": "heldOut", "region": "brain"}
    rows = [
        make_row("srgan", "psnr", 31.25, 0.25, **place),
        make_row("srgan", "ssim", 0.91, math.nan, **place),
        make_row("inject", "psnr", 30.0, math.nan, **place),
        make_row("srgan", "psnr", 1.25, 0.25, minus="inject", **place),
        make_row("srgan", "psnr", 0.1, 0.5, minus="bspline", **place),
    ]
    page = Page(tables.tables_html([tables.HELD_OUT], rows))
    by_head = [dict(zip(page.table()[0], line, strict=True)) for line in page.table()[1:]]
    empty = {"PSNR − bspline dB": "–", "PSNR − inject dB": "–", "SSIM": "–"}
    assert by_head == [
        {"series": "inject", "PSNR dB": "30.0", **empty},
        {
            "series": "srgan",
            "PSNR dB": "31.2 [31.0, 31.5]",
            "PSNR − bspline dB": "0.100 [−0.400, 0.600]",
            "PSNR − inject dB": "1.25 [1.00, 1.50]",
            "SSIM": "0.910",
        },
    ]
    # only a difference whose interval excludes 0 is bold
    assert [cell.text for cell in page.all("strong")] == ["1.25"]


def test_without_rows_every_table_says_so():
    assert tables.tables_html([tables.HELD_OUT], []) == tables.NO_VALUES
    assert verdict_html({}, RunEvidence()) == ""
    assert Page(guards_html(RunEvidence(), [])).text == ""


def test_series_have_kinds_an_order_and_names():
    kinds = dict.fromkeys(("acquired", "bspline", "inject", "zerofill"), "baseline")
    kinds |= {"bsplinePca": "control"}
    kinds |= dict.fromkeys(("srgan", "sbl", "mse3d"), "method")
    kinds |= {"measured": "measured", "run": "run"}
    assert {name: selection.get_kind(name) for name in kinds} == kinds
    assert selection.series_text("acquired") == "acquired"
    rows = [make_row(name, "r", 1.0) for name in reversed(SERIES)]
    assert selection.list_series(rows, ["srgan", "sbl", "inject"]) == [
        *("acquired", "inject", "bspline", "bsplinePca", "srgan", "sbl", "measured")
    ]


def test_a_figure_shows_b_spline_the_two_best_methods_and_the_measured_series():
    names = ["bspline", "sbl", "mse", "tv", "srgan", "measured"]
    scores = {"sbl": 0.3, "tv": 0.1, "srgan": 0.2, "mse": math.nan}
    assert selection.select_shown_series(names, scores) == ["bspline", "srgan", "sbl", "measured"]
    below = {"sbl": -0.3, "tv": -0.1}
    assert selection.select_shown_series(names, below) == ["bspline", "sbl", "tv", "measured"]
    assert selection.select_shown_series(names[1:5], {}) == ["tv", "srgan"], "the last two"
    assert selection.select_shown_series(["inject", "sbl"], scores) == ["sbl"]


def make_evidence_rows() -> list[MetricRow]:
    """Return metrics of five series in four regions, and differences of sbl from three."""
    rows = []
    for contrast, share in (("faces", 0.5), ("all", 1.0)):
        for region, factor in (("brain", 1), ("acquired40", 2), ("active40", 1.5), ("roi", 1)):
            place = {"contrast": contrast, "region": region}
            for k, name in enumerate(("bspline", "bsplinePca", "srgan", "sbl", "measured")):
                rows.append(make_detail_row(name, 0.05 * (k + 1) * factor * share, **place))
                rows += [
                    make_detail_row(name, value * factor, statistic=statistic, **place)
                    for statistic, value in (
                        ("r", 0.1 * k), ("amplitude", 0.11 * k), ("correct_fraction", 0.12 * k)
                    )
                ]  # fmt: skip
            for other, value in (("bspline", 0.2), ("bsplinePca", 0.01), ("srgan", -0.1)):
                rows.append(make_detail_row("sbl", value, half_width=0.02, minus=other, **place))
    return rows


def test_the_evidence_is_one_table_of_the_best_method_with_its_differences():
    rows = make_evidence_rows()
    verdict = judge_rows(rows, ["srgan", "sbl"])
    assert verdict.evidence.best == "sbl"
    page = Page(verdict_html(verdict.to_json(), verdict.evidence, rows))
    (detail_table,) = page.tables
    assert detail_table.startswith(DETAIL_TABLE)
    heads, *lines = page.table(DETAIL_TABLE)
    assert heads[1:3] == ["explained variance active voxels", "explained variance whole brain"]
    assert [head.split()[0] for head in heads[3:6]] == ["correlation", "amplitude", "correct"]
    assert heads[6:] == ["sbl − series active voxels", "sbl − series whole brain"]
    assert [line[0].split()[0] for line in lines] == [
        *("bspline", "bspline", "srgan", "sbl", "measured")
    ]
    for k, line in enumerate(lines):
        assert line[1:3] == [
            f"{100 * value:.0f} % [{100 * value - 1:.0f}, {100 * value + 1:.0f}]"
            for value in (0.1 * (k + 1), 0.05 * (k + 1))
        ]
        # in active voxels
        forms = ("", ".0%", ".0%")
        assert line[3:6] == [
            number(2 * value * k, form)
            for value, form in zip((0.1, 0.11, 0.12), forms, strict=True)
        ]
    assert [line[6].split(" ")[0] for line in lines] == ["▲", "=", "▼", "–", "–"]
    assert lines[0][7] == "▲ 20 % [18, 22]"
    assert "sbl is more accurate than" not in page.text, "the table shows it"
    wide = judge_rows(rows, ["srgan", "sbl"], margin=0.5)
    page = Page(verdict_html(wide.to_json(), wide.evidence, rows))
    assert [line[7][:1] for line in page.table(DETAIL_TABLE)[1:]] == ["=", "=", "=", "–", "–"]


SENTENCE = {"text": "A.", "decision": "better", "series": "sbl", "band": "beyond"}
VERDICT = {
    "sentences": [
        SENTENCE,
        {"text": "B.", "decision": ""},
        {**SENTENCE, "text": "Of another method.", "series": "srgan"},
    ],
    "limits": ["Limit."],
}


def test_the_verdict_has_marks_decisions_and_limits_in_this_order():
    page = Page(verdict_html(VERDICT, RunEvidence(best="sbl")))
    parts = ("▲ higher A.", "B.", "Limit.")
    order = [page.text.index(part) for part in parts]
    assert order == sorted(order)
    assert "Of another method" not in page.text
    verdict = judge_rows(make_evidence_rows(), ["srgan", "sbl"])
    with_table = verdict_html(VERDICT, verdict.evidence, make_evidence_rows())
    assert "▲ higher A." not in Page(with_table).text, "the table shows it"


def test_series_whose_names_say_little_are_defined():
    names = ("acquired", "zerofill", "bsplinePca", "sbl", "measured", "nobody")
    page = Page(verdict_html({}, RunEvidence(), [make_detail_row(name, 0.1) for name in names]))
    assert [term.text for term in page.all("dt")] == ["acquired", "zerofill", "sbl"]
    assert all(entry.text for entry in page.all("dd"))
    nobody = verdict_html({}, RunEvidence(), [make_detail_row("nobody", 0.1)])
    assert not Page(nobody).all("dl")


def test_each_raised_flag_is_a_warning():
    flags = (
        Flag(name="distortion", raised=True, text="Edges lie 2 mm apart."),
        Flag(name="broad", raised=False, text="1 % of the brain.", contrast="thumb"),
        Flag(name="harm", raised=False, text="", series="sbl"),
        Flag(name="task_not_done", raised=None, text="Unknown."),
    )
    page = Page(guards_html(RunEvidence(flags=flags), []))
    (warning,) = page.warnings
    assert warning.endswith(f"Edges lie 2 mm apart. {FLAGS['distortion'].remedy}")
    assert "1 % of the brain" not in page.text


def test_quality_values_have_unit_region_and_the_largest_contrast():
    rows = [
        make_row(name, "edge_mismatch_p90", value, math.nan, region="brain", contrast=contrast)
        for name in ("sbl", "srgan")
        for contrast, value in (("faces", 0.01), ("all", 0.04), ("houses", math.nan))
    ]
    rows += [
        make_row("sbl", "edge_mismatch", 0.4, 0.1, region="brain", contrast="all"),
        make_row("run", "edge_mismatch", 1.9, math.nan),
    ]
    _, *lines = Page(guards_html(RunEvidence(), rows)).table("Quality check values")
    assert [line[1:] for line in lines] == [
        ["run", "–", "1.90 mm"],
        ["sbl", "whole brain", "0.400 mm [0.300, 0.500], all"],
        ["sbl", "whole brain", "0.040 mm all (largest of 3)"],
        ["srgan", "whole brain", "0.040 mm all (largest of 3)"],
    ]


def make_odd_rows() -> list[MetricRow]:
    """Return rows whose names are markup."""
    place = {"contrast": MARKUP, "region": MARKUP}
    return [
        make_detail_row(MARKUP, 0.5, **place),
        make_detail_row("sbl", 0.5, minus="bspline", **place),
        make_row(MARKUP, "amplitude", 0.5, reference="truth", **place),
        make_row(MARKUP, "psnr", 30.0, reference="heldOut"),
        make_row(MARKUP, "psnr", 30.0, reference="measured"),
        make_row(MARKUP, "edge_mismatch", 0.5, **place),
    ]


def test_names_and_texts_from_outside_are_escaped():
    rows = make_odd_rows()
    evidence = judge_rows(rows, ["sbl"], ()).evidence
    flagged = RunEvidence(flags=(Flag(name="broad", raised=True, text=MARKUP),))
    sentence = dict.fromkeys(("text", "decision", "series", "minus", "region"), MARKUP)
    verdict = {"headline": MARKUP, "limits": [MARKUP], "sentences": [sentence, {"text": MARKUP}]}
    for html in (
        tables.tables_html([tables.HELD_OUT], rows),
        tables.tables_html([AMPLITUDES], rows),
        guards_html(flagged, []),
        guards_html(RunEvidence(), rows),
        verdict_html(verdict, evidence, rows),
        verdict_html(verdict, RunEvidence(best=MARKUP)),
    ):
        page = Page(html)
        assert MARKUP in page.text
        assert not page.all("script")
