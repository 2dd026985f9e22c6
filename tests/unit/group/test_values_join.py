"""Tables joined one after the other: what comes of it is what their cells say, as pandas reads
them.
"""

import io
import math
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from grouptables import cohort, detail, joined, one, write_tables

from bids_sr.group import values as group_values
from bids_sr.group.comparisons import compare
from bids_sr.group.input_tables import find_tables
from bids_sr.group.verdicts import findings, verdict
from bids_sr.metrics.registry import STATISTICS
from bids_sr.metrics.rows import MetricRow, read_frame


def test_what_is_joined_by_and_by_is_what_is_joined_at_once(tmp_path: Path) -> None:
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
    found = group_values.join_tables(tables, stream := io.StringIO())
    (path := tmp_path / "long.tsv").write_text(stream.getvalue())
    long = pd.read_csv(
        path, sep="\t", dtype={"unit": str, "run": str}, keep_default_na=False, na_values=[""]
    )
    assert list(long) == list(group_values.COLUMN_TEXT)
    flat = pd.concat(
        [
            read_frame(each.path).assign(participant=each.participant)
            for each in tables.itertuples()
        ]
    )
    names = ["participant", "series", "statistic", "contrast", "unit"]
    assert long[names].values.tolist() == flat[names].values.tolist()
    keys = [*group_values.QUESTION, "series", "participant"]
    for name in ("value", "lower", "upper"):
        long[name] = pd.to_numeric(long[name], errors="coerce")
    np.testing.assert_array_equal(long["value"], flat["value"])
    known = long[[STATISTICS[name].better is not None for name in long["statistic"]]]
    weight = (1 / (known["upper"] - known["lower"]) ** 2).fillna(1.0)
    expected = {
        key: float((own["weight"] * own["value"]).sum(skipna=False) / own["weight"].sum())
        for key, own in known.assign(weight=weight).groupby(keys)
    }
    assert not found.values[keys[:-1]].duplicated().any()
    told = found.values.melt(keys[:-1], var_name="participant").dropna()
    assert set(told[keys].itertuples(index=False, name=None)) == set(expected)
    for *key, value in told.itertuples(index=False, name=None):
        np.testing.assert_allclose(value if math.isfinite(value) else math.nan, expected[*key])
    assert found.statistics == tuple(sorted(set(flat["statistic"])))
    assert set(found.series["series"]) == set(flat["series"])
    assert found.methods == ("sbl", "srgan")
    assert found.told.values.tolist() == [
        ["hum", "sub-09 task-hum", "sbl", "flag_task_not_done"],
        ["tap", "sub-09 task-tap run-2", "sbl", "flag_task_not_done"],
    ]


def test_tables_are_not_held_while_they_are_joined(tmp_path: Path) -> None:
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
            found = group_values.join_tables(tables, stream)
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    numbers = group_values.of_people(found.values).to_numpy()
    assert numbers.tolist() == [[number] * 60 for number in range(200)]
    assert size > 5 * numbers.nbytes
    assert most < 4 * numbers.nbytes + 400_000


def test_runs_in_which_a_value_is_not_defined_are_left_out(tmp_path: Path) -> None:
    for run, (value, half) in enumerate(((0.3, 0.1), (math.nan, 0.1), (0.6, 0.2))):
        ends = {"lower": value - half, "upper": value + half}
        write_tables(
            tmp_path, "01", rows=[detail("sbl", value, **ends)], run=f"task-tap_run-{run}"
        )
    (value,) = joined(tmp_path).values["sub-01"]
    assert value == pytest.approx((0.3 * 4 + 0.6) / 5)


def test_series_of_other_programs_are_tested_over_participants_beside_their_own_control(
    tmp_path: Path,
) -> None:
    """Against the acquired series, baselines and the acquired one at their resolution; not that of
    another series.
    """
    for number in range(7):
        who, better_by = f"{number:02d}", 0.1 + 0.01 * number
        rows = [
            MetricRow(series="NORDIC", statistic="compared_fwhm", value=2.0),
            MetricRow(series="tedana", statistic="compared_fwhm", value=3.0),
        ]
        levels = {
            "zerofill": 0.3,
            "NORDICSame": 0.32,
            "tedanaSame": 0.31,
            "NORDIC": 0.3 + better_by,
            "tedana": 0.3,
        }
        about = {
            "statistic": "ev",
            "band": "within",
            "reference": "otherRun",
            "contrast": "all",
            "region": "brain",
        }
        rows += [MetricRow(series=name, value=value, **about) for name, value in levels.items()]
        write_tables(tmp_path, who, rows=rows)
    found = joined(tmp_path)
    assert found.methods == ("NORDIC", "tedana")
    comparisons = compare(found.values, found.methods)
    of_other_run = {"band": "within", "reference": "otherRun"}
    assert one(comparisons, "NORDIC", "zerofill", **of_other_run).word == "better"
    assert one(comparisons, "NORDIC", "NORDICSame", **of_other_run).word == "better"
    assert one(comparisons, "NORDIC", "NORDICSame", **of_other_run).role == "control"
    assert not ((comparisons["series"] == "NORDIC") & (comparisons["minus"] == "tedanaSame")).any()
    told = findings(comparisons, found.methods)
    assert {each[0].series for each in told} == {"NORDIC", "tedana"}
    lines = verdict(told, found.methods)
    assert any(line.startswith("NORDIC is more accurate than every baseline") for line in lines)
