"""Welch's analysis of variance compared with statsmodels, scipy and the published formula."""

import math

import numpy as np
import pytest
from scipy import stats

from bids_sr.model_commands.method_scores import welch_anova

RNG = np.random.default_rng(3)
GROUPS = [RNG.normal(m, s, n) for m, s, n in ((0, 1, 5), (1, 3, 8), (0.5, 0.2, 12), (2, 2, 3))]


def published_formula(groups: list[np.ndarray]) -> tuple[float, float, float]:
    """Return F, degrees of freedom within and p by the formula of Welch's paper."""
    k = len(groups)
    w = [len(g) / stats.tvar(g) for g in groups]
    grand = sum(wi * np.mean(g) for wi, g in zip(w, groups, strict=True)) / sum(w)
    top = sum(wi * (np.mean(g) - grand) ** 2 for wi, g in zip(w, groups, strict=True)) / (k - 1)
    lam = sum((1 - wi / sum(w)) ** 2 / (len(g) - 1) for wi, g in zip(w, groups, strict=True))
    f = top / (1 + 2 * (k - 2) * lam / (k**2 - 1))
    dof = (k**2 - 1) / (3 * lam)
    return float(f), float(dof), float(stats.f.sf(f, k - 1, dof))


def test_anova_equals_the_published_formula() -> None:
    anova = welch_anova(GROUPS)
    assert (anova.f, anova.dof_within, anova.p) == pytest.approx(
        published_formula(GROUPS), rel=1e-10
    )
    assert anova.dof_between == 3


def test_anova_equals_statsmodels() -> None:
    from statsmodels.stats.oneway import anova_oneway

    expected = anova_oneway(GROUPS, use_var="unequal", welch_correction=True)
    anova = welch_anova(GROUPS)
    assert anova.f == pytest.approx(float(expected.statistic), rel=1e-10)
    assert anova.p == pytest.approx(float(expected.pvalue), rel=1e-10)


def test_anova_of_two_groups_equals_welchs_t_test() -> None:
    t = stats.ttest_ind(GROUPS[0], GROUPS[1], equal_var=False)
    anova = welch_anova(GROUPS[:2])
    assert anova.f == pytest.approx(float(t.statistic) ** 2, rel=1e-10)
    assert anova.dof_within == pytest.approx(float(t.df), rel=1e-10)
    assert anova.p == pytest.approx(float(t.pvalue), rel=1e-10)


@pytest.mark.parametrize("groups", [[], [[1, 2]], [[1, 2], [3]], [[1, 2], [3, 3]]])
def test_anova_of_too_few_values_is_nan(groups: list[list[float]]) -> None:
    assert math.isnan(welch_anova(groups).p)
