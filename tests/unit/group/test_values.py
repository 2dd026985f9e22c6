"""Values at the group level: joined tables, combined runs, and words derived from tests."""

import io
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from data.group_tables import (
    BEYOND,
    FACTS,
    cohort,
    detail,
    joined,
    one,
    sizes,
    values_of,
    write_tables,
)
from data.page import Page
from scipy import stats as scipy_stats

from bids_sr.engine.metric_rows import COLUMNS, MetricRow
from bids_sr.evaluation.statistics.comparison_table import describe_columns, format_comparisons
from bids_sr.group import comparisons, input_tables, values as group_values
from bids_sr.group.paper_table import paper_html, paper_sizes
from bids_sr.io.notices import UsageError

METHODS = ("sbl", "srgan")
SIZE = {
    "table": "activation",
    "statistic": "size_acquired_voxels",
    "band": "n/a",
    "reference": "n/a",
    "region": "n/a",
    "threshold": "quarter",
}


def compare_cohort(folder: Path, margin: float | None = None) -> pd.DataFrame:
    return comparisons.compare(joined(folder).values, METHODS, margin)


def test_tables_of_all_runs_are_found_and_named(tmp_path: Path) -> None:
    write_tables(tmp_path, "01", rows=[detail("sbl", 0.1)], run="ses-a_task-tap_dir-AP_run-2")
    write_tables(tmp_path, "02", activation=sizes("acquired", 1, 2, 0.5))
    tables = input_tables.find_tables(tmp_path)
    first, second = tables.itertuples()
    assert tables.loc[0, list(group_values.RUN)].tolist() == [
        "sub-01",
        "a",
        "tap",
        "2",
        "dir-AP",
        "evaluation",
    ]
    assert first.name == "sub-01 ses-a task-tap run-2 dir-AP"
    assert (second.table, second.session, second.run) == ("activation", "n/a", "n/a")
    group_values.join_tables(tables, stream := io.StringIO())
    head, line, *_ = (row.split("\t") for row in stream.getvalue().splitlines())
    assert head == [*group_values.RUN, *COLUMNS] == list(group_values.COLUMN_TEXT)
    assert line[:9] == ["sub-01", "a", "tap", "2", "dir-AP", "evaluation", "sbl", "n/a", "ev"]
    assert (line[head.index("value")], line[-1]) == ("0.1", "1")


def test_a_table_with_unexpected_columns_or_text_is_rejected(tmp_path: Path) -> None:
    write_tables(tmp_path, "01", rows=[detail("sbl", 0.1)])
    (path,) = input_tables.find_tables(tmp_path)["path"]
    text = path.read_text()
    path.write_text("series\tvalue\nsbl\t1\n")
    with pytest.raises(UsageError, match="columns"):
        joined(tmp_path)
    path.write_text(text.replace("0.1", "a tenth"))
    with pytest.raises(UsageError, match=path.name):
        joined(tmp_path)


def test_runs_are_combined_by_inverse_variance_if_all_have_an_interval(tmp_path: Path) -> None:
    write_tables(
        tmp_path, "01", rows=[detail("sbl", 0.10, lower=0.08, upper=0.12)], run="task-tap_run-1"
    )
    write_tables(
        tmp_path, "01", rows=[detail("sbl", 0.40, lower=0.36, upper=0.44)], run="task-tap_run-2"
    )
    assert joined(tmp_path).values["sub-01"].tolist() == pytest.approx([(4 * 0.1 + 1 * 0.4) / 5])
    write_tables(tmp_path, "01", rows=[detail("sbl", 0.40)], run="task-tap_run-2")
    assert joined(tmp_path).values["sub-01"].tolist() == pytest.approx([0.25])
    write_tables(tmp_path, "01", rows=[detail("sbl", math.nan)], run="task-tap_run-2")
    assert joined(tmp_path).values["sub-01"].tolist() == pytest.approx([0.10])


