"""Tables joined, runs combined, words that follow from the tests."""

import io
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from grouptables import BEYOND, FACTS, cohort, detail, joined, one, sizes, values_of, write_tables
from scipy import stats as scipy_stats

from bids_sr.group import comparisons, input_tables
from bids_sr.group import tables as group_tables
from bids_sr.group import values as group_values
from bids_sr.group.comparison_tables import paper_html, papers
from bids_sr.group.report import _missing_lines
from bids_sr.metrics import registry
from bids_sr.metrics.rows import COLUMNS, MetricRow

METHODS = ("sbl", "srgan")
SIZE = {
    "table": "activation",
    "statistic": "size_acquired_voxels",
    "band": "n/a",
    "reference": "n/a",
    "region": "n/a",
    "threshold": "quarter",
}


def compared(folder: Path, margin: float | None = None) -> pd.DataFrame:
    return comparisons.compare(joined(folder).values, METHODS, margin)


def test_every_table_of_every_run_is_found_and_named(tmp_path: Path) -> None:
    write_tables(tmp_path, "01", rows=[detail("sbl", 0.1)], run="ses-a_task-tap_dir-AP_run-2")
    write_tables(tmp_path, "02", activation=sizes("raw", 1, 2, 0.5))
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
    head, line, *_ = (each.split("\t") for each in stream.getvalue().splitlines())
    assert head == [*group_values.RUN, *COLUMNS] == list(group_values.COLUMN_TEXT)
    assert line[:9] == ["sub-01", "a", "tap", "2", "dir-AP", "evaluation", "sbl", "n/a", "ev"]
    assert (line[head.index("value")], line[-1]) == ("0.1", "1")


def test_a_table_with_other_columns_is_refused(tmp_path: Path) -> None:
    write_tables(tmp_path, "01", rows=[detail("sbl", 0.1)])
    (path,) = input_tables.find_tables(tmp_path)["path"]
    text = path.read_text()
    path.write_text("series\tvalue\nsbl\t1\n")
    with pytest.raises(group_values.TableError, match="columns"):
        joined(tmp_path)
    path.write_text(text.replace("0.1", "a tenth"))
    with pytest.raises(group_values.TableError, match=path.name):
        joined(tmp_path)


def test_runs_are_combined_by_inverse_variance_where_all_have_an_interval(tmp_path: Path) -> None:
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


def test_other_versions_and_settings_are_named(tmp_path: Path) -> None:
    cohort(tmp_path, 3)
    assert input_tables.mixed(input_tables.find_tables(tmp_path)) == []
    write_tables(
        tmp_path, "09", rows=[detail("sbl", 0.1)], facts={**FACTS, "SettingsDigest": "xyz"}
    )
    lines = input_tables.mixed(input_tables.find_tables(tmp_path))
    assert any("settings: xyz" in line and "sub-09" in line for line in lines)
    assert not any(line.startswith("bids-sr version") for line in lines)
    write_tables(tmp_path, "09", rows=[detail("sbl", 0.1)], facts={})
    lines = input_tables.mixed(input_tables.find_tables(tmp_path))
    assert any("bids-sr version: not recorded" in line and "sub-09" in line for line in lines)


def test_who_and_what_is_missing_is_named(tmp_path: Path) -> None:
    cohort(tmp_path, 2)
    write_tables(tmp_path, "03", activation=sizes("raw", 1, 2, 0.5))
    everybody = ["sub-01", "sub-02", "sub-03", "sub-04"]
    absent = input_tables.absent(everybody, input_tables.find_tables(tmp_path))
    assert absent == [
        ("sub-04", "sub-04: no metrics tables were found for this participant"),
        ("sub-03", "sub-03 task-tap: no table with evaluation metrics was found for this run"),
    ]


def test_runs_of_the_data_set_without_tables_are_named(tmp_path: Path) -> None:
    write_tables(tmp_path, "01", activation=sizes("raw", 1, 1, 1.0), run="task-tap_run-01")
    write_tables(tmp_path, "01", activation=sizes("raw", 1, 1, 1.0), run="task-rest")
    tables = input_tables.find_tables(tmp_path)
    rest, tap = ({"subject": "01", "task": task} for task in ("rest", "tap"))
    runs = [rest | {"echo": "1"}, rest | {"echo": "2"}, tap | {"run": "1"}, tap | {"run": "2"}]
    # sub-02 is named as a whole
    ((run, line),) = input_tables.absent_runs([*runs, tap | {"subject": "02"}], tables)
    assert run == "sub-01_task-tap_run-2"
    assert line.startswith("sub-01_task-tap_run-2: no metrics table")
    assert ("", "no table with evaluation metrics was found for any run") in input_tables.absent(
        ["sub-01"], tables
    )


