"""Scores of several methods in the same participants: summary, paired tests, analysis of variance.

Scores of several images are averaged within participants.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from bids_sr.frozen import frozen
from bids_sr.statistics.multiple_comparisons import holm
from bids_sr.statistics.paired_tests import differences, paired_t
from bids_sr.statistics.wilcoxon import ALPHA, signed_rank


@frozen
class WelchAnova:
    """F, degrees of freedom and p value of Welch's ANOVA; NaN if not defined."""

    f: float = math.nan
    dof_between: float = math.nan
    dof_within: float = math.nan
    p: float = math.nan


def welch_anova(groups: Sequence[npt.ArrayLike]) -> WelchAnova:
    """Test whether groups have equal means, without the assumption of equal variances.

    Source: Welch 1951 (Biometrika 38:330), as implemented in GraphPad Prism and R's
    ``oneway.test``. For two groups, F is the square of Welch's t. scipy 1.16 and later contain the
    same test.

    Parameters
    ----------
    groups : Sequence[npt.ArrayLike]
        Independent values of each group (n,).

    Returns
    -------
    WelchAnova
        All values are NaN if there are fewer than two groups, or if a group has fewer than two
        values or no variance.

    >>> result = welch_anova([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0]])
    >>> round(result.f, 3), round(result.dof_within, 3)
    (2.4, 2.941)
    """
    values = [np.asarray(group, dtype=np.float64) for group in groups]
    if len(values) < 2 or any(len(group) < 2 for group in values):
        return WelchAnova()
    count = np.array([len(group) for group in values], dtype=np.float64)
    mean = np.array([group.mean() for group in values])
    variance = np.array([group.var(ddof=1) for group in values])
    if not (np.isfinite(variance).all() and (variance > 0).all()):
        return WelchAnova()
    k = len(values)
    weight = count / variance
    share = weight / weight.sum()
    between_mean_square = float((weight * (mean - (share * mean).sum()) ** 2).sum()) / (k - 1)
    spread = float(((1 - share) ** 2 / (count - 1)).sum())
    f = between_mean_square / (1 + 2 * (k - 2) / (k**2 - 1) * spread)
    dof = (k**2 - 1) / (3 * spread)
    return WelchAnova(
        f=f, dof_between=float(k - 1), dof_within=dof, p=float(stats.f.sf(f, k - 1, dof))
    )


Scores = Mapping[str, Mapping[str, float]]
"""Scores for one metric: method → participant → score."""
ScoreRow = dict[str, str | float]
"""Cells of a table row by column; undefined numbers are NaN."""


@frozen
class Score:
    """Value of one metric for one method in one image of a participant."""

    name: str
    participant: str
    metric: str
    value: float


def scores_by_metric(scores: Iterable[Score]) -> dict[str, dict[str, dict[str, float]]]:
    """Average scores within participants, sorted by metric, method and participant."""
    values: dict[str, dict[str, dict[str, list[float]]]] = {}
    for score in scores:
        method_values = values.setdefault(score.metric, {}).setdefault(score.name, {})
        method_values.setdefault(score.participant, []).append(score.value)
    return {
        metric: {
            name: {
                participant: float(np.mean(image_values))
                for participant, image_values in participants.items()
            }
            for name, participants in methods.items()
        }
        for metric, methods in values.items()
    }


def summarize(by_metric: Mapping[str, Scores]) -> list[ScoreRow]:
    """Return mean, SD and 95 % t interval over participants, one row per metric and method.

    Participants without a finite score are ignored. SD and interval are NaN if there are fewer
    than two participants.
    """
    rows = list[ScoreRow]()
    for metric, methods in by_metric.items():
        for name, participants in methods.items():
            values = np.array([value for value in participants.values() if math.isfinite(value)])
            mean = float(values.mean()) if len(values) else math.nan
            sd = float(values.std(ddof=1)) if len(values) > 1 else math.nan
            half = _half_width(sd, len(values))
            rows.append(
                {
                    "metric": metric,
                    "name": name,
                    "n": len(values),
                    "mean": mean,
                    "sd": sd,
                    "lower": mean - half,
                    "upper": mean + half,
                }
            )
    return rows


def _half_width(sd: float, n: int) -> float:
    """Return half the width of the 95 % t interval of a mean; NaN if n < 2."""
    if n < 2:
        return math.nan
    return float(special.stdtrit(n - 1, 1 - ALPHA / 2)) * sd / math.sqrt(n)


