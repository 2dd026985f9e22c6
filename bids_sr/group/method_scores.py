"""Scores of several methods in the same participants: summary, paired tests, analysis of variance.

A participant with several images counts once, with the mean of its scores.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

import numpy as np
from scipy import special

from bids_sr.frozen import frozen
from bids_sr.group.paired_tests import ALPHA, differences, holm, paired_t, signed_rank
from bids_sr.group.welch import welch_anova

Scores = Mapping[str, Mapping[str, float]]
"""One metric: name of the method → participant → score."""
ScoreRow = dict[str, str | float]
"""Cells of a table by column; NaN for a number that is not defined."""


@frozen
class Score:
    """One metric of one method in one image of a participant."""

    name: str
    participant: str
    metric: str
    value: float


def scores_by_metric(scores: Iterable[Score]) -> dict[str, dict[str, dict[str, float]]]:
    """Return the mean score of each participant, by metric, method and participant."""
    values: dict[str, dict[str, dict[str, list[float]]]] = {}
    for one in scores:
        of_method = values.setdefault(one.metric, {}).setdefault(one.name, {})
        of_method.setdefault(one.participant, []).append(one.value)
    return {
        metric: {
            name: {who: float(np.mean(of_images)) for who, of_images in people.items()}
            for name, people in methods.items()
        }
        for metric, methods in values.items()
    }


def summarize(by_metric: Mapping[str, Scores]) -> list[ScoreRow]:
    """Return mean, SD and 95 % t interval over participants, one row per metric and method.

    Participants whose score is not finite do not count. SD and interval are NaN for fewer than
    two participants.
    """
    rows = list[ScoreRow]()
    for metric, methods in by_metric.items():
        for name, people in methods.items():
            values = np.array([value for value in people.values() if math.isfinite(value)])
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
    """Return half the width of the 95 % t interval of a mean; NaN for fewer than two values."""
    if n < 2:
        return math.nan
    return float(special.stdtrit(n - 1, 1 - ALPHA / 2)) * sd / math.sqrt(n)


def compare_pairs(by_metric: Mapping[str, Scores], trained: Sequence[str]) -> list[ScoreRow]:
    """Test all pairs of methods by paired t and Wilcoxon's signed-rank test.

    p values are corrected by Holm's procedure over the pairs of one metric, for each test.

    Parameters
    ----------
    by_metric : Mapping[str, Scores]
        As of `scores_by_metric`. Participants without a finite score in both methods are left
        out of a pair; pairs with fewer than two participants are not tested.
    trained : Sequence[str]
        Names of the methods of interest: pairs of two others are left out. Empty for all pairs.

    Returns
    -------
    list[ScoreRow]
        One row per metric and pair; ``difference`` is the mean of ``name`` minus ``minus``.
    """
    rows = list[ScoreRow]()
    for metric, methods in by_metric.items():
        family = list[ScoreRow]()
        for one, other in _pairs(list(methods), trained):
            people = [
                who
                for who, value in methods[one].items()
                if math.isfinite(value) and math.isfinite(methods[other].get(who, math.nan))
            ]
            if len(people) < 2:
                continue
            d = differences(
                [methods[one][who] for who in people], [methods[other][who] for who in people]
            )
            half = _half_width(float(d.std(ddof=1)), len(d))
            mean = float(d.mean())
            tested, ranked = paired_t(d), signed_rank(d)
            family.append(
                {
                    "metric": metric,
                    "name": one,
                    "minus": other,
                    "n": len(d),
                    "difference": mean,
                    "lower": mean - half,
                    "upper": mean + half,
                    "t": tested["t"],
                    "dof": tested["dof"],
                    "p_t": tested["p_t"],
                    "p_t_holm": math.nan,
                    "w_plus": ranked["w_plus"],
                    "p_wilcoxon": ranked["p_wilcoxon"],
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
    """Return the pairs to test, a trained method first."""
    ordered = sorted(names, key=lambda name: name not in trained)
    return [
        (one, other) for one, other in combinations(ordered, 2) if not trained or one in trained
    ]


def compare_models(by_metric: Mapping[str, Scores], trained: Sequence[str]) -> list[ScoreRow]:
    """Test by Welch's ANOVA whether the trained models differ, one row per metric.

    Each model is a group and each participant a value of it, as mouse-sr compares training
    resolutions. The groups are the same participants, so that the paired tests are more powerful.
    Fewer than two models give no row.
    """
    if len(trained) < 2:
        return []
    return [
        _anova_row(metric, "model", "n/a", {name: methods.get(name, {}) for name in trained})
        for metric, methods in by_metric.items()
    ]


def compare_groups(by_metric: Mapping[str, Scores], group_of: Mapping[str, str]) -> list[ScoreRow]:
    """Test by Welch's ANOVA whether groups of participants differ, one row per metric and method.

    `group_of`: group of each participant, such as its scanner or resolution. Fewer than two
    groups give no row.
    """
    labels = list(dict.fromkeys(group_of.values()))
    if len(labels) < 2:
        return []
    rows = list[ScoreRow]()
    for metric, methods in by_metric.items():
        for name, people in methods.items():
            groups = {
                label: {who: value for who, value in people.items() if group_of[who] == label}
                for label in labels
            }
            rows.append(_anova_row(metric, "group", name, groups))
    return rows


def _anova_row(metric: str, factor: str, name: str, groups: Scores) -> ScoreRow:
    """Return a row of Welch's ANOVA over groups by their names."""
    values = [[v for v in people.values() if math.isfinite(v)] for people in groups.values()]
    found = welch_anova(values)
    return {
        "metric": metric,
        "factor": factor,
        "name": name,
        "groups": "; ".join(
            f"{label} (n = {len(of_group)})"
            for label, of_group in zip(groups, values, strict=True)
        ),
        "f": found.f,
        "dof_between": found.dof_between,
        "dof_within": found.dof_within,
        "p": found.p,
    }
