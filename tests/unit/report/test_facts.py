"""Test tables and summaries: escaping of external text, number formats, and dashes for missing
values.
"""

import math

import numpy as np
import pandas as pd
import pytest

from bids_sr.figures.training import training_figure
from bids_sr.glm.clusters import COLUMNS
from bids_sr.metrics.number_text import short_number
from bids_sr.report import facts
from bids_sr.report.cluster_tables import clusters_html
from bids_sr.report.held_out_text import describe_held_out

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
    html = facts.facts_html({EVIL: EVIL, "nested": {EVIL: [EVIL, {"a": EVIL}]}})
    html += facts.messages_html("note", [EVIL, EVIL])
    assert "<script" not in html
    assert html.count("&lt;script&gt;") == 7


@pytest.mark.parametrize(
    ("value", "shown"), [(0.123456, "0.1235"), (-2.0, "−2"), (1200.0, "1200"), (math.nan, "n/a")]
)
def test_numbers_are_short(value, shown):
    assert short_number(value) == shown
    assert f"<td>{shown}</td>" in facts.facts_html({"a": value})


def test_the_model_card_reports_gains_on_held_out_slices():
    html = facts.card_html(CARD)
    assert "srgan − bspline +2.50 dB, SSIM +0.010" in html
    assert "srgan − zerofill −0.50 dB, SSIM −0.010" in html
    assert "<table" not in html  # The card itself is linked.
    assert describe_held_out({"method": "srgan"}) == ""


def test_the_model_card_names_the_starting_weights():
    start = {
        "name": "srgan_start",
        "weights_sha256": "0123456789abcdef",
        "trained_with": "simulated <heads>",
    }
    html = facts.card_html({**CARD, "started_from": start})
    assert "srgan_start (0123456789ab…, trained with simulated &lt;heads&gt;)" in html
    assert "initialized" not in facts.card_html(CARD)


def test_only_the_phase_with_held_out_slices_is_drawn():
    columns = {
        "iteration": np.array([0.0, 50, 100, 0, 50]),
        "psnr": np.array([30.0, 31, 32, np.nan, np.nan]),
        "loss": np.array([3.0, 2, 1, 9, 9]),
        "learning_rate": np.ones(5),
    }
    quality, loss = training_figure(columns, CARD).axes
    curve, *levels, chosen = quality.lines
    assert curve.get_xdata().tolist() == [0, 50, 100]
    assert curve.get_ydata().tolist() == [30, 31, 32]
    assert [line.get_ydata()[0] for line in levels] == [33.5, 36.5]
    assert chosen.get_xdata()[0] == 150
    assert [line.get_label() for line in loss.lines] == ["loss"]
    assert loss.lines[0].get_ydata().tolist() == [3, 2, 1]


def test_cluster_tables_are_equal_before_and_after_a_file(tmp_path):
    """Numbers that pandas parses from the file are shown as the text that was written."""
    shared_cells = dict.fromkeys(COLUMNS, "0") | {
        "series": "sbl",
        "contrast": "all",
        "statistic": "z",
        "space": "MNI",
    }
    rows = [
        shared_cells
        | {
            "fwhm_mm": "2.5",
            "x": "-3.0",
            "scanner_x": "-12.0",
            "peak": "7.10",
            "label": "n/a",
            "labels": "n/a",
        },
        shared_cells
        | {"fwhm_mm": "0", "x": "1.0", "label": "Calcarine_L", "labels": "Calcarine_L 9 %"},
    ]
    clusters = pd.DataFrame(rows, columns=list(COLUMNS))
    clusters.to_csv(tmp_path / "clusters.tsv", sep="\t", index=False)
    clusters_read = pd.read_csv(tmp_path / "clusters.tsv", sep="\t", na_values="n/a")
    html = clusters_html(clusters, "sbl")
    assert clusters_html(clusters_read, "sbl") == html
    assert "contrast all. The map was smoothed with a 2.5 mm FWHM kernel." in html
    assert "-12.0,0.0,0.0" in html
    assert "<td>7.1</td>" in html
    assert "Calcarine" not in html  # Calcarine is labeled only in the unsmoothed map.
