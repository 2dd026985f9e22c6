"""Scores over participants compared with scipy and values computed by hand."""

import math

import numpy as np
import pytest
from scipy import stats

from bids_sr.cli.models.method_scores import (
    average_scores,
    compare_groups,
    compare_models,
    compare_pairs,
    summarize,
)
from bids_sr.evaluation.statistics.multiple_comparisons import holm

RNG = np.random.default_rng(11)
PARTICIPANTS = [f"sub-{k:02}" for k in range(7)]
VALUES = {name: RNG.normal(25 + k, 1 + k, 7) for k, name in enumerate(("a", "b", "bspline"))}
ROWS = [
    {"name": name, "participant": participant, "psnr": float(value)}
    for name, values in VALUES.items()
    for participant, value in zip(PARTICIPANTS, values, strict=True)
]
BY_METRIC = average_scores(ROWS, ["psnr"])


def test_images_of_a_participant_are_averaged_first() -> None:
    rows = [
        {"name": "a", "participant": participant, "psnr": value}
        for participant, value in (("x", 1.0), ("x", 3.0), ("y", 8.0))
    ]
    [row] = summarize(average_scores(rows, ["psnr"]))
    assert (row["n"], row["mean"], row["sd"]) == (2, 5.0, pytest.approx(math.sqrt(18)))
    half = stats.t.ppf(0.975, 1) * 3
    assert (row["lower"], row["upper"]) == pytest.approx((5 - half, 5 + half))


def test_a_single_participant_has_no_interval_and_infinite_scores_are_dropped() -> None:
    rows = [
        {"name": "a", "participant": "x", "psnr": "1"},
        {"name": "a", "participant": "y", "psnr": math.inf},
    ]
    [row] = summarize(average_scores(rows, ["psnr"]))
    assert (row["n"], row["mean"]) == (1, 1.0)
    assert math.isnan(float(row["sd"]))
    assert math.isnan(float(row["lower"]))


def test_pairs_are_tested_as_in_scipy_and_corrected_by_holm() -> None:
    rows = compare_pairs(BY_METRIC, ["b"])
    assert [(row["series"], row["minus"]) for row in rows] == [("b", "a"), ("b", "bspline")]
    expected = [stats.ttest_rel(VALUES["b"], VALUES[minus]) for minus in ("a", "bspline")]
    for row, test, minus in zip(rows, expected, ("a", "bspline"), strict=True):
        assert row["t"] == pytest.approx(float(test.statistic))
        assert row["p_t"] == pytest.approx(float(test.pvalue))
        interval = test.confidence_interval()
        assert (row["mean_lower"], row["mean_upper"]) == pytest.approx(
            (interval.low, interval.high)
        )
        ranked = stats.wilcoxon(VALUES["b"], VALUES[minus], method="exact")
        assert row["p_wilcoxon"] == pytest.approx(float(ranked.pvalue))
    assert [row["p_t_holm"] for row in rows] == pytest.approx(
        holm([float(test.pvalue) for test in expected])
    )
    assert rows[0]["p_t_holm"] != rows[0]["p_t"] or rows[1]["p_t_holm"] != rows[1]["p_t"]


def test_models_are_compared_by_an_analysis_of_variance() -> None:
    [row] = compare_models(BY_METRIC, ["a", "b"])
    # for two groups, F is the square of Welch's t
    test = stats.ttest_ind(VALUES["a"], VALUES["b"], equal_var=False)
    assert (row["f"], row["dof_between"], row["dof_within"], row["p"]) == pytest.approx(
        (test.statistic**2, 1, test.df, test.pvalue)
    )
    assert row["groups"] == "a (n = 7); b (n = 7)"
    assert compare_models(BY_METRIC, ["a"]) == []


def test_participants_are_grouped_by_their_labels() -> None:
    group_of = {
        participant: "low" if k < 3 else "high" for k, participant in enumerate(PARTICIPANTS)
    }
    rows = {row["name"]: row for row in compare_groups(BY_METRIC, group_of)}
    test = stats.ttest_ind(VALUES["a"][:3], VALUES["a"][3:], equal_var=False)
    assert rows["a"]["p"] == pytest.approx(test.pvalue)
    assert rows["a"]["groups"] == "low (n = 3); high (n = 4)"
    assert compare_groups(BY_METRIC, dict.fromkeys(PARTICIPANTS, "one")) == []


def _compare_samples(*samples: list[float]) -> dict[str, str | float]:
    """Return the analysis of variance of groups of values."""
    labeled = [(f"g{k}", value) for k, sample in enumerate(samples) for value in sample]
    scores = {f"p{n}": value for n, (_, value) in enumerate(labeled)}
    group_of = {f"p{n}": label for n, (label, _) in enumerate(labeled)}
    (row,) = compare_groups({"psnr": {"a": scores}}, group_of)
    return row


def test_unequal_variances_of_several_groups_follow_the_formula_of_welch() -> None:
    row = _compare_samples([1, 2, 3], [2, 4, 6], [0, 5, 1, 7])
    w = np.array([3 / 1, 3 / 4, 4 / stats.tvar([0, 5, 1, 7])])
    means = np.array([2, 4, 3.25])
    shares = w / w.sum()
    between = (w * (means - (shares * means).sum()) ** 2).sum() / 2
    imbalance = ((1 - shares) ** 2 / [2, 2, 3]).sum()
    f, dof = between / (1 + 2 / 8 * imbalance), 8 / (3 * imbalance)
    assert (row["f"], row["dof_between"], row["dof_within"], row["p"]) == pytest.approx(
        (f, 2, dof, stats.f.sf(f, 2, dof))
    )
