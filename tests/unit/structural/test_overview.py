"""Test the first screen of structural scans: its summary of a table of metrics."""

from data.page import Page

from bids_sr.engine.metric_rows import BRAIN, MetricRow
from bids_sr.structural.overview import compute_changes, scans_overview_html, write_headline


def rows(attunet_t1w, attunet_t2w, reference="heldOut"):
    values = {
        ("T1w", "linear"): 18.0,
        ("T1w", "bspline"): 20.0,
        ("T1w", "attunet"): attunet_t1w,
        ("T2w", "linear"): 17.0,
        ("T2w", "bspline"): 16.0,
        ("T2w", "attunet"): attunet_t2w,
    }
    return [
        MetricRow(
            series=series,
            statistic="psnr",
            value=value,
            contrast=contrast,
            reference=reference,
            region=BRAIN,
        )
        for (contrast, series), value in values.items()
    ]


def test_a_single_participant_leaves_the_answer_open():
    page = Page(scans_overview_html(rows(25.0, 25.0), "sub-01", ["T1w", "T2w"]))
    assert "idle" in page.all("p", "answer")[0].classes
    assert "sub-01 · structural scans · T1w, T2w" in page.text
    differences = {line[0]: line[-1] for line in page.table()[1:]}
    assert not {"▲", "▼"} & set(page.text)
    assert differences == {"T1w": "+5.00 dB", "T2w": "+8.00 dB"}
    assert "not compared" in write_headline(compute_changes(rows(20, 20, "measured")))
