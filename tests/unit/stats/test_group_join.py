"""Tables joined one after the other: what comes of it is what their cells say, as pandas reads them."""

import io
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from grouptables import cohort, detail, joined, write_tables

from bids_sr.metrics.long_tables import MetricRow
from bids_sr.metrics.measure_names import better, metric
from bids_sr.reports.text.group_verdicts import findings, verdict
from bids_sr.stats.group import metric_tables
from bids_sr.stats.group.group_tests import compare
from bids_sr.stats.group.metric_tables import Question


def test_what_is_joined_by_and_by_is_what_is_joined_at_once(tmp_path: Path) -> None:
    cohort(tmp_path, 4)
    for run, shift in (("task-tap_run-1", 0.0), ("task-tap_run-2", 0.1), ("task-hum", 0.2)):
        rows = [
            detail("sbl", 0.3 + shift, lower=0.1, upper=0.5 + shift),
            MetricRow(series="sbl", measure="truth_ap", value=math.nan),
            MetricRow(series="sbl", measure="flag_task_not_done", value=float(shift > 0)),
        ]
        write_tables(tmp_path, "09", rows=rows, run=run)
    sources = metric_tables.find_sources(tmp_path)
    stream = io.StringIO()
    found = metric_tables.join_tables(sources, stream)
    long = pd.read_csv(io.StringIO(stream.getvalue()), sep="\t", dtype={"unit": str})
    assert tuple(long.columns) == metric_tables.COLUMNS
    cells = [
        pd.DataFrame(metric_tables.read_cells(source)).assign(participant=source.participant) for source in sources
    ]
    flat = pd.concat(cells, ignore_index=True).replace("n/a", np.nan)
    names = ["participant", "series", "measure", "contrast", "fwhm_mm", "unit", "value", "lower", "upper"]
    numbers = dict.fromkeys(("fwhm_mm", "value", "lower", "upper"), float)
    pd.testing.assert_frame_equal(long[names], flat[names].astype(numbers), check_dtype=False)
    keys = ["task", "variant", "table", "measure", "against", "region", "contrast", "fwhm_mm", "series", "participant"]
    told = [
        (*question, series, who, value)
        for question, people in found.values.items()
        for series, values in people.items()
        for who, value in values.items()
    ]
    known = long[[better(name) is not None for name in long["measure"]]]
    known = known.fillna(dict.fromkeys(keys, "n/a")).assign(
        weight=lambda rows: (1 / (rows["upper"] - rows["lower"]) ** 2).fillna(1.0)
    )
    expected = {
        key: float((own["weight"] * own["value"]).sum(skipna=False) / own["weight"].sum())
        for key, own in known.groupby(keys)
    }
    assert {key for *key_, _ in told if (key := tuple(key_))} == set(expected)
    for *key, value in told:
        np.testing.assert_allclose(value, expected[tuple(key)])
    assert len(next(iter(found.values.values()))["sbl"]) >= 4
    assert found.units == {name: metric(name).unit for name in flat["measure"]}
    assert set().union(*found.present.values()) == set(flat["series"])
    assert found.methods == ("sbl", "srgan")
    assert found.flags == [
        ("sub-09 task-hum", "sbl", "flag_task_not_done"), ("sub-09 task-tap run-2", "sbl", "flag_task_not_done")
    ]  # fmt: skip
    again = joined(tmp_path)
    np.testing.assert_equal(_plain(again.values), _plain(found.values))
    assert replace(again, values={}) == replace(found, values={})


def _plain(values: Mapping[Question, Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, dict[str, float]]]:
    """Values of participants as dictionaries, in which NaN equals NaN for numpy."""
    return {str(key): {name: dict(people) for name, people in found.items()} for key, found in values.items()}


def test_series_of_other_programs_are_tested_over_participants_beside_their_own_control(tmp_path: Path) -> None:
    """Against the acquired series, baselines and the acquired one at their resolution; not that of another series."""
    for number in range(7):
        who, better_by = f"{number:02d}", 0.1 + 0.01 * number
        rows = [
            MetricRow(series="NORDIC", measure="compared_fwhm", value=2.0),
            MetricRow(series="tedana", measure="compared_fwhm", value=3.0),
        ]
        levels = {"zerofill": 0.3, "NORDICSame": 0.32, "tedanaSame": 0.31, "NORDIC": 0.3 + better_by, "tedana": 0.3}
        rows += [
            MetricRow(
                series=name, against="otherRun", measure="other_ev_within", contrast="all", region="brain", value=value
            )
            for name, value in levels.items()
        ]
        write_tables(tmp_path, who, rows=rows)
    found = joined(tmp_path)
    assert found.methods == ("NORDIC", "tedana")
    comparisons = {
        (each.series, each.reference): each for each in compare(found.values, found.methods, units=found.units)
    }
    assert comparisons["NORDIC", "zerofill"].word == "better"
    assert comparisons["NORDIC", "NORDICSame"].word == "better"
    assert comparisons["NORDIC", "NORDICSame"].role == "control"
    assert ("NORDIC", "tedanaSame") not in comparisons
    told = findings(comparisons.values(), found.methods)
    assert {each.method for each in told} == {"NORDIC", "tedana"}
    lines = verdict(told, found.methods)
    assert any(line.startswith("NORDIC is more accurate than every baseline") for line in lines)
