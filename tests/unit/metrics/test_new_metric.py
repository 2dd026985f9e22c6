"""A new metric takes two files of the product: its entry in the registry, and the function that
computes it.
"""

import numpy as np
import pytest

from bids_sr import metrics
from bids_sr.metrics import MetricRow, columns_json, metric_rows, read_frame, table_text
from bids_sr.report.metric_tables import SCANS, rendered


@pytest.fixture
def entry(monkeypatch):
    """The entry in ``metrics.py``."""
    monkeypatch.setattr(metrics, "STATISTICS", dict(metrics.STATISTICS))
    monkeypatch.setattr("bids_sr.report.metric_tables.STATISTICS", metrics.STATISTICS)
    metrics.register(
        "edge_sharpness",
        "1/mm",
        "mean gradient over the range",
        metrics.HIGHER,
        label="sharpness",
    )


def computed(images: dict[str, np.ndarray]) -> list[MetricRow]:
    """The function in ``quality/image_quality.py``."""
    return [
        row
        for name, image in images.items()
        for row in metric_rows(
            name,
            {"edge_sharpness": float(np.abs(np.diff(image, axis=0)).mean() / np.ptp(image))},
            contrast="T1w",
            region="brain",
        )
    ]


def test_it_is_in_table_sidecar_and_report(entry, tmp_path):
    steep, flat = (
        np.repeat([0.0, 1.0, 0.0, 1.0], 4).reshape(4, 4),
        np.linspace(0, 1, 16).reshape(4, 4),
    )
    rows = computed({"bspline": flat, "attunet": steep})
    (path := tmp_path / "table.tsv").write_text(table_text(rows))
    table = read_frame(path).set_index("series")
    assert table.value["attunet"] == 1.0
    assert set(table.unit) == {"1/mm"}
    levels = columns_json(row.statistic for row in rows)["statistic"]["Levels"]
    assert levels == {"edge_sharpness": "mean gradient over the range (1/mm)"}
    ((title, html),) = [each for declared in SCANS for each in rendered(declared, rows)]
    assert title.startswith("T1w: quality of the brain")
    assert "sharpness, whole brain<br><small>1/mm</small>" in html
    assert html.index("bspline") < html.index("attunet")
    assert "<td>1.00</td>" in html


def test_one_without_a_label_is_in_the_table_alone(entry):
    metrics.register("edge_count", "1", "number of edges")
    assert [
        rendered(each, metric_rows("bspline", {"edge_count": 3.0}, region="brain"))
        for each in SCANS
    ] == [[]] * 3
