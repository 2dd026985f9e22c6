"""Names of runs in group tables and messages, from the entities of their files."""

from collections.abc import Mapping

import pandas as pd

from bids_sr.engine.metric_rows import MISSING
from bids_sr.survey.bids.entities import SHORT_NAMES, parse_label

# entities that distinguish the files of a run
_FILE_ENTITIES = ("echo", "part", "space", "cohort", "res", "contrast", "stat", "label", "desc")
# entities that have columns of their own in the group tables
_RUN_ENTITIES = ("subject", "session", "task", "run")


def run_columns(entities: Mapping[str, str]) -> dict[str, str]:
    """Return the cells that identify a run in the group tables, by column.

    The columns are participant, session, task, run and variant; n/a if an entity is missing.
    """
    variant_entities = {key: label for key, label in entities.items() if key not in _RUN_ENTITIES}
    return {
        "participant": f"sub-{entities['subject']}",
        **{name: entities.get(name, MISSING) for name in _RUN_ENTITIES[1:]},
        "variant": run_name(variant_entities) or MISSING,
    }


def run_name(entities: Mapping[str, str]) -> str:
    """Return the common start of all file names of a run, without echo and part."""
    return "_".join(
        f"{SHORT_NAMES.get(key, key)}-{label}"
        for key, label in entities.items()
        if key not in _FILE_ENTITIES
    )


def run_labels(columns: pd.DataFrame) -> pd.Series:
    """Return the label of the run in each row, as it is written in messages.

    `columns` are cells of `run_columns`.
    """
    labels = columns["participant"]
    for prefix, name in (
        (" ses-", "session"),
        (" task-", "task"),
        (" run-", "run"),
        (" ", "variant"),
    ):
        labels = labels + (prefix + columns[name]).where(columns[name] != MISSING, "")
    return labels


def run_key(entities: Mapping[str, str]) -> frozenset[tuple[str, str]]:
    """Return the entities that identify a run; leading zeros in its number are ignored."""
    return frozenset(
        (key, parse_label(entities, key)) for key in entities if key not in _FILE_ENTITIES
    )
