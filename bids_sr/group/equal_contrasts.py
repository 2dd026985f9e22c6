"""Contrasts that mean the same in all runs: only runs with equal weights are combined.

``all`` of three trial types is another contrast than ``all`` of two, as in a run in which the
participant made no error.
"""

from collections import defaultdict

import pandas as pd

from bids_sr.glm.contrasts import ComparableWeights, comparable


def unequal_contrasts(tables: pd.DataFrame) -> dict[str, frozenset[str]]:
    """Return the contrasts of each run that differ in their weights from most participants'.

    Parameters
    ----------
    tables : pd.DataFrame
        A row per table of metrics, with the columns participant, task, variant, name (of the run)
        and weights (weights of trial types by contrast; empty if they are not recorded).

    Returns
    -------
    dict[str, frozenset[str]]
        Names of contrasts by the name of the run; runs without such contrasts are missing.
    """
    left_out: dict[str, set[str]] = defaultdict(set)
    for _, of_task in tables.groupby(["task", "variant"], sort=False):
        people: dict[str, dict[ComparableWeights, set[str]]] = defaultdict(
            lambda: defaultdict(set)
        )
        runs: dict[str, dict[str, ComparableWeights]] = defaultdict(dict)
        for row in of_task.itertuples():
            for contrast, weights in row.weights.items():
                runs[row.name][contrast] = comparable(weights)
                people[contrast][comparable(weights)].add(row.participant)
        usual = {
            contrast: max(variants, key=lambda one: (len(variants[one]), len(one), one))
            for contrast, variants in people.items()
        }
        for name, contrasts in runs.items():
            for contrast, weights in contrasts.items():
                if weights != usual[contrast]:
                    left_out[name].add(contrast)
    return {name: frozenset(contrasts) for name, contrasts in left_out.items()}


def unequal_lines(tables: pd.DataFrame) -> list[tuple[str, str]]:
    """Return the participant and a sentence for each run with contrasts that are left out.

    `tables`: as `unequal_contrasts` takes them, with the column unequal (names of contrasts).
    """
    runs = tables.drop_duplicates("name")
    lines = []
    for row in runs[runs["unequal"].map(bool)].itertuples():
        names = sorted(row.unequal)
        which = (
            f"contrast {names[0]} was" if len(names) == 1 else f"contrasts {', '.join(names)} were"
        )
        lines.append(
            (
                row.participant,
                f"{row.name}: the {which} excluded from the group analysis, because the weights "
                "of the trial types differ from the weights in most participants",
            )
        )
    return lines
