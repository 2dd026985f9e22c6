"""Tables joined, runs combined, words that follow from the tests."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
from grouptables import FACTS, cohort, detail, joined, sizes, write_tables
from scipy import stats as scipy_stats

from bids_sr.metrics.measure_names import better, metric
from bids_sr.stats.group import group_tables, group_tests, metric_tables
from bids_sr.stats.group.metric_tables import Question

BEYOND = Question("tap", "n/a", "evaluation", "split_ev_beyond", "measured", "brain", "all", 0.0)
METHODS = ("sbl", "srgan")


def compared(folder: Path, margin: float | None = None) -> dict[tuple[Question, str, str], group_tests.Comparison]:
    values = joined(folder).values
    units = {question.measure: metric(question.measure).unit for question in values}
    return {
        (each.question, each.series, each.reference): each
        for each in group_tests.compare(values, METHODS, units=units, margin=margin)
    }


def test_every_table_of_every_run_is_found_and_named(tmp_path: Path) -> None:
    write_tables(tmp_path, "01", rows=[detail("sbl", 0.1)], run="ses-a_task-tap_dir-AP_run-2")
    write_tables(tmp_path, "02", activation=sizes("raw", 1, 2, 0.5))
    first, second = metric_tables.find_sources(tmp_path)
    assert first.where == ("sub-01", "a", "tap", "2", "dir-AP")
    assert first.name == "sub-01 ses-a task-tap run-2 dir-AP"
    assert (second.table, second.session, second.run) == ("activation", "n/a", "n/a")
    (line,) = metric_tables.lines_of(first, metric_tables.read_cells(first))
    cells = dict(zip(metric_tables.COLUMNS, line.rstrip("\n").split("\t"), strict=True))
    assert list(cells.values())[:8] == ["sub-01", "a", "tap", "2", "dir-AP", "evaluation", "sbl", "measured"]
    assert (cells["measure"], cells["value"], cells["unit"]) == ("split_ev_beyond", "0.1", "1")
    assert set(metric_tables.COLUMN_TEXT) == set(metric_tables.COLUMNS)


def test_a_table_with_other_columns_is_refused(tmp_path: Path) -> None:
    write_tables(tmp_path, "01", rows=[detail("sbl", 0.1)])
    source = metric_tables.find_sources(tmp_path)[0]
    source.path.write_text("series\tvalue\nsbl\t1\n")
    with pytest.raises(ValueError, match="columns"):
        metric_tables.read_cells(source)


def test_runs_are_combined_by_inverse_variance_where_all_have_an_interval(tmp_path: Path) -> None:
    write_tables(tmp_path, "01", rows=[detail("sbl", 0.10, lower=0.08, upper=0.12)], run="task-tap_run-1")
    write_tables(tmp_path, "01", rows=[detail("sbl", 0.40, lower=0.36, upper=0.44)], run="task-tap_run-2")
    assert joined(tmp_path).values[BEYOND]["sbl"]["sub-01"] == pytest.approx((4 * 0.10 + 1 * 0.40) / 5)
    write_tables(tmp_path, "01", rows=[detail("sbl", 0.40)], run="task-tap_run-2")
    assert joined(tmp_path).values[BEYOND]["sbl"]["sub-01"] == pytest.approx(0.25)
    write_tables(tmp_path, "01", rows=[detail("sbl", math.nan)], run="task-tap_run-2")
    assert joined(tmp_path).values[BEYOND]["sbl"]["sub-01"] == pytest.approx(0.10)


def test_other_versions_and_settings_are_named(tmp_path: Path) -> None:
    cohort(tmp_path, 3)
    assert metric_tables.mixed(metric_tables.find_sources(tmp_path)) == []
    write_tables(tmp_path, "09", rows=[detail("sbl", 0.1)], facts={**FACTS, "SettingsDigest": "xyz"})
    lines = metric_tables.mixed(metric_tables.find_sources(tmp_path))
    assert any("settings: xyz" in line and "sub-09" in line for line in lines)
    assert not any(line.startswith("version") for line in lines)
    write_tables(tmp_path, "09", rows=[detail("sbl", 0.1)], facts={})
    lines = metric_tables.mixed(metric_tables.find_sources(tmp_path))
    assert any("version of bids-sr: not recorded" in line and "sub-09" in line for line in lines)


def test_who_and_what_is_missing_is_named(tmp_path: Path) -> None:
    cohort(tmp_path, 2)
    write_tables(tmp_path, "03", activation=sizes("raw", 1, 2, 0.5))
    absent = metric_tables.absent(["sub-01", "sub-02", "sub-03", "sub-04"], metric_tables.find_sources(tmp_path))
    assert absent == [
        ("sub-04", "sub-04: no table of metrics at all"), ("sub-03", "sub-03 task-tap: no table of evaluation metrics")
    ]  # fmt: skip


def test_runs_of_the_data_set_without_tables_are_named(tmp_path: Path) -> None:
    write_tables(tmp_path, "01", activation=sizes("raw", 1, 1, 1.0), run="task-tap_run-01")
    write_tables(tmp_path, "01", activation=sizes("raw", 1, 1, 1.0), run="task-rest")
    sources = metric_tables.find_sources(tmp_path)
    stems = ["sub-01_task-rest_echo-1", "sub-01_task-rest_echo-2", "sub-01_task-tap_run-1", "sub-01_task-tap_run-2"]
    ((run, line),) = metric_tables.absent_runs([*stems, "sub-02_task-tap"], sources)  # sub-02 is named as a whole
    assert run == "sub-01_task-tap_run-2"
    assert line.startswith("sub-01_task-tap_run-2: no table")
    assert ("", "no run has a table of evaluation metrics") in metric_tables.absent(["sub-01"], sources)


def test_regions_of_seeds_are_not_compared_beside_those_of_conditions(tmp_path: Path) -> None:
    """Each run says of itself what mapped it; a table of seeds that an earlier call left does not."""
    for label, size, by in (("01", 10.0, "seeds"), ("02", 20.0, "events")):
        write_tables(tmp_path, label, activation=sizes("raw", size, size, 1.0), facts={**FACTS, "MappedBy": by})
        (tmp_path / f"sub-{label}/func/sub-{label}_task-tap_desc-seeds_timeseries.tsv").write_text("")
    regions = {q.measure: people["raw"] for q, people in joined(tmp_path).values.items() if q.contrast == "thumb"}
    assert regions == {"quarter_paper": {"sub-02": 20.0}}


def test_methods_that_some_runs_lack_are_named() -> None:
    present = {"sub-01 task-tap": ("raw", "srgan", "sbl"), "sub-02 task-tap": ("raw", "sbl")}
    assert metric_tables.without_methods(present, ("srgan", "sbl", "wmn")) == ["no srgan: sub-02 task-tap"]


def test_the_words_follow_from_the_tests(tmp_path: Path) -> None:
    cohort(tmp_path, 12)
    found = compared(tmp_path)
    own = {other: found[BEYOND, "sbl", other] for other in ("bspline", "zerofill", "inject", "srgan")}
    assert {each.word for each in own.values()} == {"better"}
    assert {each.family for each in own.values()} == {4}
    assert own["bspline"].p_holm == pytest.approx(4 * 2 / 2**12)
    assert found[BEYOND, "srgan", "sbl"].word == "worse"
    assert found[BEYOND, "srgan", "bspline"].word == "undecided"
    placebo = found[BEYOND, "sbl", "sblMirror"]
    assert (placebo.role, placebo.family, placebo.word) == ("placebo", 1, "better")
    assert (BEYOND, "sblMirror", "bspline") not in found
    smaller = found[replace_contrast("quarter_paper", "thumb"), "bspline", "raw"]
    assert (smaller.word, smaller.own.median, smaller.other.median) == ("smaller", 85.5, 105.5)


def replace_contrast(measure: str, contrast: str) -> Question:
    return Question("tap", "n/a", "activation", measure, "n/a", "n/a", contrast, 0.0)


def test_a_comparison_has_the_figures_of_scipy(tmp_path: Path) -> None:
    cohort(tmp_path, 9)
    each = compared(tmp_path)[BEYOND, "srgan", "inject"]
    values = joined(tmp_path).values[BEYOND]
    a, b = ([values[name][who] for who in sorted(values[name])] for name in ("srgan", "inject"))
    assert each.test is not None
    assert each.t is not None
    assert each.test.p_value == pytest.approx(scipy_stats.wilcoxon(a, b, method="exact").pvalue)
    assert each.t.p_value == pytest.approx(scipy_stats.ttest_rel(a, b).pvalue)


def test_sameness_needs_a_margin_and_comes_from_the_gap(tmp_path: Path) -> None:
    cohort(tmp_path, 12)
    values = joined(tmp_path).values
    # bspline to measured is .2 with an odd part whose median over pairs is zero
    assert group_tests.margin_of(BEYOND, values[BEYOND], None, "1") == pytest.approx(0.02, rel=0.01)
    assert group_tests.margin_of(BEYOND, values[BEYOND], 0.3, "1") == 0.3
    assert group_tests.margin_of(BEYOND, values[BEYOND], 0.3, "dB") == pytest.approx(0.02, rel=0.01)
    wide = compared(tmp_path, margin=0.15)
    assert wide[BEYOND, "srgan", "bspline"].word == "same"
    assert wide[BEYOND, "sbl", "bspline"].word == "same"
    assert "smaller than the margin" in wide[BEYOND, "sbl", "bspline"].note


def test_there_is_no_margin_without_a_measured_series() -> None:
    def question(measure: str) -> Question:
        return BEYOND._replace(measure=measure, against="truth")

    one = {"bspline": {"sub-01": 0.6, "sub-02": 0.7, "sub-03": 0.5}}
    for measure, unit in (("truth_ap", "1"), ("truth_centroid", "mm"), ("truth_foci", "1")):
        assert math.isnan(group_tests.margin_of(question(measure), one, None, unit))
    measured = one | {"measured": {"sub-01": 0.2, "sub-02": 0.3, "sub-03": 0.1}}
    assert group_tests.margin_of(question("truth_centroid"), measured, None, "mm") == pytest.approx(0.04)
    assert math.isnan(group_tests.margin_of(question("psnr"), one, None, "dB"))
    beyond = {"bspline": {"sub-01": 0.5}, "measured": {"sub-01": 0.4}}
    assert math.isnan(group_tests.margin_of(BEYOND, beyond, None, "1"))


def test_near_one_is_better_for_the_contrast_of_foci() -> None:
    question = BEYOND._replace(measure="truth_foci", against="truth")
    people = [f"sub-{n}" for n in range(8)]
    series = {
        "bspline": {who: 0.5 + 0.01 * n for n, who in enumerate(people)},
        "sbl": {who: 1.2 - 0.005 * n for n, who in enumerate(people)},
    }
    each = group_tests.compare({question: series}, ["sbl"], units={"truth_foci": "1"})[0]
    assert each.word == "better"
    assert each.estimate is not None
    assert each.estimate.upper < 0


def test_few_participants_cannot_reach_significance(tmp_path: Path) -> None:
    cohort(tmp_path, 4)
    each = compared(tmp_path)[BEYOND, "sbl", "bspline"]
    assert each.word == "undecided"
    assert each.note == "n = 4 non-zero differences; smallest attainable p = .125"
    cohort(tmp_path, 7)
    each = compared(tmp_path)[BEYOND, "sbl", "bspline"]
    assert each.test is not None
    assert each.test.can_reach
    assert each.note == "n = 7 non-zero differences; smallest attainable p = .0625 with 4 comparisons"


def test_identical_and_undefined_figures_are_reported_as_such(tmp_path: Path) -> None:
    cohort(tmp_path, 6)
    found = compared(tmp_path)
    dice = found[replace_contrast("quarter_dice", "thumb+little"), "bspline", "raw"]
    assert (dice.n, dice.n_undefined) == (6, 0)
    assert dice.estimate is not None
    assert dice.estimate.value == pytest.approx(-0.1)
    lacking = found[replace_contrast("quarter_dice", "thumb+little"), "sbl", "raw"]
    assert (lacking.n, lacking.n_undefined) == (5, 1)
    assert "not defined in 1" in lacking.note
    same = group_tests.evaluated(replace(group_tests.compare(
        {BEYOND: {"bspline": {"sub-01": 0.1, "sub-02": 0.2}, "sbl": {"sub-01": 0.1, "sub-02": 0.2}}},
        ["sbl"], units={})[0]))  # fmt: skip
    assert (same.word, same.note) == ("same", "identical in all participants")


def test_a_figure_that_nobody_has_is_not_comparable() -> None:
    nothing = {"bspline": {"sub-01": math.nan}, "sbl": {"sub-01": math.nan}}
    each = group_tests.compare({BEYOND: nothing}, ["sbl"], units={})[0]
    assert (each.word, each.n, each.n_undefined) == ("not comparable", 0, 1)
    assert group_tables.row(each)["p_wilcoxon"] == "n/a"


def test_places_and_counts_are_not_compared() -> None:
    assert better("peak_at_x") is None
    assert better("quarter_voxels") is None
    assert better("z31_dice") == "neither"
    assert better("truth_centroid") == "lower"
    assert better("gain_split_r_beyond") is None


def test_the_table_of_statistics(tmp_path: Path) -> None:
    cohort(tmp_path, 12)
    found = compared(tmp_path)
    head, *lines = group_tables.stats_text(found.values()).splitlines()
    assert tuple(head.split("\t")) == group_tables.COLUMNS
    assert len(lines) == len(found)
    cells = group_tables.row(found[BEYOND, "sbl", "bspline"])
    assert (cells["n"], cells["method"], cells["word"], cells["better"]) == ("12", "exact", "better", "higher")
    assert float(cells["p_wilcoxon"]) == pytest.approx(2 / 2**12, rel=1e-5)
    assert float(cells["lower"]) <= float(cells["difference"]) <= float(cells["upper"])


def test_false_discovery_rates_are_over_all_comparisons_of_a_measure(tmp_path: Path) -> None:
    cohort(tmp_path, 12)
    own = [each for each in compared(tmp_path).values() if each.question == BEYOND]
    p = [each.test.p_value for each in own if each.test is not None]
    assert [each.p_fdr for each in own] == pytest.approx(list(scipy_stats.false_discovery_control(p)))


def test_the_papers_table(tmp_path: Path) -> None:
    cohort(tmp_path, 8)
    (paper,) = group_tables.paper_tables(joined(tmp_path).values, METHODS)
    assert paper.conditions == ("thumb", "little")
    assert [series for _, series in paper.lines] == ["raw", "bspline", "sbl"]
    thumb, little, dice = paper.lines[0.0, "sbl"]
    assert (thumb.spread.median, thumb.spread.first, thumb.spread.third) == (73.5, 71.75, 75.25)
    assert (little.spread.median, dice.spread.n, dice.of) == (88.5, 7, 8)
    assert thumb.against_raw is not None
    assert thumb.against_raw.p_value == 2 / 2**8
    assert paper.lines[0.0, "raw"][0].against_raw is None
