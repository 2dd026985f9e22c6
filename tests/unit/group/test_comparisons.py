"""The prespecified comparison: references, sample size, and excluded participants."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from data.group_tables import BEYOND, cohort, detail, joined, one, values_of, write_tables
from data.page import read_numbers
from scipy import stats as scipy_stats

from bids_sr.engine.metric_rows import MetricRow
from bids_sr.evaluation.statements import Statement
from bids_sr.evaluation.statistics import wilcoxon
from bids_sr.evaluation.statistics.comparison_table import format_comparisons
from bids_sr.evaluation.statistics.decisions import BELOW_STRONGEST_NOTE
from bids_sr.group import comparisons as pc, tables
from bids_sr.group.first_screen import (
    GroupContents,
    list_primary_reasons,
    list_screens,
    not_compared_text,
    primary_status,
)
from bids_sr.group.input_tables import find_tables
from bids_sr.group.map_records import GroupMapRecord, GroupMaps
from bids_sr.group.output_files import GroupNames
from bids_sr.group.values import JoinedTables, participants_by_series
from bids_sr.group.verdicts import select_findings
from bids_sr.report.first_screen import FirstScreen
from bids_sr.report.stored_verdicts import StoredVerdict

METHODS = ("sbl", "srgan")
RIVALS = ("bspline", "zerofill", "sdmod", "inject", "ratio")
NO_MAPS = GroupMaps()
NO_COMPARISONS = pd.DataFrame(columns=["part"])
NOTHING_REPORTED = pd.DataFrame(columns=["task", "series", "statistic"])


def compare_methods(values: pd.DataFrame) -> pd.DataFrame:
    return pc.compare(values, METHODS)


def primary(values: pd.DataFrame, method: str = "sbl") -> list[Any]:
    return list(pc.compare_primary(values, method, {}).itertuples())


def first_screens(
    comparisons: list[Any] | pd.DataFrame,
    values: pd.DataFrame | None = None,
    tasks: dict[str, dict[str, int]] | None = None,
    reported: pd.DataFrame | None = None,
    methods: Sequence[str] = ("sbl",),
    verdicts: Sequence[StoredVerdict] = (),
    maps: GroupMaps = NO_MAPS,
) -> list[FirstScreen]:
    """Return the first screens of tasks; by default, of comparisons of the task tap."""
    table = (
        comparisons
        if isinstance(comparisons, pd.DataFrame)
        else pd.DataFrame([row._asdict() for row in comparisons])
    )
    if values is None:
        values = values_of(
            {"sbl": {name: 0.5 for row in comparisons for name in row.participants}}
        )
    tables = JoinedTables(
        values=values,
        reported=NOTHING_REPORTED if reported is None else reported,
        series=pd.DataFrame(),
        statistics=(),
        methods=methods,
        contrasts={},
    )
    if tasks is None:
        tasks = {"tap": {label: 1 for row in comparisons for label in row.participants}}
    contents = GroupContents(
        tasks=tasks, tables=tables, comparisons=table, maps=maps, method="sbl", verdicts=verdicts
    )
    return list(list_screens(contents))


def reasons_of(row: Any, **runs: int) -> str:
    """Return the sentences on a primary comparison; `runs` by participant."""
    tables = GroupContents(
        tasks={"tap": {name.replace("_", "-"): count for name, count in runs.items()}},
        tables=SimpleNamespace(),
        comparisons=pd.DataFrame(),
        maps=GroupMaps(),
        method="sbl",
        verdicts=(),
    )
    return " ".join(list_primary_reasons(tables, row))


def by_participant(values: list[float]) -> dict[str, float]:
    return {f"sub-{n:02d}": value for n, value in enumerate(values)}


def test_primary_comparison_uses_the_strongest_reference_of_the_participant() -> None:
    """Baselines, controls and arithmetic series are references; measured and acquired are not."""
    series = {
        "sbl": by_participant([0.3, 0.3, 0.3, math.nan, 0.3]),
        "bspline": by_participant([0.1, 0.2, 0.0, 0.1, math.nan]),
        "zerofill": by_participant([0.2, 0.1, 0.0, 0.1, math.nan]),
        "bsplinePca": by_participant([0.0, 0.1, 0.25, 0.1, math.nan]),
        "sdmod": {"sub-01": 0.35},
        "srgan": by_participant([0.9] * 5),
        "measured": by_participant([1.0] * 5),
        "acquired": by_participant([0.9] * 5),
    }
    (comparison,) = primary(values_of(series))
    assert (comparison.series, comparison.minus, comparison.role) == (
        "sbl",
        "strongest",
        "strongest",
    )
    assert comparison.participants == ["sub-00", "sub-01", "sub-02"]
    assert comparison.rivals == ["zerofill", "sdmod", "bsplinePca"]
    assert comparison.differences == pytest.approx([0.1, -0.05, 0.05])
    assert (comparison.n, comparison.n_undefined, comparison.n_above) == (3, 1, 2)


def test_methods_without_reference_series_are_not_tested() -> None:
    series = {"sbl": by_participant([0.1, 0.2, 0.3]), "srgan": by_participant([0.1, 0.2, 0.3])}
    assert primary(values_of(series), "sbl") == []


def test_the_primary_comparison_comes_first_and_all_others_are_exploratory(
    tmp_path: Path,
) -> None:
    cohort(tmp_path, 12)
    comparisons = tables.write_tables(
        tmp_path, GroupNames(), find_tables(tmp_path), default_method="sbl"
    ).comparisons
    first = next(comparisons.itertuples())
    assert {name: getattr(first, name) for name in BEYOND} == BEYOND
    assert set(first.rivals) == {"inject"}
    text_of_table = format_comparisons("stats", comparisons.to_dict("records"))
    head, *lines = (line.split("\t") for line in text_of_table.splitlines())
    rows = [dict(zip(head, line, strict=True)) for line in lines]
    assert [row["part"] for row in rows] == ["primary", *["exploratory"] * (len(rows) - 1)]
    assert {row["n_needed"] for row in rows[1:]} == {"n/a"}
    assert (rows[0]["n_needed"], rows[0]["n_above"], rows[0]["word"]) == (
        f"{first.n_needed:.0f}",
        "12",
        "better",
    )
    (screen,) = first_screens([first], joined(tmp_path).values)
    assert screen.views[0].kind == "good"
    assert "more in 12 of 12" in screen.views[0].sentence
    shown = [first.median_series, first.difference, first.lower, first.upper]
    numbers = read_numbers(screen.views[0].sentence)
    assert [numbers[0], *numbers[2:5]] == pytest.approx([100 * x for x in shown], abs=0.51)
    assert [row.names for row in screen.rows[:2]] == [("sub-12",), ("sub-11",)]
    rivals = [float(row.cells[0].answer.split()[1]) for row in screen.rows]
    values = [float(row.cells[0].number) for row in screen.rows]
    points = [100 * difference for difference in sorted(first.differences, reverse=True)]
    assert np.subtract(values, rivals) == pytest.approx(points, abs=1.01)
    assert not any(
        row.part == "primary"
        for finding in select_findings(comparisons, METHODS, {})
        for row in finding
    )


def _test_all_series(*series: list[float]) -> float:
    """Return Friedman's p value of values of participants, by series."""
    values = dict(zip(("sbl", *RIVALS), map(by_participant, series), strict=False))
    return pc.compare(values_of(values), ["sbl"])["p_friedman"].iloc[0]


