"""Tables and summaries: everything from outside is escaped, values are shown as they are, absence as a dash."""

import numpy as np
import pandas as pd
import pytest

from bids_sr.reports.tables import html_tables
from bids_sr.reports.tables.cluster_tables import clusters_html
from bids_sr.reports.text.training_text import held_out_text, read_training
from bids_sr.stats.regions.activation_regions import COLUMNS

EVIL = "<script>alert('x')</script> & co"
CARD = {
    "method": "srgan",
    "held_out": {
        "slices": [3, 9],
        "iteration": 150,
        "network": {"psnr": 36.0, "ssim": 0.95},
        "bspline": {"psnr": 33.5, "ssim": 0.94},
        "zerofill": {"psnr": 36.5, "ssim": 0.96},
    },
}


def row(series, fwhm, contrast, measure, value):
    return {
        "series": series,
        "fwhm_mm": str(fwhm),
        "contrast": contrast,
        "measure": measure,
        "value": str(value),
        "unit": "1",
    }


def test_everything_in_a_summary_is_escaped():
    html = html_tables.summary_html(
        {EVIL: EVIL, "nested": {EVIL: [EVIL, {"a": EVIL}]}, "Warnings": [EVIL], "notices": EVIL}
    )
    assert "<script" not in html
    assert html.count("&lt;script&gt;") == 7


def test_warnings_come_first_and_stand_out():
    html = html_tables.summary_html({"Subject": "sub-01", "Notices": ["n"], "Warnings": ["w"]})
    assert html.index("class='warning'") < html.index("class='notice'") < html.index("Subject")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("0.123456", "0.1235"),
        ("-2", "−2"),
        ("n/a", "–"),
        ("1200", "1200"),
        ("", "–"),
        ("<b>", "&lt;b&gt;"),
        (None, "–"),
    ],
)
def test_numbers_are_short_and_absence_is_a_dash(value, shown):
    assert html_tables.number(value) == shown


def test_a_pivot_has_a_row_for_each_series_and_smoothing_in_order():
    rows = [
        row(s, f, "thumb", "peak_t", v) for v, (s, f) in enumerate([("srgan", 5), ("raw", 0), ("srgan", 0), ("raw", 5)])
    ]
    html = html_tables.pivot_html(rows, ["peak_t", "peak_z"], ["raw", "srgan"], "thumb <x>")
    body = html[html.index("<tbody>") :]
    order = [part.split("<")[0] for part in body.split("<td>")[1:]]
    assert order == ["0", "1", "0", "2", "5", "3", "5", "0"]
    assert "peak z" not in html
    assert "thumb &lt;x&gt;" in html


def test_no_value_is_singled_out_as_best():
    rows = [row(s, 0, "n/a", "psnr", v) for s, v in (("bspline", 30), ("srgan", 31))]
    html = html_tables.metrics_html(rows, [], ["bspline", "srgan"])
    assert "<b>" not in html
    assert "<strong>" not in html
    assert "srgan − bspline: PSNR +1 dB" in html
    assert "best" not in html.lower()


def test_the_overlap_of_conditions_comes_before_single_contrasts():
    activation = [row("raw", 0, "thumb", "peak_t", 4), row("raw", 0, "thumb+little", "quarter_dice", 0.4)]
    html = html_tables.metrics_html([], activation)
    assert html.index("thumb against little") < html.index("Activation measures, thumb<")
    assert "overlap of the regions" in html


def test_one_contrast_of_many_is_picked():
    activation = [row("raw", 0, f"c{k}", "peak_t", k + 0.5) for k in range(6)]
    html = html_tables.metrics_html([], activation)
    assert html.count("<div class='pick' data-pick>") == 1
    assert html.count('<div data-title="Activation measures, c') == 6 == html.count("<table")


def test_tables_without_rows_say_so():
    assert "No measures" in html_tables.metrics_html([], [])


def test_the_card_is_folded_below_what_it_says_of_held_out_slices():
    html = html_tables.card_html(CARD)
    assert "srgan − bspline +2.50 dB, SSIM +0.010" in html
    assert "srgan − zerofill −0.50 dB, SSIM −0.010" in html
    assert html.index("held-out slices") < html.index("<details>")
    assert held_out_text({"method": "srgan"}) == ""


def test_the_card_says_what_training_began_with():
    start = {"name": "srgan_start", "weights_sha256": "0123456789abcdef", "trained_with": "simulated <heads>"}
    html = html_tables.card_html({**CARD, "started_from": start})
    assert "srgan_start (0123456789ab…, learned from simulated &lt;heads&gt;)" in html.partition("<details>")[0]
    assert "began" not in html_tables.card_html(CARD)


def test_only_the_phase_with_held_out_slices_is_drawn():
    columns = {
        "iteration": np.array([0.0, 50, 100, 0, 50]),
        "psnr": np.array([30.0, 31, 32, np.nan, np.nan]),
        "loss": np.array([3.0, 2, 1, 9, 9]),
        "learning_rate": np.ones(5),
    }
    found = read_training(columns, CARD)
    assert found.steps.tolist() == [0, 50, 100]
    assert found.curves["srgan"].tolist() == [30, 31, 32]
    assert found.losses.keys() == {"loss"}
    assert found.levels == {"bspline": 33.5, "zerofill": 36.5}
    assert found.chosen_step == 150


def test_effects_stand_in_percent_of_the_brain_beside_signal_units():
    rows = [row("raw", 0, "all", "peak_effect", 40.0), row("raw", 0, "all", "peak_t", 9.5)]
    assert "<td>40 (1.48 %)</td>" in html_tables.metrics_html([], rows, percent=100 / 2700)
    assert "<td>40</td>" in html_tables.metrics_html([], rows)


def test_clusters_read_from_a_file_are_those_that_were_written(tmp_path):
    """Numbers of a table that was read, or the text of one that was not: the same cells."""
    own = dict.fromkeys(COLUMNS, "0") | {"series": "sbl", "contrast": "all", "statistic": "z", "space": "MNI"}
    rows = [
        own | {"fwhm_mm": "2.5", "x": "-3.0", "scanner_x": "-12.0", "peak": "7.10", "label": "n/a", "labels": "n/a"},
        own | {"fwhm_mm": "0", "x": "1.0", "label": "Calcarine_L", "labels": "Calcarine_L 9 %"},
    ]
    written = pd.DataFrame(rows, columns=list(COLUMNS))
    written.to_csv(tmp_path / "clusters.tsv", sep="\t", index=False)
    read = pd.read_csv(tmp_path / "clusters.tsv", sep="\t", na_values="n/a")
    html = clusters_html(written, ["sbl"])
    assert clusters_html(read, ["sbl"]) == html
    assert "all, smoothed by 2.5 mm" in html
    assert "-12.0,0.0,0.0" in html
    assert "<td>7.1</td>" in html
    assert "Calcarine" not in html  # it is in the map that is not smoothed