def test_regions_of_seeds_are_not_compared_beside_those_of_conditions(tmp_path: Path) -> None:
    """Each run says of itself what mapped it; a seed table that an earlier call left does not."""
    for label, size, by in (("01", 10.0, "seeds"), ("02", 20.0, "events")):
        write_tables(
            tmp_path,
            label,
            activation=sizes("raw", size, size, 1.0),
            facts={**FACTS, "MappedBy": by},
        )
        (tmp_path / f"sub-{label}/func/sub-{label}_task-tap_desc-seeds_timeseries.tsv").write_text(
            ""
        )
    values = joined(tmp_path).values
    (only,) = values[values["contrast"] == "thumb"].to_dict("records")
    assert only["statistic"] == "size_acquired_voxels"
    assert math.isnan(only["sub-01"])
    assert only["sub-02"] == 20.0


def test_the_words_follow_from_the_tests(tmp_path: Path) -> None:
    cohort(tmp_path, 12)
    found = compared(tmp_path)
    own = {other: one(found, "sbl", other) for other in ("bspline", "zerofill", "inject", "srgan")}
    assert {each.word for each in own.values()} == {"better"}
    assert {each.family for each in own.values()} == {4}
    assert own["bspline"].p_holm == pytest.approx(4 * 2 / 2**12)
    assert one(found, "srgan", "sbl").word == "worse"
    assert one(found, "srgan", "bspline").word == "unclear"
    placebo = one(found, "sbl", "sblMirror")
    assert (placebo.role, placebo.family, placebo.word) == ("placebo", 1, "better")
    assert "sblMirror" not in set(found["series"])
    smaller = one(found, "bspline", "raw", **SIZE, contrast="thumb")
    assert (smaller.word, smaller.median_series, smaller.median_minus) == ("smaller", 85.5, 105.5)


def test_a_comparison_has_the_figures_of_scipy(tmp_path: Path) -> None:
    cohort(tmp_path, 9)
    each = one(compared(tmp_path), "srgan", "inject")
    values = joined(tmp_path).values
    of_detail = group_values.wide(values[values["statistic"] == "ev"])
    a, b = of_detail["srgan"], of_detail["inject"]
    assert each.p_wilcoxon == pytest.approx(scipy_stats.wilcoxon(a, b, method="exact").pvalue)
    assert each.p_t == pytest.approx(scipy_stats.ttest_rel(a, b).pvalue)
    assert [each.q1_series, each.q3_minus] == pytest.approx([a.quantile(0.25), b.quantile(0.75)])


def test_sameness_needs_a_margin_and_comes_from_the_gap(tmp_path: Path) -> None:
    cohort(tmp_path, 12)
    values = joined(tmp_path).values
    table = group_values.wide(values[values["statistic"] == "ev"]).to_dict("series")
    # bspline to measured is .2 with an odd part whose median over pairs is zero
    assert comparisons.margin_of("ev", table, None) == pytest.approx(0.02, rel=0.01)
    assert comparisons.margin_of("ev", table, 0.3) == 0.3
    assert comparisons.margin_of("psnr", table, 0.3) == pytest.approx(0.02, rel=0.01)  # in dB
    wide = compared(tmp_path, margin=0.15)
    assert one(wide, "srgan", "bspline").word == "same"
    assert one(wide, "sbl", "bspline").word == "same"
    assert "smaller than the equivalence margin" in one(wide, "sbl", "bspline").note


def test_there_is_no_margin_without_a_measured_series() -> None:
    alone = {"bspline": np.array([0.6, 0.7, 0.5])}
    for name in ("average_precision", "active_distance", "foci_contrast", "psnr"):
        assert math.isnan(comparisons.margin_of(name, alone, None))
    measured = alone | {"measured": np.array([0.2, 0.3, 0.1])}
    assert comparisons.margin_of("active_distance", measured, None) == pytest.approx(0.04)
    assert math.isnan(comparisons.margin_of("ev", measured, None))


def test_near_one_is_better_for_the_contrast_of_foci() -> None:
    people = [f"sub-{n}" for n in range(8)]
    series = {
        "bspline": {who: 0.5 + 0.01 * n for n, who in enumerate(people)},
        "sbl": {who: 1.2 - 0.005 * n for n, who in enumerate(people)},
    }
    about = {"statistic": "foci_contrast", "band": "n/a", "reference": "truth"}
    each = one(comparisons.compare(values_of(series, **about), ["sbl"]), "sbl", "bspline", **about)
    assert each.word == "better"
    assert each.upper < 0


def test_few_participants_cannot_reach_significance(tmp_path: Path) -> None:
    cohort(tmp_path, 4)
    each = one(compared(tmp_path), "sbl", "bspline")
    assert each.word == "unclear"
    assert each.note == "with 4 non-zero differences, the smallest attainable p value is .125"
    cohort(tmp_path, 7)
    each = one(compared(tmp_path), "sbl", "bspline")
    assert each.p_smallest < 0.05
    assert "7 non-zero differences" in each.note
    assert each.note.endswith("is .0625 (corrected for 4 comparisons)")