def test_friedmans_test_compares_all_series_of_a_question() -> None:
    # all four participants order three series alike: chi-square of n (k - 1) = 8
    same_order = [[0.1, 0.2, 0.3, 0.4], [0.2, 0.3, 0.4, 0.5], [0.3, 0.4, 0.5, 0.6]]
    assert _test_all_series(*same_order) == pytest.approx(math.exp(-4))
    missing = [[*values, math.nan if n == 1 else 0.0] for n, values in enumerate(same_order)]
    assert _test_all_series(*missing) == _test_all_series(*same_order)
    tied = np.random.default_rng(5).integers(0, 5, (4, 15)) / 10
    assert _test_all_series(*tied.tolist()) == pytest.approx(
        scipy_stats.friedmanchisquare(*tied).pvalue
    )
    # statistic of the sign test: (3 - 1)^2 / 4
    two = [[0.1, 0.2, 0.3, 0.4], [0.2, 0.3, 0.4, 0.3]]
    assert _test_all_series(*two) == pytest.approx(scipy_stats.chi2.sf(1.0, 1))
    assert math.isnan(_test_all_series([0.1, 0.2], [0.1, 0.2], [0.1, 0.2]))
    assert math.isnan(_test_all_series([0.1], [0.2], [0.3]))


def test_six_participants_can_be_enough_and_five_cannot() -> None:
    """Without Holm correction over five references, six participants can reach significance."""

    def comparison_of(n: int) -> Any:
        values = [0.2 + 0.01 * k for k in range(n)]
        rivals = {
            name: by_participant([0.05 + 0.001 * k * m for k in range(n)])
            for m, name in enumerate(RIVALS)
        }
        return primary(values_of({"sbl": by_participant(values), **rivals}))[0]

    six, five, single = comparison_of(6), comparison_of(5), comparison_of(1)
    assert (six.word, six.family, six.p_holm) == ("better", 1, 0.03125)
    assert primary_status(six) == "more accurate"
    assert (five.word, primary_status(five)) == ("unclear", "not assessed")
    assert "5 non-zero differences" in five.note
    assert five.note.endswith(" .0625")
    assert (single.word, primary_status(single)) == ("not comparable", "not assessed")
    screens = [first_screens([row])[0] for row in (six, five, single)]
    assert [screen.views[0].kind for screen in screens] == ["good", "idle", "idle"]
    assert "5 participants cannot reach p < .05" in screens[1].views[0].sentence
    assert "(median of 1 participant), which are too few" in screens[2].views[0].sentence