def test_mixed_versions_and_settings_are_named(tmp_path: Path) -> None:
    cohort(tmp_path, 3)
    assert input_tables.mixed_settings_lines(input_tables.find_tables(tmp_path)) == []
    write_tables(
        tmp_path, "09", rows=[detail("sbl", 0.1)], facts={**FACTS, "SettingsDigest": "xyz"}
    )
    lines = input_tables.mixed_settings_lines(input_tables.find_tables(tmp_path))
    assert any("settings: xyz" in line and "sub-09" in line for line in lines)
    assert not any(line.startswith("bids-sr version") for line in lines)
    write_tables(tmp_path, "09", rows=[detail("sbl", 0.1)], facts={})
    lines = input_tables.mixed_settings_lines(input_tables.find_tables(tmp_path))
    assert any("bids-sr version: not recorded" in line and "sub-09" in line for line in lines)


def test_missing_participants_and_tables_are_named(tmp_path: Path) -> None:
    cohort(tmp_path, 2)
    write_tables(tmp_path, "03", activation=sizes("acquired", 1, 2, 0.5))
    participants = ["sub-01", "sub-02", "sub-03", "sub-04"]
    absent = input_tables.missing_lines(participants, input_tables.find_tables(tmp_path))
    assert absent == [
        ("sub-04", "sub-04: no metrics tables were found for this participant"),
        ("sub-03", "sub-03 task-tap: no table with evaluation metrics was found for this run"),
    ]


def test_runs_of_the_dataset_without_tables_are_named(tmp_path: Path) -> None:
    write_tables(tmp_path, "01", activation=sizes("acquired", 1, 1, 1.0), run="task-tap_run-01")
    write_tables(tmp_path, "01", activation=sizes("acquired", 1, 1, 1.0), run="task-rest")
    tables = input_tables.find_tables(tmp_path)
    rest, tap = ({"subject": "01", "task": task} for task in ("rest", "tap"))
    runs = [rest | {"echo": "1"}, rest | {"echo": "2"}, tap | {"run": "1"}, tap | {"run": "2"}]
    # sub-02 is named as a participant, not by run
    ((run, line),) = input_tables.missing_run_lines([*runs, tap | {"subject": "02"}], tables)
    assert run == "sub-01_task-tap_run-2"
    assert line.startswith("sub-01_task-tap_run-2: no metrics table")
    assert (
        "",
        "no table with evaluation metrics was found for any run",
    ) in input_tables.missing_lines(["sub-01"], tables)


def test_regions_of_seeds_are_not_compared_with_regions_of_conditions(tmp_path: Path) -> None:
    """MappedBy in the sidecar decides, not a seed table left from an earlier call."""
    for label, size, mapped_by in (("01", 10.0, "seeds"), ("02", 20.0, "events")):
        write_tables(
            tmp_path,
            label,
            activation=sizes("acquired", size, size, 1.0),
            facts={**FACTS, "MappedBy": mapped_by},
        )
        (tmp_path / f"sub-{label}/func/sub-{label}_task-tap_desc-seeds_timeseries.tsv").write_text(
            ""
        )
    values = joined(tmp_path).values
    (row,) = values[values["contrast"] == "thumb"].to_dict("records")
    assert row["statistic"] == "size_acquired_voxels"
    assert math.isnan(row["sub-01"])
    assert row["sub-02"] == 20.0


def test_the_contrasts_of_a_task_are_those_of_the_verdicts_of_its_runs(tmp_path: Path) -> None:
    margin = {"series": "run", "statistic": "verdict_margin", "value": 0.02}
    rows = [MetricRow(**margin, contrast="faces", region=region) for region in ("brain", "roi")]
    write_tables(tmp_path, "01", rows=[detail("sbl", 0.1), *rows])
    assert dict(joined(tmp_path).contrasts) == {("tap", "n/a"): ["faces"]}


def test_words_of_comparisons_follow_from_the_tests(tmp_path: Path) -> None:
    cohort(tmp_path, 12)
    table = compare_cohort(tmp_path)
    rows = {
        minus: one(table, "sbl", minus) for minus in ("bspline", "zerofill", "inject", "srgan")
    }
    assert {row.word for row in rows.values()} == {"better"}
    assert {row.family for row in rows.values()} == {4}
    assert rows["bspline"].p_holm == pytest.approx(4 * 2 / 2**12)
    assert one(table, "srgan", "sbl").word == "worse"
    assert one(table, "srgan", "bspline").word == "unclear"
    smaller = one(table, "bspline", "acquired", **SIZE, contrast="thumb")
    assert (smaller.word, smaller.median_series, smaller.median_minus) == ("smaller", 85.5, 105.5)