def test_identical_and_undefined_figures_are_reported_as_such(tmp_path: Path) -> None:
    cohort(tmp_path, 6)
    found = compared(tmp_path)
    overlap = SIZE | {"statistic": "dice", "contrast": "thumb+little"}
    dice = one(found, "bspline", "raw", **overlap)
    assert (dice.n, dice.n_undefined) == (6, 0)
    assert dice.difference == pytest.approx(-0.1)
    lacking = one(found, "sbl", "raw", **overlap)
    assert (lacking.n, lacking.n_undefined) == (5, 1)
    assert "1 participant(s) were excluded" in lacking.note
    people = {"sub-01": 0.1, "sub-02": 0.2}
    same = one(
        comparisons.compare(values_of({"bspline": people, "sbl": people}), ["sbl"]),
        "sbl",
        "bspline",
    )
    assert (same.word, same.note) == ("same", "both series are identical in all participants")


def test_a_figure_that_nobody_has_is_not_comparable() -> None:
    nobody = {
        "bspline": {"sub-01": math.nan},
        "sbl": {"sub-01": math.nan},
        "srgan": {"sub-02": 0.1},
    }
    found = comparisons.compare(values_of(nobody), METHODS)
    each = one(found, "sbl", "bspline")
    assert (each.word, each.n, each.n_undefined) == ("not comparable", 0, 1)
    apart = one(found, "srgan", "bspline")
    # no participant has both
    assert (apart.word, apart.n, apart.n_undefined) == ("not comparable", 0, 0)
    assert set(stats_of(found)["p_wilcoxon"]) == {"n/a"}


def stats_of(found: pd.DataFrame) -> pd.DataFrame:
    """The table as it is written."""
    return pd.read_csv(
        io.StringIO(group_tables._stats_text(found)), sep="\t", dtype=str, keep_default_na=False
    )


def test_places_counts_and_differences_are_not_compared(tmp_path: Path) -> None:
    rows = [
        MetricRow(series="sbl", value=1.0, **about)
        for about in (
            {"statistic": "peak_at_x"},
            {"statistic": "voxels", "threshold": "quarter"},
            {"statistic": "ev", "minus": "bspline"},
            {"statistic": "dice", "threshold": "fdr"},
            {"statistic": "active_distance", "reference": "truth"},
        )
    ]
    write_tables(tmp_path, "01", rows=rows)
    assert list(joined(tmp_path).values["statistic"]) == ["dice", "active_distance"]


def test_a_statistic_that_is_registered_is_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "STATISTICS", {})
    for module in (group_values, comparisons):
        monkeypatch.setattr(module, "STATISTICS", registry.STATISTICS, raising=False)
    registry.register("hausdorff", "mm", "largest distance of the borders", registry.LOWER)
    about = {"statistic": "hausdorff", "reference": "truth", "contrast": "all", "region": "brain"}
    for number in range(8):
        figures = {"bspline": 6.0 + 0.1 * number, "sbl": 3.0 + 0.2 * number}
        rows = [MetricRow(series=name, value=value, **about) for name, value in figures.items()]
        write_tables(tmp_path, f"{number:02d}", rows=rows)
    found = one(compared(tmp_path), "sbl", "bspline", **about, band="n/a")
    assert (found.word, found.better) == ("better", "lower")


def test_the_table_of_statistics(tmp_path: Path) -> None:
    cohort(tmp_path, 12)
    found = compared(tmp_path)
    table = stats_of(found)
    assert list(table) == list(group_tables.COLUMN_TEXT)
    assert len(table) == len(found)
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


def test_false_discovery_rates_are_over_all_comparisons_of_a_metric(tmp_path: Path) -> None:
    cohort(tmp_path, 12)
    found = compared(tmp_path)
    own = found[found["statistic"] == BEYOND["statistic"]]
    assert list(own["p_fdr"]) == pytest.approx(
        list(scipy_stats.false_discovery_control(own["p_wilcoxon"]))
    )


def test_the_papers_table(tmp_path: Path) -> None:
    cohort(tmp_path, 8)
    (paper,) = papers(joined(tmp_path).values)
    assert set(paper["fwhm_mm"]) == {0.0}
    panels = paper.groupby("contrast", observed=True)["statistic"].agg(set)
    assert panels.to_dict() == {
        "size, thumb": {"size_acquired_voxels"},
        "size, little": {"size_acquired_voxels"},
        "Dice": {"dice"},
    }
    text = paper_html(paper, METHODS)
    ours = [
        line.split("</t")
        for line in text.split("<tr>")
        if "scope='row'>" in line and "paper:" not in line
    ]
    assert [line[0].rpartition(">")[2] for line in ours] == ["acquired", "bspline", "sbl"]
    raw, _, sbl = ([cell.rpartition("<td>")[2] for cell in line] for line in ours)
    assert (sbl[2], sbl[3], sbl[5][:4]) == ("73.5 (71.8–75.2)", ".008", "88.5")
    assert sbl[8] == "0.4 (0.4–0.4)<br><small>defined in 7 of 8 participants</small>"
    assert raw[3] == "–"  # the acquired series against itself


def test_methods_that_some_runs_lack_are_named(tmp_path: Path) -> None:
    for label, names in (("01", ("raw", "srgan", "sbl")), ("02", ("raw", "sbl"))):
        write_tables(tmp_path, label, rows=[detail(name, 0.1) for name in names])
    content = SimpleNamespace(absent=["who"], joined=joined(tmp_path))
    assert _missing_lines(content) == ["who", "no srgan: sub-02 task-tap"]
