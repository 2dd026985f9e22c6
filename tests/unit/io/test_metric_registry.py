"""Registry of statistics: a new statistic needs only an entry and a function that computes it."""

import pandas as pd
import pytest

from bids_sr.engine.metric_rows import (
    COLUMNS,
    MetricRow,
    columns_json,
    frame,
    read_frame,
    read_table,
    table_text,
)
from bids_sr.io import metric_registry


@pytest.fixture
def new_statistic(monkeypatch):
    """Register a statistic and return its name."""
    monkeypatch.setattr(metric_registry, "STATISTICS", dict(metric_registry.STATISTICS))
    metric_registry.register(
        "hausdorff", "mm", "largest distance of the borders", metric_registry.LOWER
    )
    return "hausdorff"


def row(series, value, statistic, **fields):
    return MetricRow(
        series=series, statistic=statistic, value=value, contrast="all", region="brain", **fields
    )


def test_columns_describe_the_statistics_of_the_table(new_statistic):
    sidecar = columns_json([new_statistic, new_statistic])
    assert list(sidecar) == list(COLUMNS)
    assert sidecar["statistic"]["Levels"] == {
        new_statistic: "largest distance of the borders (mm)"
    }
    assert "Levels" not in COLUMNS["statistic"]
    assert row("sbl", 1.0, new_statistic).unit == "mm"


def test_duplicate_and_unknown_names_are_rejected(new_statistic):
    with pytest.raises(ValueError, match="twice"):
        metric_registry.register(new_statistic, "mm", "again")
    with pytest.raises(KeyError, match="nonsense"):
        table_text([row("sbl", 1.0, "nonsense")])


def test_tables_are_read_back_as_written(tmp_path):
    rows = [
        row(
            "sbl",
            1 / 3,
            "rmse",
            lower=0.1,
            upper=float("inf"),
            n=4,
            reference="heldOut",
            minus="bspline",
        ),
        MetricRow(
            series='a "quoted" name',
            statistic="ssim",
            value=float("nan"),
            fwhm_mm=5.0,
            contrast="a+b",
        ),
        row("acquired", 120.0, "volume", threshold="fdr"),
        row("NA", -2.5e-7, "r", band="beyond"),
    ]
    text = table_text(rows)
    (path := tmp_path / "table.tsv").write_text(text)
    head, *lines = (line.split("\t") for line in text.splitlines())
    assert [line[head.index("unit")] for line in lines] == ["signal", "1", "mm^3", "1"]
    assert [line[head.index("value")] for line in lines] == ["0.333333", "n/a", "120", "-2.5e-07"]
    assert table_text(read_table(path)) == text
    read = read_frame(path)
    pd.testing.assert_frame_equal(read, frame(read_table(path)))
    assert list(read.minus) == ["bspline", "n/a", "n/a", "n/a"]
    assert read.series[3] == "NA"
    assert read.value.isna().tolist() == [False, True, False, False]
    pd.testing.assert_frame_equal(frame([]), frame(rows).iloc[:0], check_index_type=False)


@pytest.mark.parametrize("text", ["", "a\tb\n", "\t".join(COLUMNS) + "\nsbl\t0\tall\n"])
def test_unexpected_columns_and_broken_lines_are_rejected(text, tmp_path):
    path = tmp_path / "table.tsv"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"table\.tsv"):
        read_frame(path)