def test_comparison_with_the_strongest_reference_never_claims_a_loss() -> None:
    rng = np.random.default_rng(0)
    series = {name: by_participant(list(rng.normal(size=20))) for name in ("sbl", *RIVALS)}
    (comparison,) = primary(values_of(series))
    assert comparison.p_holm < 0.05
    assert comparison.effect_size < 0
    assert (comparison.word, primary_status(comparison)) == ("unclear", "not more accurate")
    assert comparison.n_needed is None
    (screen,) = first_screens([comparison])
    assert screen.views[0].kind == "bad"
    assert "not detectably more" in screen.views[0].sentence
    assert BELOW_STRONGEST_NOTE in comparison.note


def test_a_method_without_advantage_is_rarely_called_better() -> None:
    """Simulate 400 groups of eight; comparison with a maximum keeps errors below 2.5 %."""
    rng = np.random.default_rng(0)
    samples = rng.normal(size=(400, 8)) - rng.normal(size=(400, 3, 8)).max(axis=1)
    tests = [wilcoxon.signed_rank(sample) for sample in samples]
    assert np.mean([test.p_wilcoxon < 0.05 and test.effect_size > 0 for test in tests]) <= 0.01
    null_tests = [wilcoxon.signed_rank(sample) for sample in rng.normal(size=(400, 8))]
    assert 0.01 < np.mean([test.p_wilcoxon < 0.05 for test in null_tests]) < 0.07


def test_p_values_are_corrected_for_the_number_of_tasks() -> None:
    series = {
        "sbl": by_participant([0.2 + 0.01 * k for k in range(6)]),
        "bspline": by_participant([0.1] * 6),
    }
    comparisons = primary(
        pd.concat([values_of(series), values_of(series, task="rest")], ignore_index=True)
    )
    assert [(row.family, row.p_holm, row.word) for row in comparisons] == [
        (2, 0.0625, "unclear")
    ] * 2
    assert "6 non-zero differences" in comparisons[0].note
    assert ".0625 (corrected for 2 comparisons)" in comparisons[0].note
    assert "corrected for 2 tasks" in first_screens(comparisons[:1])[0].views[0].sentence


def test_the_contrast_is_the_contrast_of_the_runs() -> None:
    series = {"sbl": by_participant([0.3] * 7), "bspline": by_participant([0.1] * 7)}
    values = pd.concat(
        [values_of(series, contrast=name) for name in ("default", "motor")], ignore_index=True
    )
    for contrasts, expected in (({}, "default"), ({("tap", "n/a"): ["motor"]}, "motor")):
        (row,) = pc.compare_primary(values, "sbl", contrasts).itertuples()
        (finding,) = select_findings(compare_methods(values), ["sbl"], contrasts)
        assert [row.contrast, finding[0].contrast] == [expected] * 2
    other = {("tap", "n/a"): ["all"]}
    assert pc.compare_primary(values, "sbl", other).empty, "the method has no value for it"


