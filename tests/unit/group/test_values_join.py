"""Tables joined one by one, compared with pandas."""

import io
import math
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from data.group_tables import cohort, detail, joined, write_tables

from bids_sr.engine.metric_rows import MetricRow, read_frame
from bids_sr.group import values as group_values
from bids_sr.group.input_tables import find_tables
from bids_sr.io.metric_registry import STATISTICS


def test_tables_joined_one_by_one_equal_tables_concatenated_by_pandas(tmp_path: Path) -> None:
    cohort(tmp_path, 4)
    for run, shift in (("task-tap_run-1", 0.0), ("task-tap_run-2", 0.1), ("task-hum", 0.2)):
        rows = [
            detail("sbl", 0.3 + shift, lower=0.1, upper=0.5 + shift),
            MetricRow(
                series="sbl", statistic="average_precision", reference="truth", value=math.nan
            ),
            MetricRow(series="sbl", statistic="flag_task_not_done", value=float(shift > 0)),
        ]
        write_tables(tmp_path, "09", rows=rows, run=run)
    tables = find_tables(tmp_path)
    result = group_values.join_tables(tables, stream := io.StringIO())
    (path := tmp_path / "long.tsv").write_text(stream.getvalue())
    long = pd.read_csv(
        path,
        sep="\t",
        dtype=dict.fromkeys(("unit", "run", "input_fwhm_mm"), str),
        keep_default_na=False,
        na_values=[""],
    )
    assert list(long) == list(group_values.COLUMN_TEXT)
    flat = pd.concat(
        [read_frame(row.path).assign(participant=row.participant) for row in tables.itertuples()]
    )
    names = ["participant", "series", "statistic", "contrast", "unit"]
    assert long[names].values.tolist() == flat[names].values.tolist()
    keys = [*group_values.QUESTION, "series", "participant"]
    for name in ("value", "lower", "upper"):
        long[name] = pd.to_numeric(long[name], errors="coerce")
    np.testing.assert_array_equal(long["value"], flat["value"])
    ranked = long[[STATISTICS[name].better is not None for name in long["statistic"]]]
    weight = (1 / (ranked["upper"] - ranked["lower"]) ** 2).fillna(1.0)
    expected = {
        key: float((group["weight"] * group["value"]).sum(skipna=False) / group["weight"].sum())
        for key, group in ranked.assign(weight=weight).groupby(keys)
    }
    assert not result.values[keys[:-1]].duplicated().any()
    values = result.values.melt(keys[:-1], var_name="participant").dropna()
    assert set(values[keys].itertuples(index=False, name=None)) == set(expected)
    for *key, value in values.itertuples(index=False, name=None):
        np.testing.assert_allclose(value if math.isfinite(value) else math.nan, expected[*key])
    assert result.statistics == tuple(sorted(set(flat["statistic"])))
    assert set(result.series["series"]) == set(flat["series"])
    assert result.methods == ("sbl", "srgan")
    assert result.reported.values.tolist() == [
        ["hum", "sub-09 task-hum", "sbl", "flag_task_not_done"],
        ["tap", "sub-09 task-tap run-2", "sbl", "flag_task_not_done"],
    ]


def test_memory_of_joining_does_not_grow_with_the_size_of_tables(tmp_path: Path) -> None:
    rows = [
        MetricRow(series="sbl", statistic="ev", contrast=f"c{number}", value=number)
        for number in range(200)
    ]
    for number in range(60):
        write_tables(tmp_path, f"{number:02d}", rows=rows)
    tables = find_tables(tmp_path)
    size = sum(path.stat().st_size for path in tables["path"])
    with (tmp_path / "long.tsv").open("w") as stream:
        tracemalloc.start()
        try:
            result = group_values.join_tables(tables, stream)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    numbers = group_values.participant_columns(result.values).to_numpy()
    assert numbers.tolist() == [[number] * 60 for number in range(200)]
    assert size > 5 * numbers.nbytes
    assert peak < 4 * numbers.nbytes + 400_000


def test_runs_with_an_undefined_value_are_skipped(tmp_path: Path) -> None:
    for run, (value, half) in enumerate(((0.3, 0.1), (math.nan, 0.1), (0.6, 0.2))):
        ends = {"lower": value - half, "upper": value + half}
        write_tables(
            tmp_path, "01", rows=[detail("sbl", value, **ends)], run=f"task-tap_run-{run}"
        )
    (value,) = joined(tmp_path).values["sub-01"]
    assert value == pytest.approx((0.3 * 4 + 0.6) / 5)
