"""Tables joined one after the other: what comes of it is what comes of all of them at once."""

import math
from pathlib import Path

from grouptables import cohort, detail, write_tables

from bids_sr.metrics.evaluation_metrics import EvalRow
from bids_sr.stats.group import metric_tables
from bids_sr.stats.group.group_join import Joined
from bids_sr.stats.group.group_tests import compared


def test_what_is_joined_by_and_by_is_what_is_joined_at_once(tmp_path: Path) -> None:
    cohort(tmp_path, 4)
    for run, shift in (("task-tap_run-1", 0.0), ("task-tap_run-2", 0.1), ("task-hum", 0.2)):
        rows = [
            detail("sbl", 0.3 + shift, lower=0.1, upper=0.5 + shift),
            EvalRow(series="sbl", measure="claim_total_size", value=math.nan),
            EvalRow(series="sbl", measure="flag_task_not_done", value=float(shift > 0)),
        ]
        write_tables(tmp_path, "09", rows=rows, run=run)
    sources = metric_tables.find_sources(tmp_path)
    everything = [(source, metric_tables.read_figures(source)) for source in sources]
    joined = Joined(compared=compared)
    for source, _ in everything:
        joined.add(source, metric_tables.read_cells(source))
    joined.close()
    flat = [figure for _, figures in everything for figure in figures]
    lines = [line for source in sources for line in metric_tables.lines_of(source, metric_tables.read_cells(source))]
    assert "".join(lines) == metric_tables.table_text(flat).partition("\n")[2]
    assert joined.values == metric_tables.combine(flat, compared)
    assert list(joined.values) == list(metric_tables.combine(flat, compared))
    assert len(next(iter(joined.values.values()))["sbl"]) >= 4
    assert str(joined.claims) == str(metric_tables.combine(flat, lambda name: name.startswith("claim_total_")))
    assert joined.units == {each.measure: each.unit for each in flat}
    assert joined.series == {each.series for each in flat}
    assert joined.flags == [
        ("sub-09 task-hum", "sbl", "flag_task_not_done"), ("sub-09 task-tap run-2", "sbl", "flag_task_not_done")
    ]  # fmt: skip
