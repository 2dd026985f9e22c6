"""Contrasts with the same meaning in all runs: only runs with equal weights are combined.

``all`` of three trial types is another contrast than ``all`` of two trial types, for example in a
run without any error trials.
"""

from collections import defaultdict

import pandas as pd

from bids_sr.glm.contrasts import ComparableWeights, comparable


def unequal_contrasts(tables: pd.DataFrame) -> dict[str, frozenset[str]]:
    """Return the contrasts of each run whose weights differ from the weights in most participants.

    Parameters
    ----------
    tables : pd.DataFrame
        One row per metrics table, with the columns participant, task, variant, name (of the run)
        and weights (trial-type weights by contrast; empty if they are not recorded).

    Returns
    -------
    dict[str, frozenset[str]]
        Contrasts by run name. Runs without such contrasts are absent.
    """
    unequal: dict[str, set[str]] = defaultdict(set)
    for _, task_tables in tables.groupby(["task", "variant"], sort=False):
        participants: dict[str, dict[ComparableWeights, set[str]]] = defaultdict(
            lambda: defaultdict(set)
        )
        runs: dict[str, dict[str, ComparableWeights]] = defaultdict(dict)
        for row in task_tables.itertuples():
            for contrast, weights in row.weights.items():
                runs[row.name][contrast] = comparable(weights)
                participants[contrast][comparable(weights)].add(row.participant)
        usual_weights = {
            contrast: max(
                variants, key=lambda variant: (len(variants[variant]), len(variant), variant)
            )
            for contrast, variants in participants.items()
        }
        for name, contrasts in runs.items():
            for contrast, weights in contrasts.items():
                if weights != usual_weights[contrast]:
                    unequal[name].add(contrast)
    return {name: frozenset(contrasts) for name, contrasts in unequal.items()}


def unequal_lines(tables: pd.DataFrame) -> list[tuple[str, str]]:
    """Return the participant and a sentence for each run with excluded contrasts.

    Parameters
    ----------
    tables : pd.DataFrame
        Tables in the form of `unequal_contrasts`, with the additional column unequal (contrasts).
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
