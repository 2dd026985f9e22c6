"""Scores of several methods in the same participants: summary, paired tests, analysis of variance.

Scores of several images are averaged within participants.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import combinations

import numpy as np

from bids_sr.engine.metric_rows import MISSING, parse_cell
from bids_sr.evaluation.statistics import comparisons
from bids_sr.evaluation.statistics.summaries import summarize as summarize_values

_LEAST_N = 2  # participants, smallest sample of a test


Scores = Mapping[str, Mapping[str, float]]
"""Scores for one metric: method → participant → score."""
ScoreRow = dict[str, str | float]
"""Cells of a table row by column; undefined numbers are NaN."""


def average_scores(
    rows: Sequence[ScoreRow], metrics: Sequence[str]
) -> dict[str, dict[str, dict[str, float]]]:
    """Average scores of images within participants: metric → method → participant → mean.

    `rows` has one row per image and method, with the columns `metrics`, ``name`` and
    ``participant``.
    """
    means: dict[str, dict[str, dict[str, float]]] = {}
    for metric in metrics:
        image_scores: dict[tuple[str, str], list[float]] = defaultdict(list)
        for row in rows:
            key = str(row["name"]), str(row["participant"])
            image_scores[key].append(parse_cell(row[metric]))
        means[metric] = defaultdict(dict)
        for (name, participant), scores in image_scores.items():
            means[metric][name][participant] = float(np.mean(scores))
    return means


def summarize(scores_by_metric: Mapping[str, Scores]) -> list[ScoreRow]:
    """Return mean, SD and 95 % t interval over participants, one row per metric and method.

    Participants without a finite score are ignored. SD and interval are NaN if there are fewer
    than two participants.
    """
    return [
        {"metric": metric, "name": name, **asdict(summarize_values([*participants.values()]))}
        for metric, methods in scores_by_metric.items()
        for name, participants in methods.items()
    ]


def compare_pairs(
    scores_by_metric: Mapping[str, Scores], trained_methods: Sequence[str]
) -> list[ScoreRow]:
    """Compare all pairs of methods over participants with finite scores for both.

    Holm's procedure corrects the p values of each test over the pairs of a metric. Pairs without
    two such participants are skipped, and pairs without any of `trained_methods`, unless these are
    empty. Columns are ``models_tests`` of ``columns.json``.
    """
    rows = list[ScoreRow]()
    for metric, methods in scores_by_metric.items():
        participants = list(dict.fromkeys(name for scores in methods.values() for name in scores))
        values = {
            method: np.array([scores.get(name, math.nan) for name in participants])
            for method, scores in methods.items()
        }
        compared = [
            pair
            for pair in comparisons.compare_pairs(
                values, _list_pairs(list(methods), trained_methods)
            )
            if pair.n >= _LEAST_N
        ]
        corrected = comparisons.correct(compared, [metric] * len(compared), least_n=_LEAST_N)
        rows += [{"statistic": metric, **pair.cells()} for pair in corrected]
    return rows


def _list_pairs(names: Sequence[str], trained_methods: Sequence[str]) -> list[tuple[str, str]]:
    """Return the pairs to compare, with a trained method first in each pair."""
    ordered_names = sorted(names, key=lambda name: name not in trained_methods)
    return [
        (method, reference)
        for method, reference in combinations(ordered_names, 2)
        if not trained_methods or method in trained_methods
    ]


def compare_models(
    scores_by_metric: Mapping[str, Scores], trained_methods: Sequence[str]
) -> list[ScoreRow]:
    """Test by Welch's ANOVA whether the trained models differ, one row per metric.

    Each model is a group of participants' values, as in mouse-sr's comparison of training
    resolutions. The groups contain the same participants, so that paired tests are more powerful.
    The result is empty if there are fewer than two models.
    """
    if len(trained_methods) < 2:
        return []
    return [
        _make_anova_row(
            metric, "model", MISSING, {name: methods.get(name, {}) for name in trained_methods}
        )
        for metric, methods in scores_by_metric.items()
    ]


def compare_groups(
    scores_by_metric: Mapping[str, Scores], group_of_participant: Mapping[str, str]
) -> list[ScoreRow]:
    """Test by Welch's ANOVA whether groups of participants differ, one row per metric and method.

    Scores are from `average_scores`. `group_of_participant` contains, for example, the scanner or
    the resolution. The result is empty if there are fewer than two groups.
    """
    labels = list(dict.fromkeys(group_of_participant.values()))
    if len(labels) < 2:
        return []
    rows = list[ScoreRow]()
    for metric, methods in scores_by_metric.items():
        for name, participants in methods.items():
            groups = {
                label: {
                    participant: score
                    for participant, score in participants.items()
                    if group_of_participant[participant] == label
                }
                for label in labels
            }
            rows.append(_make_anova_row(metric, "group", name, groups))
    return rows


def _make_anova_row(metric: str, factor: str, name: str, groups: Scores) -> ScoreRow:
    """Return a row of Welch's ANOVA over named groups.

    All results are NaN if a group has fewer than two values or no variance.
    """
    finite_scores = [
        [score for score in scores.values() if math.isfinite(score)] for scores in groups.values()
    ]
    f = dof_between = dof_within = p = math.nan
    if len(groups) > 1 and all(len(set(scores)) > 1 for scores in finite_scores):
        from statsmodels.stats.oneway import anova_oneway  # takes .1 s

        anova = anova_oneway(finite_scores, use_var="unequal")
        f, (dof_between, dof_within), p = anova.statistic, anova.df, anova.pvalue
    return {
        "metric": metric,
        "factor": factor,
        "name": name,
        "groups": "; ".join(
            f"{label} (n = {len(scores)})"
            for label, scores in zip(groups, finite_scores, strict=True)
        ),
        "f": float(f),
        "dof_between": float(dof_between),
        "dof_within": float(dof_within),
        "p": float(p),
    }
