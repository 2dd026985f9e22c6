"""One registry of metrics; adding one takes an entry and the function that measures it, followed here to the letter."""

import json

import pytest
from grouptables import joined, write_tables

from bids_sr.metrics import registry
from bids_sr.metrics.long_tables import EVALUATION, SERIES, STRUCTURAL, MetricRow, columns_json, read_cells, table_text
from bids_sr.stats.group import group_tests


@pytest.fixture
def added(monkeypatch):
    """A metric in an entry of the registry, and nothing else."""
    monkeypatch.setattr(registry, "METRICS", dict(registry.METRICS))
    registry.register(registry.Metric("truth_hausdorff", "mm", "largest distance of the borders", registry.LOWER))
    return "truth_hausdorff"


def row(series, value, measure):
    return MetricRow(series=series, measure=measure, value=value, against="truth", contrast="all", region="brain")


def test_a_metric_is_an_entry_and_a_function(added, tmp_path):
    for number in range(8):
        rows = [row("bspline", 6.0 + 0.1 * number, added), row("sbl", 3.0 + 0.2 * number, added)]
        write_tables(tmp_path, f"{number:02d}", rows=rows)
    sidecar = columns_json(EVALUATION, [each.measure for each in rows])
    assert sidecar["measure"]["Levels"] == {added: "largest distance of the borders (mm)"}
    tables = joined(tmp_path)
    (found,) = group_tests.compare(tables.values, ["sbl"], units=tables.units)
    assert (found.question.measure, found.reference, found.word) == (added, "bspline", "better")
    assert tables.units == {added: "mm"}


def test_a_name_is_taken_once_and_unknown_names_are_refused(added):
    with pytest.raises(ValueError, match="twice"):
        registry.register(registry.metric(added))
    with pytest.raises(registry.UndeclaredMetric, match="nonsense"):
        table_text([row("sbl", 1.0, "nonsense")])
    assert registry.better("nonsense") is None


@pytest.mark.parametrize("columns", [tuple(SERIES), tuple(EVALUATION), STRUCTURAL])
def test_tables_come_back_as_they_were_written(columns, tmp_path):
    text = table_text(
        [
            MetricRow(series="sbl", measure="rmse", value=1 / 3, lower=0.1, upper=float("inf"), n=4, reference="brain"),
            MetricRow(series='a "quoted" name', measure="ssim", value=float("nan"), fwhm_mm=5.0, contrast="a+b"),
        ],
        columns,
    )
    path = tmp_path / "table.tsv"
    path.write_text(text)
    cells = read_cells(path, columns)
    assert "".join("\t".join(line) + "\n" for line in [cells, *zip(*cells.values(), strict=True)]) == text
    assert cells["unit"][0] == ("1" if columns == STRUCTURAL else "signal")
    assert cells["value"] == ["0.333333", "n/a"]


@pytest.mark.parametrize("text", ["", "a\tb\n", "series\tfwhm_mm\tcontrast\tmeasure\tvalue\tunit\nsbl\t0\tall\n"])
def test_other_columns_and_broken_lines_are_refused(text, tmp_path):
    path = tmp_path / "table.tsv"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"table\.tsv"):
        read_cells(path, SERIES)


def test_every_metric_has_a_unit_and_a_description():
    assert all(each.unit and each.description and each.name == name for name, each in registry.METRICS.items())
    assert json.dumps(columns_json(EVALUATION, registry.METRICS))
