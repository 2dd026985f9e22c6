"""Group level: from tables and maps in the output directory to statistics and a report.

Only the names of participants and runs are read from ``bids_dir``.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from bids_sr.config import Settings, UsageError
from bids_sr.group import find_runs_group
from bids_sr.io.tables import read_column
from bids_sr.structural import find_scans_group, is_scans_group

if TYPE_CHECKING:
    from bids_sr.execution.execute import RunOutcome


class GroupInputs(Protocol):
    """Tables of the participants, of functional runs or of structural scans."""

    def plan_text(self) -> str:
        """Describe the tables that would be combined, and the missing participants."""
        ...

    def run(self, settings: Settings, print_line: Callable[[str], None]) -> "RunOutcome":
        """Write tables, maps and the page of the group; `print_line` prints a line."""
        ...


def find_group_inputs(settings: Settings) -> GroupInputs:
    """Find the tables of the group level, of functional runs or of structural scans.

    Raises
    ------
    UsageError
        If there are no tables, tables of a single participant, or tables of different versions or
        settings.
    """
    if not settings.paths.bids_dir.is_dir():
        raise UsageError(
            f"{settings.paths.bids_dir} is not a directory",
            "the list of participants in the BIDS dataset is needed to identify missing"
            " participants",
            "check the path",
        )
    _refuse_foreign_output(settings)
    find_inputs = find_scans_group if is_scans_group(settings) else find_runs_group
    return find_inputs(
        settings, _selection_filter(settings), _list_expected_participants(settings)
    )


def _refuse_foreign_output(settings: Settings) -> None:
    """Raise `UsageError` if the output directory belongs to another program or data set."""
    from bids_sr.bids.findings import Findings
    from bids_sr.preflight.directories import check_owner

    findings = Findings()
    if (settings.paths.output_dir / "dataset_description.json").exists():
        check_owner(settings, findings)
    for problem in findings.problems:
        raise UsageError(problem.what, problem.why, "specify the output directory of this dataset")


def _selection_filter(settings: Settings) -> Callable[[Mapping[str, str]], bool]:
    """Return a function that decides from the entities whether a run was requested."""
    selection = settings.selection
    labels = {
        "subject": selection.participant_label,
        "session": selection.session_label,
        "task": selection.task_id,
    }

    def is_selected(entities: Mapping[str, str]) -> bool:
        run = entities.get("run", "")
        has_number = not selection.run_id or (run.isdecimal() and int(run) in selection.run_id)
        return has_number and all(
            not requested_labels or entities.get(key) in requested_labels
            for key, requested_labels in labels.items()
        )

    return is_selected


def _list_expected_participants(settings: Settings) -> list[str]:
    """Return the participants expected in the group.

    These are the requested participants, or else all participants in ``participants.tsv`` and in
    the folders of the data set.
    """
    if settings.selection.participant_label:
        return [f"sub-{label}" for label in settings.selection.participant_label]
    bids_dir = settings.paths.bids_dir
    labels = {path.name for path in bids_dir.glob("sub-*") if path.is_dir()}
    listing = bids_dir / "participants.tsv"
    if listing.exists():
        names = (name.strip() for name in read_column(listing, "participant_id"))
        labels |= {f"sub-{name.removeprefix('sub-')}" for name in names if name}
    return sorted(labels)