def test_statistics_of_a_comparison_equal_scipy(tmp_path: Path) -> None:
    cohort(tmp_path, 9)
    row = one(compare_cohort(tmp_path), "srgan", "inject")
    values = joined(tmp_path).values
    detail_values = group_values.participants_by_series(values[values["statistic"] == "ev"])
    a, b = detail_values["srgan"], detail_values["inject"]
    assert row.p_wilcoxon == pytest.approx(scipy_stats.wilcoxon(a, b, method="exact").pvalue)
    assert row.p_t == pytest.approx(scipy_stats.ttest_rel(a, b).pvalue)
    assert [row.q1_series, row.q3_minus] == pytest.approx([a.quantile(0.25), b.quantile(0.75)])


def test_equivalence_margin_is_a_share_of_the_gap_to_the_measured_series(tmp_path: Path) -> None:
    cohort(tmp_path, 12)
    values = joined(tmp_path).values
    table = group_values.participants_by_series(values[values["statistic"] == "ev"]).to_dict(
        "series"
    )
    # the gap from bspline to measured is .2 plus an odd part with a median over pairs of 0
    assert comparisons.get_margin("ev", table, None) == pytest.approx(0.02, rel=0.01)
    assert comparisons.get_margin("ev", table, 0.3) == 0.3
    assert comparisons.get_margin("psnr", table, 0.3) == pytest.approx(0.02, rel=0.01)  # in dB
    with_margin = compare_cohort(tmp_path, margin=0.15)
    assert one(with_margin, "srgan", "bspline").word == "same"
    assert one(with_margin, "sbl", "bspline").word == "same"
    assert "smaller than the equivalence margin" in one(with_margin, "sbl", "bspline").note


def test_the_margin_is_nan_without_a_measured_series() -> None:
    baseline = {"bspline": np.array([0.6, 0.7, 0.5])}
    for name in ("average_precision", "amplitude", "psnr"):
        assert math.isnan(comparisons.get_margin(name, baseline, None))
    measured = baseline | {"measured": np.array([0.2, 0.3, 0.1])}
    assert comparisons.get_margin("rmse", measured, None) == pytest.approx(0.04)
    assert math.isnan(comparisons.get_margin("ev", measured, None))


def test_an_amplitude_closer_to_1_is_better() -> None:
    participants = [f"sub-{n}" for n in range(8)]
    series = {
        "bspline": {label: 0.5 + 0.01 * n for n, label in enumerate(participants)},
        "sbl": {label: 1.2 - 0.005 * n for n, label in enumerate(participants)},
    }
    keys = {"statistic": "amplitude", "band": "all", "reference": "truth"}
    row = one(comparisons.compare(values_of(series, **keys), ["sbl"]), "sbl", "bspline", **keys)
    assert row.word == "better"
    assert row.upper < 0


def test_few_participants_cannot_reach_significance(tmp_path: Path) -> None:
    cohort(tmp_path, 4)
    row = one(compare_cohort(tmp_path), "sbl", "bspline")
    assert row.word == "unclear"
    assert row.note == "with 4 non-zero differences, the smallest attainable p value is .125"
    cohort(tmp_path, 7)
    row = one(compare_cohort(tmp_path), "sbl", "bspline")
    assert row.p_smallest < 0.05
    assert "7 non-zero differences" in row.note
    assert row.note.endswith("is .0625 (corrected for 4 comparisons)")


def test_identical_and_undefined_values_are_reported(tmp_path: Path) -> None:
    cohort(tmp_path, 6)
    table = compare_cohort(tmp_path)
    overlap = SIZE | {"statistic": "dice", "contrast": "thumb+little"}
    dice = one(table, "bspline", "acquired", **overlap)
    assert (dice.n, dice.n_undefined) == (6, 0)
    assert dice.difference == pytest.approx(-0.1)
    incomplete = one(table, "sbl", "acquired", **overlap)
    assert (incomplete.n, incomplete.n_undefined) == (5, 1)
    assert "1 participant(s) were excluded" in incomplete.note
    values = {"sub-01": 0.1, "sub-02": 0.2}
    identical = one(
        comparisons.compare(values_of({"bspline": values, "sbl": values}), ["sbl"]),
        "sbl",
        "bspline",
    )
    assert (identical.word, identical.note) == (
        "same",
        "both series are identical in all participants",
    )


