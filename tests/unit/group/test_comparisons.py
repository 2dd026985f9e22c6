"""The comparison fixed beforehand, the participants it needs, and who is left out of it."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from grouptables import BEYOND, cohort, detail, joined, one, values_of, write_tables
from scipy import stats as scipy_stats

from bids_sr.group import comparisons as pc
from bids_sr.group import tables, wilcoxon
from bids_sr.group.input_tables import find_tables
from bids_sr.group.values import wide
from bids_sr.group.verdicts import (
    _primary_numbers,
    _primary_sentence,
    findings,
    group_answer_html,
    not_assessed_text,
    status,
    verdict,
    why_not_assessed,
)
from bids_sr.metrics.rows import MetricRow

METHODS = ("sbl", "srgan")
RIVALS = ("bspline", "zerofill", "sdmod", "inject", "ratio")


def compared(values: pd.DataFrame) -> pd.DataFrame:
    return pc.compare(values, METHODS)


def primary(values: pd.DataFrame, method: str = "sbl") -> list[Any]:
    return list(pc.primary(values, method).itertuples())


def people(values: list[float]) -> dict[str, float]:
    return {f"sub-{n:02d}": value for n, value in enumerate(values)}


def test_each_participants_strongest_reference_is_taken() -> None:
    """Baselines, controls and simple arithmetic count; the measured series, the acquired one and
    methods do not.
    """
    series = {
        "sbl": people([0.3, 0.3, 0.3, math.nan, 0.3]),
        "bspline": people([0.1, 0.2, 0.0, 0.1, math.nan]),
        "zerofill": people([0.2, 0.1, 0.0, 0.1, math.nan]),
        "bsplinePca": people([0.0, 0.1, 0.25, 0.1, math.nan]),
        "sdmod": {"sub-01": 0.35},
        "srgan": people([0.9] * 5),
        "measured": people([1.0] * 5),
        "raw": people([0.9] * 5),
    }
    (found,) = primary(values_of(series))
    assert (found.series, found.minus, found.role) == ("sbl", "strongest", "strongest")
    assert found.participants == ["sub-00", "sub-01", "sub-02"]
    assert found.rivals == ["zerofill", "sdmod", "bsplinePca"]
    assert found.differences == pytest.approx([0.1, -0.05, 0.05])
    assert (found.n, found.n_undefined, found.n_above) == (3, 1, 2)


def test_the_method_is_no_rival_of_itself_and_without_rivals_there_is_no_test() -> None:
    series = {"sbl": people([0.1, 0.2, 0.3]), "srgan": people([0.1, 0.2, 0.3])}
    assert primary(values_of(series), "sbl") == []


def test_the_primary_comparison_stands_first_and_the_others_are_exploratory(
    tmp_path: Path,
) -> None:
    cohort(tmp_path, 12)
    marked = tables._all_comparisons(joined(tmp_path), "sbl")
    found = next(marked.itertuples())
    assert {name: getattr(found, name) for name in BEYOND} == BEYOND
    assert set(found.rivals) == {"inject"}
    head, *lines = (line.split("\t") for line in tables._stats_text(marked).splitlines())
    rows = [dict(zip(head, line, strict=True)) for line in lines]
    assert [row["part"] for row in rows] == ["primary", *["exploratory"] * (len(rows) - 1)]
    assert {row["n_needed"] for row in rows[1:]} == {"n/a"}
    assert (rows[0]["n_needed"], rows[0]["n_above"], rows[0]["word"]) == (
        f"{found.n_needed:.0f}",
        "12",
        "better",
    )
    text = _primary_sentence(found)
    assert "the sbl map is more accurate than every reference series of the participant." in text
    assert "+0.0" in text
    assert "positive in 12 of 12 participants (p < .001" in text
    assert "prespecified comparison, not corrected" in text
    assert [each.value for each in _primary_numbers(found)][1:] == [
        "12 of 12",
        f"{found.n_needed:.0f}",
    ]
    assert not any(
        row.part == "primary" for finding in findings(marked, METHODS) for row in finding
    )


def test_six_participants_can_be_enough_and_five_cannot() -> None:
    """The finding of a review: with five Holm comparisons nothing could ever be said of six
    participants.
    """

    def answer(n: int) -> Any:
        values = [0.2 + 0.01 * k for k in range(n)]
        rivals = {
            name: people([0.05 + 0.001 * k * m for k in range(n)]) for m, name in enumerate(RIVALS)
        }
        return primary(values_of({"sbl": people(values), **rivals}))[0]

    six, five, one = answer(6), answer(5), answer(1)
    assert (six.word, six.family, six.p_holm) == ("better", 1, 0.03125)
    assert status(six) == "more accurate"
    assert (five.word, status(five)) == ("unclear", "not assessed")
    assert "5 non-zero differences" in five.note
    assert five.note.endswith(" .0625")
    assert (
        "does not differ detectably from the strongest reference series of the participant"
        in _primary_sentence(five)
    )
    assert (one.word, status(one)) == ("not comparable", "not assessed")
    assert _primary_sentence(one).startswith(
        "Accuracy was assessed in 1 participant, which is too few"
    )


def test_the_largest_of_several_values_shows_no_loss() -> None:
    rng = np.random.default_rng(0)
    series = {name: people(list(rng.normal(size=20))) for name in ("sbl", *RIVALS)}
    (found,) = primary(values_of(series))
    assert found.p_holm < 0.05
    assert found.effect_size < 0
    assert (found.word, status(found)) == ("unclear", "not more accurate")
    assert found.n_needed is None
    assert _primary_numbers(found)[2].value == "n/a"
    assert pc.BELOW in found.note
    assert "is not more accurate than the strongest reference series" in _primary_sentence(found)


def test_a_method_that_equals_its_references_is_hardly_ever_called_better() -> None:
    """Of 400 groups of eight without any difference at most 5 % (two-sided half: 2.5 %) are called
    better.
    """
    rng = np.random.default_rng(0)
    drawn = rng.normal(size=(400, 8)) - rng.normal(size=(400, 3, 8)).max(axis=1)
    tests = [wilcoxon.signed_rank(each) for each in drawn]
    assert (
        np.mean([test["p_wilcoxon"] < 0.05 and test["effect_size"] > 0 for test in tests]) <= 0.01
    )
    plain = [wilcoxon.signed_rank(each) for each in rng.normal(size=(400, 8))]
    assert 0.01 < np.mean([test["p_wilcoxon"] < 0.05 for test in plain]) < 0.07


def test_several_tasks_are_corrected_for_their_number() -> None:
    series = {"sbl": people([0.2 + 0.01 * k for k in range(6)]), "bspline": people([0.1] * 6)}
    found = primary(
        pd.concat([values_of(series), values_of(series, task="rest")], ignore_index=True)
    )
    assert [(each.family, each.p_holm, each.word) for each in found] == [
        (2, 0.0625, "unclear")
    ] * 2
    assert "6 non-zero differences" in found[0].note
    assert ".0625 (corrected for 2 comparisons)" in found[0].note
    assert "corrected for 2 tasks" in _primary_sentence(found[0])


def test_more_than_the_references_and_yet_no_variance_explained_is_no_claim() -> None:
    series = {"sbl": people([-0.1 + 0.01 * k for k in range(8)]), "bspline": people([-0.4] * 8)}
    (found,) = primary(values_of(series))
    assert (found.word, status(found)) == ("better", "not more accurate")
    assert "but does not differ from 0" in _primary_sentence(found)


def test_tasks_without_a_truth_are_named() -> None:
    series = {"sbl": people([0.2 + 0.01 * k for k in range(6)]), "bspline": people([0.1] * 6)}
    alone = group_answer_html(pd.DataFrame(), {"tap": {"sub-01": 1}})
    assert "Accuracy not assessed: no reference data." in alone
    found = pc.primary(values_of(series), "sbl")
    both = group_answer_html(found, {"rest": {}, "tap": dict.fromkeys(series["sbl"], 1)})
    assert "Accuracy not assessed: no reference data (task rest)." in both
    assert "class='answer good'" in both
    assert "Without a value" not in both
    lacking = group_answer_html(
        found, {"tap": {**dict.fromkeys(series["sbl"], 1), "sub-98": 1, "sub-99": 2}}
    )
    assert "not assessed" not in lacking
    assert ". Without a value: sub-98, sub-99 (2 runs). " in lacking


def test_why_a_task_has_no_primary_comparison() -> None:
    known = {"zerofill": people([0.1, 0.2]), "srgan": people([0.1, 0.2])}
    applied = {"series": "sbl", "statistic": "verdict_applied"}
    told = pd.DataFrame([applied | {"task": task} for task in ("tap", "tap", "tapping")])
    values = values_of(known)
    reason = why_not_assessed("tap", values, told, "sbl")
    assert reason == "sbl was not applied in 2 runs (it was zero filled)"
    assert why_not_assessed("tap", values, told[:0], "sbl") == "sbl was not run"
    assert why_not_assessed("rest", values, told, "sbl") == "no reference data"
    weak = values_of(known, statistic="r", reference="otherRun")
    assert why_not_assessed("tap", weak, told, "sbl") == "no reference data"
    noise = values_of({name: dict.fromkeys(values, math.nan) for name, values in known.items()})
    assert "no reproducible detail" in why_not_assessed("tap", noise, told, "sbl")
    sentence = not_assessed_text("tap", values_of({"zerofill": people([0.1])}), told, "sbl")
    html = group_answer_html(pd.DataFrame(), {"tap": {"sub-00": 1}}, {"tap": sentence})
    assert "Accuracy was not assessed: sbl was not applied in 2 runs (it was zero filled)." in html
    assert "no reference data" not in html


def test_a_method_that_was_assessed_is_not_said_to_be_without_assessment() -> None:
    known = {"zerofill": people([0.1, 0.2]), "srgan": people([0.1, 0.2])}
    told = pd.DataFrame([], columns=["task", "series", "statistic"])
    assert not_assessed_text("tap", values_of(known), told, "sbl") == (
        "The accuracy of sbl, the prespecified method, was not assessed: sbl was not run. For"
        " srgan, see the section Exploratory comparisons"
    )
    undefined = {**known, "srgan": people([math.nan, math.nan])}
    assert not_assessed_text("tap", values_of(undefined), told, "sbl") == (
        "Accuracy was not assessed: sbl was not run"
    )


@pytest.mark.parametrize(
    ("methods", "expected"),
    [
        (("srgan", "sbl"), "sbl"),
        (("srgan",), "srgan"),
        (("srgan", "NORDIC"), "srgan"),
        (("srgan", "tv"), "sbl"),
        ((), "sbl"),
    ],
)
def test_the_only_method_that_was_run_is_the_prespecified_one(
    methods: tuple[str, ...], expected: str
) -> None:
    assert pc.primary_method("sbl", methods) == expected


def test_the_primary_comparison_of_a_cohort_of_one_method_is_of_that_method(
    tmp_path: Path,
) -> None:
    for n in range(6):
        rows = [detail("srgan", 0.3 + 0.01 * n), detail("bspline", 0.1), detail("zerofill", 0.15)]
        write_tables(tmp_path, f"{n:02d}", rows=rows)
    _, found = tables.write_tables(tmp_path, find_tables(tmp_path), method="sbl")
    (row,) = found[found["part"] == "primary"].itertuples()
    assert (row.series, row.n, row.n_above) == ("srgan", 6, 6)
    html = group_answer_html(found, {"tap": {f"sub-{n:02d}": 1 for n in range(6)}})
    assert "not assessed" not in html


def test_measured_comes_before_known_and_without_a_truth_there_is_none() -> None:
    def values(shift: float, **about: str) -> pd.DataFrame:
        series = {"sbl": people([0.3 + shift, 0.4, 0.5]), "zerofill": people([0.1, 0.1, 0.2])}
        return values_of(series, **about)

    known, weak = {"reference": "truth"}, {"reference": "otherRun"}
    all_ = [weak, known, {"contrast": "faces"}, {"region": "active40"}, {"band": "within"}, {}]
    (found,) = primary(
        pd.concat([values(0.01 * k, **about) for k, about in enumerate(all_)], ignore_index=True)
    )
    assert {name: getattr(found, name) for name in BEYOND} == BEYOND
    (found,) = primary(pd.concat([values(0, **weak), values(0, **known)], ignore_index=True))
    assert found.reference == "truth"
    assert primary(values(0, **weak)) == []
    assert primary(values(0), "srgan") == []


@pytest.mark.parametrize(("effect", "expected"), [(0.2, 199), (0.5, 34), (0.8, 15), (1.0, 10)])
def test_participants_for_the_paired_t_test_are_those_of_the_textbooks(
    effect: float, expected: int
) -> None:
    """Cohen 1988 and G*Power: two-sided .05, 80 % power, one sample."""
    assert pc._paired_power(effect, expected) >= 0.8 > pc._paired_power(effect, expected - 1)
    d = np.array([-1.0, 1, -1, 1, -1, 1])
    needed = pc._participants_needed(d / d.std(ddof=1) + effect)
    assert needed == max(6, math.ceil(expected * math.pi / 3))


def test_power_is_reached_in_simulation_by_the_test_that_is_used() -> None:
    """Signed-rank test of normal differences with the number found: 80 % within what 1,500 draws
    allow.
    """
    rng = np.random.default_rng(0)
    d = np.array([-1.0, 1, -1, 1, -1, 1])
    needed = pc._participants_needed(d / d.std(ddof=1) + 0.7)
    assert needed is not None
    p = scipy_stats.wilcoxon(0.7 + rng.normal(size=(1500, needed)), axis=1, method="exact").pvalue
    assert 0.77 < np.mean(p < 0.05) < 0.86


def test_numbers_that_cannot_be_had() -> None:
    assert pc._participants_needed([0.1]) is None
    assert pc._participants_needed([-0.1, 0.1]) is None
    assert pc._participants_needed([-0.1, -0.2, -0.1]) is None
    assert pc._participants_needed([1e-6 - 1, 1e-6 + 1]) is None
    assert pc._participants_needed([0.1, 0.1, 0.1]) == 6
    assert pc._participants_needed([0.1, 0.10001]) == 6


def test_a_method_that_was_not_applied_in_a_run_is_out_of_the_comparisons_there(
    tmp_path: Path,
) -> None:
    cohort(tmp_path, 8)
    rows = [
        detail("zerofill", 0.02),
        detail("sbl", 0.02),
        detail("sblMirror", 0.01),
        detail("srgan", 0.1),
    ]
    idle = MetricRow(series="sbl", statistic="verdict_applied", value=0)
    write_tables(
        tmp_path,
        "09",
        rows=[*rows, idle, MetricRow(series="srgan", statistic="verdict_applied", value=1)],
    )
    found = joined(tmp_path)
    assert found.told.values.tolist() == [["tap", "sub-09 task-tap", "sbl", "verdict_applied"]]
    there = wide(found.values[found.values["statistic"] == "ev"]).loc["sub-09"].dropna()
    assert there.to_dict() == {"zerofill": 0.02, "srgan": 0.1}
    assert one(compared(found.values), "sbl", "zerofill").n == 8


def test_above_every_baseline_is_no_claim_where_no_variance_is_explained() -> None:
    rng = np.random.default_rng(0)
    low = list(-0.3 + 0.02 * rng.normal(size=12))
    series = {"sbl": people(list(0.02 * rng.normal(size=12))), "zerofill": people(low)}
    told = findings(compared(values_of(series)), ["sbl"])
    assert verdict(told, ["sbl"])[0].startswith(
        "sbl has a higher explained variance than every baseline, but its explained variance does"
        " not differ from 0"
    )
    series["sbl"] = people(list(0.3 + 0.02 * rng.normal(size=12)))
    told = findings(compared(values_of(series)), ["sbl"])
    assert verdict(told, ["sbl"])[0].startswith("sbl is more accurate than every baseline")
