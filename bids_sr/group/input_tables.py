"""Metrics tables of participants: found below a derivatives folder, and which are missing."""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import pandas as pd

from bids_sr.bids import entities_of
from bids_sr.bids.entities import ENTITIES, label_of
from bids_sr.group.equal_contrasts import unequal_contrasts
from bids_sr.metrics.rows import MISSING

TABLES = ("image", "activation", "evaluation")
RUN_WEIGHTS = "RunWeights"
"""Key of the sidecars of maps and tables of all runs of a participant together."""


RunFilter = Callable[[Mapping[str, str]], bool]
"""Told the entities of a file (long names of pybids), whether its run takes part."""
_SHORT = {long: short for short, long in ENTITIES.items()}
_OF_FILES = ("echo", "part", "space", "cohort", "res", "contrast", "stat", "label", "desc")
_PLACE = ("subject", "session", "task", "run")
_LISTED = 6  # files of an odd version in a message


def run_name(entities: Mapping[str, str]) -> str:
    """Start of the names of all files of a run, whose echoes and parts are one."""
    return "_".join(
        f"{_SHORT.get(key, key)}-{label}"
        for key, label in entities.items()
        if key not in _OF_FILES
    )


def _run_text(columns: pd.DataFrame) -> pd.Series:
    """The runs of a table of them as text."""
    text = columns["participant"]
    for start, name in (
        (" ses-", "session"),
        (" task-", "task"),
        (" run-", "run"),
        (" ", "variant"),
    ):
        text = text + (start + columns[name]).where(columns[name] != MISSING, "")
    return text


def run_columns(entities: Mapping[str, str]) -> dict[str, str]:
    """Return the cells that identify a run in the tables of the group, from its entities."""
    others = {key: label for key, label in entities.items() if key not in _PLACE}
    return {
        "participant": f"sub-{entities['subject']}",
        **{name: entities.get(name, MISSING) for name in _PLACE[1:]},
        "variant": run_name(others) or MISSING,
    }


def _scan(entities: Mapping[str, str]) -> frozenset[tuple[str, str]]:
    """Entities of a run, apart from how its number is written."""
    return frozenset((key, label_of(entities, key)) for key in entities if key not in _OF_FILES)


def func_files(output_dir: Path, ending: str) -> Iterator[tuple[Path, list[str]]]:
    """Return the ``func`` folders of all participants, each with the names that end so.

    Matching paths by pattern takes many times as long.
    """
    for participant in output_dir.glob("sub-*"):
        for place, _, names in os.walk(participant):
            if os.path.basename(place) == "func":
                yield Path(place), sorted(name for name in names if name.endswith(ending))


def find_tables(output_dir: Path, asked: RunFilter = lambda _: True) -> pd.DataFrame:
    """Find all metrics tables of participants in a derivatives folder, in the order of their runs.

    A row each: participant, session, task, run and variant as in the group's table, their text
    (``name``), path, table, version and digest of the settings (empty if not recorded), whether
    seeds took the place of events (``at_rest``), weights of the trial types by contrast, and the
    contrasts that are left out because their weights differ from most participants' (``unequal``).
    """
    rows = []
    folders = func_files(output_dir, "_metrics.tsv")
    for path in (folder / name for folder, names in folders for name in names):
        entities = entities_of(path)
        if entities.get("desc") in TABLES and asked(entities):
            beside = path.with_suffix(".json")
            facts = json.loads(beside.read_text(encoding="utf-8")) if beside.exists() else {}
            if RUN_WEIGHTS in facts:
                continue  # of all runs together, whose tables are combined here
            rows.append(
                {
                    **run_columns(entities),
                    "table": entities["desc"],
                    "path": path,
                    "version": str(facts.get("GeneratedByVersion", "")),
                    "digest": str(facts.get("SettingsDigest", "")),
                    "at_rest": facts.get("MappedBy") == "seeds",
                    "weights": facts.get("ContrastWeights", {}),
                    "stem": run_name(entities),
                    "scan": _scan(entities),
                }
            )
    if not rows:
        return pd.DataFrame()
    table = pd.DataFrame(rows)
    table["table"] = pd.Categorical(table["table"], categories=TABLES, ordered=True)
    table = table.sort_values(
        ["participant", "session", "task", "run", "variant", "table"], ignore_index=True
    )
    table = table.assign(name=_run_text(table))
    unequal = unequal_contrasts(table)
    return table.assign(unequal=[unequal.get(name, frozenset()) for name in table["name"]])


def mixed(tables: pd.DataFrame) -> list[str]:
    """Return the reasons why tables cannot be joined.

    The reasons are other versions or settings, named with their files. The list is empty if there
    are none.

    The most frequent is taken for the rule and the files that differ from it are listed.

    One line for each version or settings; empty where they agree.
    """
    lines = []
    for what, key in (("bids-sr version", "version"), ("settings", "digest")):
        counts = tables[key].value_counts()
        rule, *others = sorted(counts.index, key=lambda value: (-counts[value], value))
        for value in [rule, *others] if others else []:
            paths = [str(path) for path in tables["path"][tables[key] == value]]
            if value == rule:
                where = f"{len(paths)} tables (for example, {paths[0]})"
            else:
                more = f" and {len(paths) - _LISTED} other tables" if len(paths) > _LISTED else ""
                where = ", ".join(paths[:_LISTED]) + more
            lines.append(f"{what}: {value or 'not recorded'} in {where}")
    return lines


def absent(expected: Iterable[str], tables: pd.DataFrame) -> list[tuple[str, str]]:
    """Return the participants and runs that are missing.

    These are participants (``sub-…``) without any table, and runs without one that others have.

    Each as what logs call whom it is about (nobody: empty), and in words.
    """
    lines = [
        (label, f"{label}: no metrics tables were found for this participant")
        for label in sorted(set(expected) - set(tables["participant"]))
    ]
    for _, of_task in tables.groupby("task", sort=False):
        there = set(of_task["table"])
        for (name, who), own in of_task.groupby(["name", "participant"], sort=False)["table"]:
            if lacking := sorted(there.difference(own), key=TABLES.index):
                lines.append(
                    (
                        who,
                        f"{name}: no table with {' or '.join(lacking)} metrics was found for "
                        "this run",
                    )
                )
    nowhere = [name for name in TABLES[1:] if not (tables["table"] == name).any()]
    return [
        *lines,
        *(("", f"no table with {name} metrics was found for any run") for name in nowhere),
    ]


def absent_runs(runs: Iterable[Mapping[str, str]], tables: pd.DataFrame) -> list[tuple[str, str]]:
    """Return runs without a table of the included participants, in the form of `absent`.

    The runs are found by their entities.
    """
    people, known = set(tables["participant"]), set(tables["scan"])
    why = (
        "no metrics table was found, because the run was skipped or not processed, or is a "
        "calibration or reference run"
    )
    lacking = [
        run for run in runs if f"sub-{run['subject']}" in people and _scan(run) not in known
    ]
    return [(name, f"{name}: {why}") for name in dict.fromkeys(map(run_name, lacking))]
