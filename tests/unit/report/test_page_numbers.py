"""Every number in a table on the page of a run is the value of a row in its metrics table."""

import csv
import random
from pathlib import Path

import numpy as np
import pytest
from checking import listed
from data.page import Page, read_numbers
from data.rows import judge_rows, make_row

from bids_sr.engine import store
from bids_sr.engine.artifacts import Volume
from bids_sr.engine.metric_rows import MetricRow, read_table, table_text
from bids_sr.report.assembler import write_subject_page
from bids_sr.report.evaluation_rows import series_text
from bids_sr.report.figure_steps.evaluation import draw_evaluation
from bids_sr.report.figure_steps.quality import draw_quality
from bids_sr.workflows.figure_declarations import figure_declarations

ENTITIES = {"subject": "01", "task": "tap"}
METHODS = ["srgan", "sbl"]
SERIES = ["bspline", "inject", "bsplinePca", "srgan", "sbl", "measured"]
BRAIN = Volume(np.full((4, 4, 4), 100.0), np.eye(4))
TABLES = [
    "Detail by series",
    "Effect of all over all spatial frequencies",
    "Map of all in the whole run",
    "Images of the held-out",
    "Network of the seed all",
    "Acquired activation",
    "Quality check",
]


def make_rows() -> list[MetricRow]:
    """Return rows of all kinds that a page shows, with values that occur only once."""
    draws = random.Random(1)
    rows = []

    def add(series: str, statistic: str, **cells: object) -> None:
        low, high = (20, 40) if statistic == "psnr" else (0.2, 0.9)
        value, half_width = draws.uniform(low, high), draws.uniform(0.01, 0.09)
        rows.append(make_row(series, statistic, value, half_width, n=12, **cells))

    for name in SERIES:
        for contrast in ("all", "faces"):
            add(name, "acquired_slope", contrast=contrast)
            network = {"contrast": contrast, "reference": "measuredMap", "region": "brain"}
            add(name, "connected_accuracy", **network)
            add(name, "r_t", **network)
            for region in ("brain", "acquired40"):
                place = {"contrast": contrast, "region": region, "reference": "measured"}
                add(name, "ev", band="all", **place)
                for statistic in ("ev", "r", "amplitude", "correct_fraction"):
                    add(name, statistic, band="beyond", **place)
                if name in METHODS:
                    for other in ("bspline", "bsplinePca"):
                        add(name, "ev", band="beyond", minus=other, **place)
        add(name, "psnr", reference="heldOut", region="brain")
        add(name, "psnr", reference="heldOut", region="brain", minus="inject")
    add("run", "edge_mismatch")
    return rows


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Page, list[dict[str, str]]]:
    """Return the page of a run and the lines of its metrics table."""
    folder = tmp_path_factory.mktemp("run")
    table = folder / "metrics.tsv"
    table.write_text(table_text(make_rows()), encoding="utf-8")
    rows = read_table(table)
    verdict = judge_rows(rows, METHODS)
    judged = (verdict.to_json(), verdict.evidence)
    options = {"series_names": SERIES}
    for step, drawings in (
        (draw_evaluation, draw_evaluation(rows, *judged, BRAIN, BRAIN, **options)),
        (draw_quality, draw_quality(rows, verdict.evidence)),
    ):
        (port,) = step.outputs.values()
        files = listed(port.save(drawings, folder / step.__name__))
        (work := folder / "work" / step.__name__).mkdir(parents=True)
        store.store(work, files, output_dir=folder, entities=ENTITIES)
    page = write_subject_page(folder, "01", declarations=figure_declarations(), custom={})
    with table.open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file, delimiter="\t"))
    return Page(Path(page).read_text(encoding="utf-8")), lines


def list_names(line: dict[str, str]) -> list[str]:
    """Return the names by which a page refers to a line of the metrics table."""
    return [series_text(line["series"]), series_text(line["minus"]), line["contrast"]]


def is_shown(line: dict[str, str], numbers: list[float], *, percent: bool) -> bool:
    """Return whether a cell with these numbers is the value, or value and interval, of a line."""
    values = [float(line[name]) * (100 if percent else 1) for name in ("value", "lower", "upper")]
    errors = np.abs(np.subtract(numbers, values[: len(numbers)]))
    return bool(errors.max() <= (0.51 if percent else 0.0051 if values[0] < 10 else 0.051))


def test_every_number_in_a_table_of_the_page_is_in_the_metrics_table(run):
    page, lines = run
    n_cells = 0
    for start in TABLES:
        _, *rows = page.table(start)
        for first, *cells in rows:
            # first cells are series, other series of a difference, contrasts or statistics
            own_lines = [line for line in lines if first in list_names(line)]
            for cell in cells:
                if numbers := read_numbers(cell):
                    candidates, percent = own_lines or lines, "%" in cell
                    is_found = any(is_shown(line, numbers, percent=percent) for line in candidates)
                    assert is_found, (start, first, cell)
                    n_cells += 1
    assert n_cells > 80
