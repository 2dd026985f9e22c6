"""A new report table requires two changes: its declaration in the metric tables and the step that
shows it.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bids_sr.metrics.rows import MetricRow
from bids_sr.pipeline import store
from bids_sr.pipeline.artifacts import Rows
from bids_sr.pipeline.figure import FigureDrawing, figure
from bids_sr.report.assembler import write_subject_page
from bids_sr.report.metric_tables import MetricTable, tables_html
from bids_sr.report.sections import FigureSpec

# belongs in bids_sr/report/metric_tables.py
AMPLITUDES = MetricTable(
    title="Recovered amplitude, {contrast}",
    rows=({"statistic": ("amplitude",), "reference": ("truth",)},),
    columns=("statistic", "region"),
    split=("contrast",),
)


# belongs in bids_sr/steps/figures
@figure(
    FigureSpec("amplitudes", "evaluation", html=True, subtitle="Amplitude", missing="amplitudes")
)
def draw_amplitudes(evaluation: Rows) -> Iterator[FigureDrawing]:
    """Tabulate the amplitude of known activation that each series recovers."""
    yield FigureDrawing("amplitudes", tables_html([AMPLITUDES], evaluation))


@pytest.fixture
def rows() -> list[MetricRow]:
    amplitude_rows = [
        MetricRow(
            series=series,
            statistic=statistic,
            value=value,
            lower=value - 0.1,
            upper=value + 0.1,
            reference="truth",
            region=region,
            contrast=contrast,
        )
        for contrast in ("faces", "all")
        for region in ("brain", "acquired40")
        for series, value in (("sbl", 0.8), ("bspline", 0.6))
        for statistic in ("amplitude", "r")
    ]
    measured_cells = {"reference": "measured", "region": "roi", "contrast": "all"}
    return [*amplitude_rows, replace(amplitude_rows[0], **measured_cells)]


def test_a_new_table_requires_only_a_declaration_and_a_step(rows, tmp_path):
    (port,) = draw_amplitudes.outputs.values()
    for folder in ("work", "here"):
        (tmp_path / folder).mkdir()
    listing = Path(port.save(draw_amplitudes(rows), tmp_path / "work" / "drawn"))
    files = [Path(path) for path in listing.read_text(encoding="utf-8").splitlines()]
    entities = {"subject": "01", "task": "tap"}
    store.store(tmp_path / "here", files, output_dir=tmp_path, entities=entities)
    page = write_subject_page(tmp_path, "01", declarations=draw_amplitudes.declarations, custom={})
    text = page.read_text(encoding="utf-8")
    titles = [f"<caption>Recovered amplitude, {name}</caption>" for name in ("all", "faces")]
    assert [text.count(title) for title in titles] == [1, 1]
    assert text.index(titles[0]) < text.index(titles[1])
    table = text[text.index(titles[0]) : text.index(titles[1])]
    assert re.findall(
        r"<th scope='col'[^>]*>([^<]*)</th>", table.replace("<br><small></small>", "")
    ) == [
        "series",
        "amplitude (slope), voxels active in the acquired run (|t| &gt; 4)",
        "amplitude (slope), whole brain",
    ]
    line = "<th scope='row'>{}</th><td>{}<br><small>[{}]</small></td>"
    assert line.format("bspline", "0.600", "0.500, 0.700") in table
    assert line.format("sbl", "0.800", "0.700, 0.900") in table
