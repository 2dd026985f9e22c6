"""Participants, sessions and runs of the data set, which decide whose results are used.

Only names and ``participants.tsv`` are read.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

import pandas as pd

from bids_sr.engine.metric_rows import MISSING
from bids_sr.group.run_names import run_columns
from bids_sr.io.frozen import frozen
from bids_sr.survey.bids.entities import parse_entities
from bids_sr.survey.bids.participant_selection import find_denied_folders
from bids_sr.survey.bids.participants_table import ParticipantsTable, read_participants_table

# session, task and number of a run; n/a for each that the name does not contain
_RunName = tuple[str, str, str]


@frozen
class DatasetContents:
    """Contents of a data set, by the names of its folders and files.

    `table` is ``participants.tsv``. `participants` are the labels (``sub-…``) of the folders and
    of this table; empty if there are none, so that all results belong to the data set. `sessions`
    are labels, and `runs` the entities of the BOLD runs, by participant who has them.
    """

    folder: Path
    table: ParticipantsTable
    participants: frozenset[str]
    sessions: Mapping[str, frozenset[str]]
    runs: Mapping[str, tuple[Mapping[str, str], ...]]

    def lists(self, participant: str) -> bool:
        """Return whether results of a participant (``sub-…``) belong to the data set."""
        return not self.participants or participant in self.participants

    def select(self, requested: Collection[str]) -> list[str]:
        """Return the sorted labels (``sub-…``) of the participants that are expected.

        `requested`: labels without ``sub-``. If there are none, all participants are expected.
        """
        labels = {f"sub-{label}" for label in requested}
        return sorted(filter(self.lists, labels) if labels else self.participants)

    def has_session(self, columns: Mapping[str, str]) -> bool:
        """Return whether results of a session belong to the data set.

        Sessions are only compared if the participant has folders of sessions in the data set.
        `columns` contains participant (``sub-…``) and session.
        """
        participant, session = columns["participant"], columns["session"]
        return self.lists(participant) and (
            participant not in self.sessions or session in self.sessions[participant]
        )

    def has_run(self, columns: Mapping[str, str]) -> bool:
        """Return whether results of a run belong to the data set.

        Runs are only compared if the participant has BOLD runs in the data set. `columns` are
        cells of `run_columns`.
        """
        runs = self.runs.get(columns["participant"])
        return self.has_session(columns) and (
            runs is None or _name_run(columns) in {_name_run(run_columns(run)) for run in runs}
        )

    def describe_leftovers(
        self, tables: pd.DataFrame, belongs: Callable[[Mapping[str, str]], bool]
    ) -> list[tuple[str, str]]:
        """Return participants and sentences for results that do not belong to the data set.

        `tables` has rows with participant, session and the name of the run or scan. `belongs` is
        `has_run` or `has_session`.
        """
        lines: dict[tuple[str, str], None] = {}
        for row in tables.drop_duplicates("name").to_dict("records"):
            participant = row["participant"]
            if belongs(row):
                continue
            subject, kind = (
                (row["name"], "run or session")
                if self.lists(participant)
                else (participant, "participant")
            )
            sentence = (
                f"{subject}: the data set no longer contains this {kind}, so the results in the"
                " output directory were not used"
            )
            lines[participant, sentence] = None
        return list(lines)


def _name_run(columns: Mapping[str, str]) -> _RunName:
    """Return session, task and number of a run, without leading zeros of the number."""
    run = columns["run"]
    return columns["session"], columns["task"], str(int(run)) if run.isdecimal() else run


def read_dataset(bids_dir: Path) -> DatasetContents:
    """Return the contents of a data set.

    Sessions and runs of participants whose folders may not be read are unknown. Raises
    `UsageError` if ``participants.tsv`` cannot be read.
    """
    folders = {path.name: path for path in sorted(bids_dir.glob("sub-*")) if path.is_dir()}
    sessions: dict[str, frozenset[str]] = {}
    runs: dict[str, list[Mapping[str, str]]] = defaultdict(list)
    denied_labels = find_denied_folders(
        bids_dir, [name.removeprefix("sub-") for name in folders]
    ).keys()
    for label, folder in folders.items():
        if label.removeprefix("sub-") in denied_labels:
            continue
        session_folders = [path for path in sorted(folder.glob("ses-*")) if path.is_dir()]
        if session_folders:
            names = frozenset(path.name.removeprefix("ses-") for path in session_folders)
            # a session without functional runs may be next to runs without a session
            has_runs = (folder / "func").is_dir()
            sessions[label] = names | {MISSING} if has_runs else names
        for func in (folder / "func", *(path / "func" for path in session_folders)):
            runs[label] += map(parse_entities, sorted(func.glob("*_bold.nii*")))
    table = read_participants_table(bids_dir)
    return DatasetContents(
        folder=bids_dir,
        table=table,
        participants=frozenset(folders) | frozenset(table.rows),
        sessions=sessions,
        runs={label: tuple(entities) for label, entities in runs.items() if entities},
    )


def absence_lines(absent: Iterable[str], leftovers: Iterable[str]) -> list[str]:
    """Return lines for the console on missing participants, and on results not used.

    `leftovers` are the sentences of `DatasetContents.describe_leftovers`.
    """
    return [
        *(f"missing: {line}" for line in absent),
        *(f"not used: {line}" for line in leftovers),
    ]
