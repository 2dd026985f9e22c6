"""Participants' metrics tables in a derivatives folder, and lists of missing tables."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd

from bids_sr.group.equal_contrasts import unequal_contrasts
from bids_sr.group.run_names import run_columns, run_key, run_labels, run_name
from bids_sr.io.json_values import as_mapping
from bids_sr.io.notices import Notice, UsageError
from bids_sr.survey.bids.entities import parse_entities
from bids_sr.survey.bids.inheritance import read_object
from bids_sr.survey.notices import InputError

TABLES = ("image", "activation", "evaluation")
RUN_WEIGHTS = "RunWeights"
"""Key in the sidecars of combined maps and tables of all runs of a participant."""

RunFilter = Callable[[Mapping[str, str]], bool]
"""Function that decides from a file's entities (pybids names) whether its run is included."""
_MAX_LISTED_FILES = 6  # files, most that a message lists per version or settings


def find_tables(output_dir: Path, is_selected: RunFilter = lambda _: True) -> pd.DataFrame:
    """Find all metrics tables of participants in a derivatives folder, in the order of runs.

    `is_selected` filters runs by their entities. There is one row per table. Columns participant,
    session, task, run and variant are as in the group table. The run is identified by its label in
    messages (name), by the common start of its file names (stem), and by its entities for
    comparison with runs of the dataset (scan). Other columns are path, table, version and hash of
    the settings (digest; "" if not recorded), whether seeds replaced events (at_rest), trial-type
    weights by contrast (weights), and the reasons of contrasts that are excluded because other
    participants have other weights (unequal). Raises `InputError` if a sidecar cannot be
    read.
    """
    rows = list(_read_rows(output_dir, is_selected))
    if not rows:
        return pd.DataFrame()
    table = pd.DataFrame(rows)
    table["table"] = pd.Categorical(table["table"], categories=TABLES, ordered=True)
    table = table.sort_values(
        ["participant", "session", "task", "run", "variant", "table"], ignore_index=True
    )
    return exclude_unequal(table.assign(name=run_labels(table)))


def _read_rows(output_dir: Path, is_selected: RunFilter) -> Iterator[dict[str, object]]:
    """Yield a row per metrics table from its name and sidecar; see `find_tables`."""
    problems: list[Notice] = []
    folders = iter_func_folders(output_dir, "_metrics.tsv")
    for path in (folder / name for folder, names in folders for name in names):
        entities = parse_entities(path)
        if entities.get("desc") not in TABLES or not is_selected(entities):
            continue
        try:
            sidecar = read_table_sidecar(path)
        except InputError as error:
            problems += error.problems
            continue
        # the group level does not use combined tables, because it combines runs itself
        if RUN_WEIGHTS not in sidecar:
            yield {
                **run_columns(entities),
                "table": entities["desc"],
                "path": path,
                "version": str(sidecar.get("GeneratedByVersion", "")),
                "digest": str(sidecar.get("SettingsDigest", "")),
                "at_rest": sidecar.get("MappedBy") == "seeds",
                "weights": as_mapping(sidecar.get("ContrastWeights")),
                "stem": run_name(entities),
                "scan": run_key(entities),
            }
    if problems:
        raise InputError(problems)


def iter_func_folders(output_dir: Path, ending: str) -> Iterator[tuple[Path, list[str]]]:
    """Yield the ``func`` folders of all participants with the file names that have an ending.

    Folders are walked, because matching paths by pattern is many times slower.
    """
    for participant in output_dir.glob("sub-*"):
        for folder, _, names in os.walk(participant):
            if os.path.basename(folder) == "func":
                yield Path(folder), sorted(name for name in names if name.endswith(ending))


def read_table_sidecar(table: Path) -> dict[str, object]:
    """Return the content of the sidecar next to a table; {} if there is none.

    Raises `InputError` if the sidecar cannot be read.
    """
    sidecar = table.with_suffix(".json")
    return read_object(sidecar) if os.path.lexists(sidecar) else {}


def exclude_unequal(tables: pd.DataFrame) -> pd.DataFrame:
    """Return the tables with the reasons of contrasts that are excluded because of their weights.

    They are in the column unequal of `find_tables`.
    """
    unequal = unequal_contrasts(tables)
    return tables.assign(unequal=[unequal.get(name, {}) for name in tables["name"]])


def mixed_settings_lines(tables: pd.DataFrame) -> list[str]:
    """Return the reasons why tables cannot be joined: different versions or settings.

    There is one line per version or settings, which lists the files with less frequent values; []
    if all tables agree.
    """
    difference_lines = []
    for subject, key in (("bids-sr version", "version"), ("settings", "digest")):
        counts = tables[key].value_counts()
        values = sorted(counts.index, key=lambda value: (-counts[value], value))
        if len(values) < 2:
            continue
        for index, value in enumerate(values):
            paths = [str(path) for path in tables["path"][tables[key] == value]]
            most_frequent = f"{len(paths)} tables (for example, {paths[0]})"
            location = _list_files(paths) if index else most_frequent
            difference_lines.append(f"{subject}: {value or 'not recorded'} in {location}")
    return difference_lines


def _list_files(paths: Sequence[str]) -> str:
    """Return the paths of tables with a less frequent value."""
    n_other = len(paths) - _MAX_LISTED_FILES
    other_text = f" and {n_other} other tables" if n_other > 0 else ""
    return ", ".join(paths[:_MAX_LISTED_FILES]) + other_text


def missing_lines(expected: Iterable[str], tables: pd.DataFrame) -> list[tuple[str, str]]:
    """Return the missing participants and tables.

    A participant is missing if no metrics table was found, and a run's table is missing if other
    runs of the task have it. Each item is a participant label (``sub-…``; "" if a table is missing
    in all runs) and a sentence.
    """
    missing_tables = [
        (label, f"{label}: no metrics tables were found for this participant")
        for label in sorted(set(expected) - set(tables["participant"]))
    ]
    for _, task_tables in tables.groupby("task", sort=False):
        available = set(task_tables["table"])
        tables_by_run = task_tables.groupby(["name", "participant"], sort=False)["table"]
        for (name, participant), run_tables in tables_by_run:
            missing = sorted(available.difference(run_tables), key=TABLES.index)
            if missing:
                kinds = " or ".join(missing)
                sentence = f"{name}: no table with {kinds} metrics was found for this run"
                missing_tables.append((participant, sentence))
    missing_everywhere = [name for name in TABLES[1:] if not (tables["table"] == name).any()]
    return [
        *missing_tables,
        *(
            ("", f"no table with {name} metrics was found for any run")
            for name in missing_everywhere
        ),
    ]


def missing_run_lines(
    runs: Iterable[Mapping[str, str]], tables: pd.DataFrame
) -> list[tuple[str, str]]:
    """Return runs of included participants that have no table, in the form of `missing_lines`.

    Runs are matched by the column scan of `find_tables`.
    """
    participants, run_keys = set(tables["participant"]), set(tables["scan"])
    reason = (
        "no metrics table was found, because the run was skipped or not processed, or is a "
        "calibration or reference run"
    )
    missing_runs = [
        run
        for run in runs
        if f"sub-{run['subject']}" in participants and run_key(run) not in run_keys
    ]
    return [(name, f"{name}: {reason}") for name in dict.fromkeys(map(run_name, missing_runs))]


def reject_table(path: Path, reason: str) -> UsageError:
    """Return the error about a participant's table that cannot be compared."""
    return UsageError(
        f"{path}: {reason}",
        "the values of the table cannot be compared",
        "rerun the participant level for this participant",
    )