def compare_pairs(by_metric: Mapping[str, Scores], trained: Sequence[str]) -> list[ScoreRow]:
    """Compare all pairs of methods by paired t tests and Wilcoxon's signed-rank tests.

    Holm's procedure corrects the p values of each test over the pairs of a metric.

    Parameters
    ----------
    by_metric : Mapping[str, Scores]
        Scores from `scores_by_metric`. A pair is only compared over participants with finite
        scores for both methods, and skipped if there are fewer than two of them.
    trained : Sequence[str]
        Methods of interest; pairs without any of them are skipped. Empty for all pairs.

    Returns
    -------
    list[ScoreRow]
        One row per metric and pair; ``difference`` is the mean of ``name`` minus ``minus``.
    """
    rows = list[ScoreRow]()
    for metric, methods in by_metric.items():
        family = list[ScoreRow]()
        for method, reference in _pairs(list(methods), trained):
            participants = [
                participant
                for participant, value in methods[method].items()
                if math.isfinite(value)
                and math.isfinite(methods[reference].get(participant, math.nan))
            ]
            if len(participants) < 2:
                continue
            d = differences(
                [methods[method][participant] for participant in participants],
                [methods[reference][participant] for participant in participants],
            )
            half = _half_width(float(d.std(ddof=1)), len(d))
            mean = float(d.mean())
            t_test, rank_test = paired_t(d), signed_rank(d)
            family.append(
                {
                    "metric": metric,
                    "name": method,
                    "minus": reference,
                    "n": len(d),
                    "difference": mean,
                    "lower": mean - half,
                    "upper": mean + half,
                    "t": t_test["t"],
                    "dof": t_test["dof"],
                    "p_t": t_test["p_t"],
                    "p_t_holm": math.nan,
                    "w_plus": rank_test["w_plus"],
                    "p_wilcoxon": rank_test["p_wilcoxon"],
                    "p_wilcoxon_holm": math.nan,
                }
            )
        for test in ("p_t", "p_wilcoxon"):
            corrected = holm([float(row[test]) for row in family])
            for row, p in zip(family, corrected, strict=True):
                row[f"{test}_holm"] = p
        rows += family
    return rows


def _pairs(names: Sequence[str], trained: Sequence[str]) -> list[tuple[str, str]]:
    """Return the pairs to compare, with a trained method first in each pair."""
    ordered = sorted(names, key=lambda name: name not in trained)
    return [
        (method, reference)
        for method, reference in combinations(ordered, 2)
        if not trained or method in trained
    ]


def compare_models(by_metric: Mapping[str, Scores], trained: Sequence[str]) -> list[ScoreRow]:
    """Test by Welch's ANOVA whether the trained models differ, one row per metric.

    Each model is a group of participants' values, as in mouse-sr's comparison of training
    resolutions. The groups contain the same participants, so that paired tests are more powerful.
    The result is empty if there are fewer than two models.
    """
    if len(trained) < 2:
        return []
    return [
        _anova_row(metric, "model", "n/a", {name: methods.get(name, {}) for name in trained})
        for metric, methods in by_metric.items()
    ]


def compare_groups(by_metric: Mapping[str, Scores], group_of: Mapping[str, str]) -> list[ScoreRow]:
    """Test by Welch's ANOVA whether groups of participants differ, one row per metric and method.

    Parameters
    ----------
    by_metric : Mapping[str, Scores]
        Scores from `scores_by_metric`.
    group_of : Mapping[str, str]
        Group of each participant, such as the scanner or resolution. The result is empty if there
        are fewer than two groups.
    """
    labels = list(dict.fromkeys(group_of.values()))
    if len(labels) < 2:
        return []
    rows = list[ScoreRow]()
    for metric, methods in by_metric.items():
        for name, participants in methods.items():
            groups = {
                label: {
                    participant: value
                    for participant, value in participants.items()
                    if group_of[participant] == label
                }
                for label in labels
            }
            rows.append(_anova_row(metric, "group", name, groups))
    return rows


def _anova_row(metric: str, factor: str, name: str, groups: Scores) -> ScoreRow:
    """Return a row of Welch's ANOVA over named groups."""
    values = [[v for v in scores.values() if math.isfinite(v)] for scores in groups.values()]
    anova = welch_anova(values)
    return {
        "metric": metric,
        "factor": factor,
        "name": name,
        "groups": "; ".join(
            f"{label} (n = {len(group_values)})"
            for label, group_values in zip(groups, values, strict=True)
        ),
        "f": anova.f,
        "dof_between": anova.dof_between,
        "dof_within": anova.dof_within,
        "p": anova.p,
    }