def test_negative_explained_variance_is_not_called_more_accurate() -> None:
    series = {
        "sbl": by_participant([-0.1 + 0.01 * k for k in range(8)]),
        "bspline": by_participant([-0.4] * 8),
    }
    (comparison,) = primary(values_of(series))
    assert (comparison.word, primary_status(comparison)) == ("better", "not more accurate")
    assert "not detectably above 0" in first_screens([comparison])[0].views[0].sentence


def test_tasks_without_reference_data_are_named() -> None:
    series = {
        "sbl": by_participant([0.2 + 0.01 * k for k in range(6)]),
        "bspline": by_participant([0.1] * 6),
    }
    no_values = values_of(series).iloc[:0]
    unapplied = pd.DataFrame([{"task": "tap", "series": "sbl", "statistic": "verdict_applied"}])
    (screen,) = first_screens(NO_COMPARISONS, no_values, {"tap": {"sub-01": 1}}, unapplied)
    assert screen.views[0].sentence == "sbl was not applied (zero filled): use the B-spline maps."
    (screen,) = first_screens(NO_COMPARISONS, no_values, {"tap": {"sub-01": 1}})
    assert screen.views[0].sentence == (
        "The detail of sbl was not compared with a reference: there are no reference data."
    )
    comparisons = pc.compare_primary(values_of(series), "sbl", {})
    tasks = {"rest": {"sub-01": 1}, "tap": dict.fromkeys(series["sbl"], 1)}
    tap, rest = first_screens(comparisons, values_of(series), tasks)
    assert (tap.views[0].kind, rest.views[0].kind) == ("good", "idle")
    assert (tap.title, rest.title) == ("group · tap", "group · rest")
    (row,) = comparisons.itertuples()
    assert "without a value" not in reasons_of(row, **dict.fromkeys(series["sbl"], 1))
    reasons = reasons_of(row, sub_98=1, sub_99=2)
    assert "Participants without a value: sub-98, sub-99 (2 runs)." in reasons


def make_verdict(label: str, shares: Mapping[str, float], **facts: Any) -> StoredVerdict:
    """Return the verdict of a participant with tested shares in active voxels by contrast."""
    contrasts = [
        {
            "contrast": name,
            "active": {
                "state": "recovered",
                "explained_variance": share,
                "lower": None if share is None else share - 0.1,
                "upper": None if share is None else share + 0.1,
                "reference": "oneLevelDown",
            },
        }
        for name, share in shares.items()
    ]
    stored = {"contrasts": contrasts, **facts}
    return StoredVerdict(participant=label, task="tap", stem=f"sub-{label}_task-tap", facts=stored)


def test_tasks_without_a_reference_show_the_values_of_the_participants_pages() -> None:
    shares = {"00": 0.5, "01": 0.3, "02": 0.6, "03": None}
    verdicts = [
        make_verdict(label, {"face": 0.9, "all": share}) for label, share in shares.items()
    ]
    tasks = {"tap": dict.fromkeys(shares, 1)}
    values = values_of({"sbl": by_participant([0.9] * 4)}, contrast="face")
    (screen,) = first_screens(NO_COMPARISONS, values, tasks, verdicts=verdicts)
    assert screen.views[0].kind == "tested"
    assert (
        "In the test, sbl explains 50\N{NO-BREAK SPACE}% of the detail of “all”"
        in screen.views[0].sentence
    )
    assert "median of 3 participants" in screen.views[0].sentence
    assert [(row.names[0], row.cells[0].number[:2]) for row in screen.rows] == [
        *(("sub-00", "50"), ("sub-01", "30"), ("sub-02", "60"))
    ]