def test_series_without_common_participants_are_not_comparable() -> None:
    by_series = {
        "bspline": {"sub-01": math.nan},
        "sbl": {"sub-01": math.nan},
        "srgan": {"sub-02": 0.1},
    }
    table = comparisons.compare(values_of(by_series), METHODS)
    undefined = one(table, "sbl", "bspline")
    assert (undefined.word, undefined.n, undefined.n_undefined) == ("not comparable", 0, 1)
    disjoint = one(table, "srgan", "bspline")
    # no participant has both
    assert (disjoint.word, disjoint.n, disjoint.n_undefined) == ("not comparable", 0, 0)
    assert set(stats_of(table)["p_wilcoxon"]) == {"n/a"}


def stats_of(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table of statistics as read from its file."""
    return pd.read_csv(
        io.StringIO(format_comparisons("stats", table.to_dict("records"))),
        sep="\t",
        dtype=str,
        keep_default_na=False,
    )


def test_positions_counts_and_differences_are_not_compared(tmp_path: Path) -> None:
    rows = [
        MetricRow(series="sbl", value=1.0, **keys)
        for keys in (
            {"statistic": "peak_at_x"},
            {"statistic": "voxels", "threshold": "quarter"},
            {"statistic": "ev", "minus": "bspline"},
            {"statistic": "dice", "threshold": "fdr"},
            {"statistic": "active_dice", "reference": "truth"},
        )
    ]
    write_tables(tmp_path, "01", rows=rows)
    assert list(joined(tmp_path).values["statistic"]) == ["dice", "active_dice"]


def test_the_table_of_statistics_has_all_columns_and_comparisons(tmp_path: Path) -> None:
    cohort(tmp_path, 12)
    comparison_table = compare_cohort(tmp_path)
    table = stats_of(comparison_table)
    assert list(table) == list(describe_columns("stats"))
    assert len(table) == len(comparison_table)
    cells = one(table, "sbl", "bspline", fwhm_mm="0")
    assert (cells.n, cells.n_nonzero, cells.method, cells.word, cells.better) == (
        "12",
        "12",
        "exact",
        "better",
        "higher",
    )
    assert float(cells.p_wilcoxon) == pytest.approx(2 / 2**12, rel=1e-5)
    assert float(cells.lower) <= float(cells.difference) <= float(cells.upper)


def test_false_discovery_rates_are_computed_over_all_comparisons_of_a_metric(
    tmp_path: Path,
) -> None:
    cohort(tmp_path, 12)
    table = compare_cohort(tmp_path)
    rows = table[table["statistic"] == BEYOND["statistic"]]
    assert list(rows["p_fdr"]) == pytest.approx(
        list(scipy_stats.false_discovery_control(rows["p_wilcoxon"]))
    )


def test_the_table_of_published_values_has_our_values_next_to_them(tmp_path: Path) -> None:
    cohort(tmp_path, 8)
    (paper,) = paper_sizes(joined(tmp_path).values)
    assert set(paper["fwhm_mm"]) == {0.0}
    panels = paper.groupby("contrast", observed=True)["statistic"].agg(set)
    assert panels.to_dict() == {
        "size, thumb": {"size_acquired_voxels"},
        "size, little": {"size_acquired_voxels"},
        "Dice": {"dice"},
    }
    page = Page(paper_html(paper, METHODS))
    assert "83.37 (42.31–119.68)" in page.text
    assert ".490 (.361–.589)" in page.text
    lines = {line[0]: line[1:] for line in next(iter(page.tables.values()))}
    assert [name for name in lines if name in ("acquired", "bspline", "sbl")] == [
        *("acquired", "bspline", "sbl")
    ]
    sbl = lines["sbl"]
    assert (sbl[2], sbl[3], sbl[5][:4]) == ("73.5 (71.8–75.2)", ".008", "88.5")
    assert sbl[8] == "0.4 (0.4–0.4) defined in 7 of 8 participants"
    assert lines["acquired"][3] == "–", "the acquired series against itself"
