"""Contrasts with the same meaning in all runs: only runs with equal weights are combined.

``all`` of three trial types is another contrast than ``all`` of two trial types, for example in a
run without any error trials.
"""

from collections import defaultdict

import pandas as pd

from bids_sr.glm.contrasts import ComparableWeights, comparable


def unequal_contrasts(tables: pd.DataFrame) -> dict[str, frozenset[str]]:
    """Return the contrasts of each run whose weights differ from the weights in most participants.

    `tables` has one row per metrics table, with the columns participant, task, variant, name (of
    the run) and weights (trial-type weights by contrast; empty if they are not recorded). The
    result has the contrasts by run name; runs without such contrasts are absent.
    """
    unequal: dict[str, set[str]] = defaultdict(set)
    for _, task_tables in tables.groupby(["task", "variant"], sort=False):
        for run, contrast in _list_unequal_contrasts(task_tables):
            unequal[run].add(contrast)
    return {run: frozenset(contrasts) for run, contrasts in unequal.items()}


def _list_unequal_contrasts(task_tables: pd.DataFrame) -> list[tuple[str, str]]:
    """Return the contrasts of one task with unusual weights, as pairs of run name and contrast."""
    participants: dict[str, dict[ComparableWeights, set[str]]] = {}
    run_weights: dict[tuple[str, str], ComparableWeights] = {}
    for row in task_tables.itertuples():
        for contrast, trial_type_weights in row.weights.items():
            weights = comparable(trial_type_weights)
            run_weights[row.name, contrast] = weights
            by_weights = participants.setdefault(contrast, defaultdict(set))
            by_weights[weights].add(row.participant)
    # of most participants; ties are resolved by the number of trial types, then by their names
    usual_weights = {
        contrast: max(
            (len(labels), len(weights), weights) for weights, labels in by_weights.items()
        )[2]
        for contrast, by_weights in participants.items()
    }
    return [
        (run, contrast)
        for (run, contrast), weights in run_weights.items()
        if weights != usual_weights[contrast]
    ]


def unequal_lines(tables: pd.DataFrame) -> list[tuple[str, str]]:
    """Return the participant and a sentence for each run with excluded contrasts.

    `tables` is as in `unequal_contrasts`, with the additional column unequal (contrasts).
    """
    runs = tables.drop_duplicates("name")
    lines = []
    for row in runs[runs["unequal"].map(bool)].itertuples():
        names = sorted(row.unequal)
        subject = (
            f"contrast {names[0]} was" if len(names) == 1 else f"contrasts {', '.join(names)} were"
        )
        lines.append(
            (
                row.participant,
                f"{row.name}: the {subject} excluded from the group analysis, because the weights "
                "of the trial types differ from the weights in most participants",
            )
        )
    return lines
