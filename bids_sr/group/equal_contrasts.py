"""Contrasts with the same meaning in all runs: only runs with equal weights are combined.

``all`` of three trial types is another contrast than ``all`` of two trial types, for example in a
run without any error trials.
"""

from collections import defaultdict
from collections.abc import Iterator

import pandas as pd

from bids_sr.glm.contrasts import ComparableWeights, comparable


def unequal_contrasts(tables: pd.DataFrame) -> dict[str, dict[str, str]]:
    """Return why contrasts of a run are excluded, by run name and contrast.

    The weights that most participants have are kept. Among equally frequent weights, these are
    the weights of more trial types, and then of the first participant.

    `tables` has one row per metrics table, with the columns participant, task, variant, name (of
    the run) and weights (trial-type weights by contrast; empty if they are not recorded). Runs
    without such contrasts are absent from the result.
    """
    reasons: dict[str, dict[str, str]] = defaultdict(dict)
    for _, task_tables in tables.groupby(["task", "variant"], sort=False):
        for run, contrast, reason in _explain_unequal(task_tables):
            reasons[run][contrast] = reason
    return dict(reasons)


def _explain_unequal(task_tables: pd.DataFrame) -> Iterator[tuple[str, str, str]]:
    """Yield run name, contrast and reason of the contrasts of one task with unusual weights."""
    participants: dict[str, dict[ComparableWeights, set[str]]] = defaultdict(
        lambda: defaultdict(set)
    )
    run_weights: dict[tuple[str, str], ComparableWeights] = {}
    for row in task_tables.itertuples():
        for contrast, trial_type_weights in row.weights.items():
            weights = run_weights[row.name, contrast] = comparable(trial_type_weights)
            participants[contrast][weights].add(row.participant)
    for (run, contrast), weights in run_weights.items():
        by_weights = participants[contrast]
        usual = min(by_weights, key=lambda w: (-len(by_weights[w]), -len(w), min(by_weights[w])))
        if weights != usual:
            weights_text = ", ".join(f"{weight:g} {name}" for name, weight in usual)
            yield (
                run,
                contrast,
                f"other weights of the trial types were kept ({weights_text};"
                f" {len(by_weights[usual])} of {len(set().union(*by_weights.values()))}"
                " participants have them)",
            )


def unequal_lines(tables: pd.DataFrame) -> list[tuple[str, str]]:
    """Return the participant and a sentence for each run and reason of excluded contrasts.

    `tables` is as in `unequal_contrasts`, with the additional column unequal (reasons by
    contrast).
    """
    lines = []
    for row in tables.drop_duplicates("name").itertuples():
        for reason in dict.fromkeys(row.unequal.values()):
            names = sorted(name for name, other in row.unequal.items() if other == reason)
            subject = (
                f"contrast {names[0]} was"
                if len(names) == 1
                else f"contrasts {', '.join(names)} were"
            )
            text = f"{row.name}: the {subject} excluded from the group analysis, because {reason}"
            lines.append((row.participant, text))
    return lines
