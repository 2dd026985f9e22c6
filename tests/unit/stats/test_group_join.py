"""Tables joined one after the other: what comes of it is what comes of all of them at once."""

import math
from pathlib import Path

from grouptables import cohort, detail, every_value, write_tables

from bids_sr.metrics.long_tables import MetricRow
from bids_sr.metrics.registry import metric
from bids_sr.stats.group import metric_tables
from bids_sr.stats.group.group_tests import compared
from bids_sr.stats.group.metric_tables import Joined


def test_what_is_joined_by_and_by_is_what_is_joined_at_once(tmp_path: Path) -> None:
    cohort(tmp_path, 4)
    for run, shift in (("task-tap_run-1", 0.0), ("task-tap_run-2", 0.1), ("task-hum", 0.2)):
        rows = [
            detail("sbl", 0.3 + shift, lower=0.1, upper=0.5 + shift),
            MetricRow(series="sbl", measure="claim_total_size", value=math.nan),
            MetricRow(series="sbl", measure="flag_task_not_done", value=float(shift > 0)),
        ]
        write_tables(tmp_path, "09", rows=rows, run=run)
    sources = metric_tables.find_sources(tmp_path)
    joined = Joined(compared=compared)
    for source in sources:
        joined.add(source, metric_tables.read_cells(source))
    joined.close()
    flat = every_value(tmp_path)
    lines = [line for source in sources for line in metric_tables.lines_of(source, metric_tables.read_cells(source))]
    assert len(lines) == len(flat)
    for line, each in zip(lines, flat, strict=True):
        cells = dict(zip(metric_tables.COLUMNS, line.rstrip("\n").split("\t"), strict=True))
        assert (cells["participant"], cells["series"]) == (each.source.participant, each.series)
        assert (cells["measure"], cells["unit"]) == (each.question.measure, metric(each.question.measure).unit)
        numbers = [math.nan if cells[k] == "n/a" else float(cells[k]) for k in ("value", "lower", "upper")]
        assert str(numbers) == str([each.value, each.lower, each.upper])
    assert joined.values == metric_tables.combine(flat, compared)
    assert list(joined.values) == list(metric_tables.combine(flat, compared))
    assert len(next(iter(joined.values.values()))["sbl"]) >= 4
    assert str(joined.claims) == str(metric_tables.combine(flat, lambda name: name.startswith("claim_total_")))
    assert joined.units == {each.question.measure: metric(each.question.measure).unit for each in flat}
    assert joined.series == {each.series for each in flat}
    assert joined.flags == [
        ("sub-09 task-hum", "sbl", "flag_task_not_done"), ("sub-09 task-tap run-2", "sbl", "flag_task_not_done")
    ]  # fmt: skip