def test_a_contrast_over_runs_comes_first_with_what_changed_in_each_participant() -> None:
    record = GroupMapRecord(
        names=GroupNames(),
        task="tap",
        variant="n/a",
        key=("aRun2MinusARun1", "sbl", 5.0, "effect"),
        space="MNI",
        weights={},
        terms=[
            {"label": f"run-{run}", "contrast": "a", "weight": weight}
            for run, weight in ((2, 1.0), (1, -1.0))
        ],
        members=(),
        excluded={},
        checksums={},
    )
    region = {"region": "motor", "effect": 1.0, "lower": 0.4, "upper": 1.6}
    verdicts = [
        make_verdict(
            label,
            {"all": 0.5},
            changes=[
                {"contrast": "aRun2MinusARun1", "regions": [{**region, "is_found": is_found}]}
            ],
        )
        for label, is_found in (("01", True), ("02", False))
    ]
    first, second = first_screens(
        NO_COMPARISONS,
        values_of({"sbl": by_participant([0.9] * 2)}),
        {"tap": {"sub-01": 1, "sub-02": 1}},
        verdicts=verdicts,
        maps=GroupMaps(records=[record]),
    )
    assert "a@run-2 − a@run-1" in first.title
    assert "fewer than three" in first.views[0].sentence
    assert [row.cells[0].answer for row in first.rows] == ["motor +1.00 %", "nothing found"]
    assert [row.cells[0].number for row in first.rows] == ["+1.00 [0.40, 1.60]"] * 2
    assert "explains" in second.views[0].sentence


def test_the_first_screen_has_the_smoothing_before_super_resolution() -> None:
    series = dict.fromkeys(("sbl", *RIVALS), by_participant([0.3, 0.5]))
    tested = values_of(series, reference="oneLevelDown", region="acquired40")
    for values in (values_of(series), tested):
        smoothed = values.assign(input_fwhm_mm="13.2")
        rows = primary(smoothed) if values is not tested else NO_COMPARISONS
        tasks = {"tap": dict.fromkeys(series["sbl"], 1)}
        (screen,) = first_screens(rows, smoothed, tasks)
        assert "13.2 mm FWHM kernel before super-resolution" in screen.facts


def test_reasons_why_a_task_was_not_assessed() -> None:
    by_series = {"zerofill": by_participant([0.1, 0.2]), "srgan": by_participant([0.1, 0.2])}
    flag = {"series": "sbl", "statistic": "verdict_applied"}
    flags = pd.DataFrame([flag | {"task": task} for task in ("tap", "tap", "tapping")])
    values = values_of(by_series)
    reason = not_compared_text("tap", values, flags, "sbl")
    assert reason.endswith(": sbl was not applied in 2 runs.")
    (screen,) = first_screens(NO_COMPARISONS, values, {"tap": {"sub-00": 1}}, methods=["srgan"])
    assert screen.views[0].sentence.startswith("sbl, whose detail")
    (screen,) = first_screens(NO_COMPARISONS, values, {"tap": {"sub-00": 1}}, methods=[])
    assert screen.views[0].sentence == Statement.NOTHING_COMPARED
    assert "no reference data" in not_compared_text("rest", values, flags, "sbl")
    noise = values_of(
        {name: dict.fromkeys(values, math.nan) for name, values in by_series.items()}
    )
    assert "no reproducible detail" in not_compared_text("tap", noise, flags, "sbl")


@pytest.mark.parametrize(
    ("methods", "expected"),
    [
        (("srgan", "sbl"), "sbl"),
        (("srgan",), "srgan"),
        (("srgan", "tv"), "sbl"),
        ((), "sbl"),
    ],
)
def test_the_prespecified_method_is_the_only_method_that_was_run_or_the_default(
    methods: tuple[str, ...], expected: str
) -> None:
    assert pc.primary_method("sbl", methods) == expected


def test_the_primary_comparison_uses_the_only_method_of_a_cohort(
    tmp_path: Path,
) -> None:
    for n in range(6):
        rows = [detail("srgan", 0.3 + 0.01 * n), detail("bspline", 0.1), detail("zerofill", 0.15)]
        write_tables(tmp_path, f"{n:02d}", rows=rows)
    comparisons = tables.write_tables(
        tmp_path, GroupNames(), find_tables(tmp_path), default_method="sbl"
    ).comparisons
    (row,) = comparisons[comparisons["part"] == "primary"].itertuples()
    assert (row.series, row.n, row.n_above) == ("srgan", 6, 6)
    (screen,) = first_screens([row], joined(tmp_path).values)
    assert screen.views[0].sentence.startswith("srgan explains")


def test_measured_references_precede_simulated_references() -> None:
    def values(shift: float, **keys: str) -> pd.DataFrame:
        series = {
            "sbl": by_participant([0.3 + shift, 0.4, 0.5]),
            "zerofill": by_participant([0.1, 0.1, 0.2]),
        }
        return values_of(series, **keys)

    simulated = {"reference": "truth"}
    candidates = [
        simulated,
        {"contrast": "faces"},
        {"region": "active40"},
        {},
    ]
    (comparison,) = primary(
        pd.concat(
            [values(0.01 * k, **keys) for k, keys in enumerate(candidates)], ignore_index=True
        )
    )
    assert {name: getattr(comparison, name) for name in BEYOND} == BEYOND
    (comparison,) = primary(values(0, **simulated))
    assert comparison.reference == "truth"
    assert primary(values(0), "srgan") == []


def count_needed(differences: list[float]) -> float | None:
    """Return the sample size for differences between sbl and its only reference."""
    zeros = by_participant([0.0] * len(differences))
    values = values_of({"sbl": by_participant(differences), "bspline": zeros})
    return primary(values)[0].n_needed


ALTERNATING = np.array([-1.0, 1, -1, 1, -1, 1]) / math.sqrt(6 / 5)
"""Differences with a mean of 0 and a standard deviation of 1."""


@pytest.mark.parametrize(("effect", "expected"), [(0.2, 199), (0.5, 34), (0.8, 15), (1.0, 10)])
def test_the_sample_size_follows_from_textbook_values(effect: float, expected: int) -> None:
    """Cohen (1988) and G*Power: two-sided .05, 80 % power, one sample; the efficiency of the
    signed-rank test is 3 / π.
    """
    n_needed = count_needed(list(ALTERNATING + effect))
    assert n_needed == max(6, math.ceil(expected * math.pi / 3))


def test_the_signed_rank_test_reaches_its_power_in_simulation() -> None:
    """Expect 80 % power for normal differences within the precision of 1,500 samples."""
    n_needed = count_needed(list(ALTERNATING + 0.7))
    assert n_needed is not None
    samples = 0.7 + np.random.default_rng(0).normal(size=(1500, int(n_needed)))
    p = scipy_stats.wilcoxon(samples, axis=1, method="exact").pvalue
    assert 0.77 < np.mean(p < 0.05) < 0.86


@pytest.mark.parametrize(
    ("differences", "n_needed"),
    [
        ([0.1], None),
        ([-0.1, 0.1], None),
        ([-0.1, -0.2, -0.1], None),
        ([1e-6 - 1, 1e-6 + 1], None),
        ([0.1, 0.1, 0.1], 6),
        ([0.1, 0.10001], 6),
    ],
)
def test_the_sample_size_is_unknown_without_a_gain_and_at_least_six(
    differences: list[float], n_needed: int | None
) -> None:
    assert count_needed(differences) == n_needed


def test_runs_in_which_a_method_was_not_applied_are_not_compared(
    tmp_path: Path,
) -> None:
    cohort(tmp_path, 8)
    rows = [
        detail("zerofill", 0.02),
        detail("sbl", 0.02),
        detail("srgan", 0.1),
    ]
    not_applied = MetricRow(series="sbl", statistic="verdict_applied", value=0)
    write_tables(
        tmp_path,
        "09",
        rows=[*rows, not_applied, MetricRow(series="srgan", statistic="verdict_applied", value=1)],
    )
    group_values = joined(tmp_path)
    assert group_values.reported.values.tolist() == [
        ["tap", "sub-09 task-tap", "sbl", "verdict_applied"]
    ]
    participant_values = (
        participants_by_series(group_values.values[group_values.values["statistic"] == "ev"])
        .loc["sub-09"]
        .dropna()
    )
    assert participant_values.to_dict() == {"zerofill": 0.02, "srgan": 0.1}
    assert one(compare_methods(group_values.values), "sbl", "zerofill").n == 8
